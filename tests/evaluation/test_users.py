"""What simulated users say, and that they say the same again with the same seed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from napari_sammed.errors import InputError
from napari_sammed.evaluation import users
from napari_sammed.evaluation.protocols import PROTOCOLS, protocol
from napari_sammed.evaluation.users import Situation
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point

GRID = Grid.plain((12, 40, 50), (3.0, 1.0, 1.0))


@pytest.fixture
def target() -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[2:9, 10:30, 12:40] = True
    mask[5, 5:35, 8:44] = True  # the middle slice is the largest
    return mask


def situation(target: np.ndarray, mask: np.ndarray | None = None) -> Situation:
    return Situation(target, np.zeros_like(target) if mask is None else mask, GRID)


def lots(rule, seen: Situation, count: int = 200) -> list:
    random = np.random.default_rng(3)
    return [rule(seen, random) for _ in range(count)]


def test_first_clicks_lie_in_the_target(target):
    clicks = lots(users.uniform_point, situation(target))
    assert all(click.positive and target[tuple(map(int, click.index))] for click in clicks)
    assert len({click.index for click in clicks}) > 150
    middle = users.innermost_point(situation(target), np.random.default_rng(0))
    assert middle.positive and target[tuple(map(int, middle.index))]


def test_boxes_are_tight_shifted_or_grown(target):
    tight = Box.of_mask(target)
    assert users.box()(situation(target), np.random.default_rng(0)) == tight
    shifted = lots(users.box(shift=5), situation(target))
    most = min(5, int(0.5 * min(tight.shape)))
    inner = [b for b in shifted if b.shape == tight.shape]  # else cut off at the image's border
    assert len(inner) > 50
    moves = np.array([np.subtract(b.low, tight.low) for b in inner])
    assert moves.min() == -most and moves.max() == most - 1
    grown = lots(users.box(grow=4), situation(target))
    assert all(g.intersect(tight) == tight for g in grown) and len({(g.low, g.high) for g in grown}) > 50
    assert max(lo - g for b in grown for lo, g in zip(tight.low, b.low, strict=True)) <= 4


def test_the_box_of_the_challenge_is_as_large_as_the_middle_slice(target):
    box = users.middle_slice_box(situation(target), np.random.default_rng(0))
    assert (box.low, box.high) == ((2, 5, 8), (9, 35, 44))


def test_corrections_mark_mistakes_with_the_right_sign(target):
    mask = target.copy()
    mask[2:4] = False  # missed
    mask[10, 0:3, 0:3] = True  # leaked
    for rule in (users.largest_mistake, users.any_mistake, users.deep_mistake):
        for click in lots(rule, situation(target, mask), 50):
            place = tuple(map(int, click.index))
            assert mask[place] != target[place] and click.positive == bool(target[place])
    signs = {click.positive for click in lots(users.any_mistake, situation(target, mask), 400)}
    assert signs == {True, False}
    assert {click.positive for click in lots(users.deep_mistake, situation(target, mask))} == {True}


def test_deep_clicks_are_more_than_half_as_deep_as_the_deepest(target):
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(target, 1), sampling=GRID.spacing)[1:-1, 1:-1, 1:-1]
    for click in lots(users.deep_mistake, situation(target)):
        assert depth[tuple(map(int, click.index))] > depth.max() / 2


def test_strokes_run_along_the_middle(target):
    stroke = users.centre_line(situation(target), np.random.default_rng(0))
    voxels = stroke.voxels()
    assert stroke.positive and set(voxels[:, 0]) == {5} and target[tuple(voxels.T)].all()
    bar = np.zeros_like(target)
    bar[4, 10:16, 5:45] = True
    along = users.centre_line(situation(bar), np.random.default_rng(0)).voxels()
    assert np.ptp(along[:, 2]) > 30 and np.ptp(along[:, 1]) <= 4
    mask = np.zeros_like(target)
    mask[0, 2:38, 2:6] = True
    correction = users.stroke_mistake(situation(target, target | mask), np.random.default_rng(0))
    assert not correction.positive and mask[tuple(correction.voxels().T)].all()
    dot = np.zeros_like(target)
    dot[3, 4, 5] = True
    assert users.centre_line(situation(dot), np.random.default_rng(0)).points == ((3.0, 4.0, 5.0),)


def test_nobody_corrects_what_is_right(target):
    for rule in (users.largest_mistake, users.any_mistake, users.deep_mistake, users.stroke_mistake):
        assert rule(situation(target, target), np.random.default_rng(0)) is None


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_can_be_gone_through(name, target):
    """With a method that does nothing but follow the prompts: a ball around positive clicks, a box's inside."""
    chosen = protocol(name)
    random = np.random.default_rng(0)
    first = chosen.begin(situation(target), random)
    assert first is not None and chosen.rounds >= 1 and chosen.title and chosen.source
    if chosen.rounds > 1:
        assert chosen.correct(situation(target), random) is not None


def test_clicks_of_the_challenge_are_deepest_in_the_largest_mistake_of_either_kind(target):
    """A missed and a leaked part that touch at a corner are one mistake, larger than either of two others."""
    mask = target.copy()
    mask[2:9, 10:20, 12:20] = False  # missed, 560 voxels
    mask[2:9, 5:10, 5:12] = True  # leaked beside its corner, 245
    mask[2:9, 20:30, 32:40] = False  # missed, 560, elsewhere
    for click in lots(users.challenge_mistake, situation(target, mask), 20):
        place = tuple(map(int, click.index))
        assert click.positive and 10 <= place[1] < 20 and 12 <= place[2] < 20
    mask[:, 0:10, 0:12] = True  # by now the leak is the thicker part
    assert not any(click.positive for click in lots(users.challenge_mistake, situation(target, mask), 20))
    assert users.challenge_mistake(situation(target, target), np.random.default_rng(0)) is None


def test_any_beginning_goes_with_any_correction(target):
    chosen = protocol("random+middle:7")
    assert (chosen.begin, chosen.correct, chosen.rounds) == (users.uniform_point, users.largest_mistake, 7)
    assert chosen.name == "random+middle:7" and "7 prompts" in chosen.title
    tight = Box.of_mask(target)
    boxes = {
        protocol("jittered-box+anywhere").begin(situation(target), np.random.default_rng(n)).low for n in range(30)
    }
    assert len(boxes) > 10 and protocol("box+stroke").begin(situation(target), None) == tight
    for name in ("random+none", "none+middle", "random+middle:0", "random+middle:", "random"):
        with pytest.raises(InputError, match="no protocol"):
            protocol(name)


def test_another_tolerance_is_another_protocol():
    assert protocol("clicks", 2.0) is protocol("clicks")
    other = protocol("clicks", 0.5)
    assert other.tolerance == 0.5 and other.name == "clicks, 0.5 mm"
    with pytest.raises(InputError, match="more than 0 mm, not -1"):
        protocol("clicks", -1.0)


def test_an_unknown_protocol_is_refused_by_name():
    with pytest.raises(InputError, match="no protocol 'x': choose one of clicks"):
        protocol("x")
    assert isinstance(protocol("clicks").begin(situation(np.ones(GRID.shape, bool)), None), Point)


@pytest.mark.parametrize("name", [*PROTOCOLS, "jittered-box+anywhere:3"])
def test_protocols_go_to_other_processes(name, target):
    chosen = protocol(name)
    again = pickle.loads(pickle.dumps(chosen))
    situation = Situation(target, np.zeros_like(target), Grid.plain(target.shape))
    first, second = (one.begin(situation, np.random.default_rng(3)) for one in (chosen, again))
    assert first == second and again.rounds == chosen.rounds
