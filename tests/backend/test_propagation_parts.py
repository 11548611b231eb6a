"""Parts of a walk: some slices only, stopped on the way, and handed over slice by slice."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.masks import apply
from napari_sammed.backend.propagation import propagate
from napari_sammed.backend.slicing import slabs
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.volume import Volume
from tests.backend.boxes import Slices
from tests.backend.test_propagation import anchor_at
from tests.thresholder import Thresholder


def bent(axis: int = 0) -> np.ndarray:
    """A tube that winds and swells through (or across) 24 slices, among specks that every box meets anew."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:50, :50]
    slices = []
    for index in range(24):
        centre = 25 + 5 * np.sin(index / 5), 22 + index / 4
        slices.append((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (9 + np.cos(index / 2)) ** 2)
    tube = np.array(slices) | (rng.random((24, 50, 50)) < 0.02)
    return np.moveaxis(tube, 0, axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "only", [range(13, 24), range(3, 9), [*range(4), 9, 10, 13, 14], [5, 8]], ids=["up", "down", "pieces", "far away"]
)
def test_what_is_visited_is_as_in_the_whole_walk(axis, only):
    image = bent(axis)
    anchors = [anchor_at(image, axis, 8), anchor_at(image, axis, 12)]
    whole = propagate(Slices(image), anchors, axis)
    engine = Slices(image)
    part = propagate(engine, anchors, axis, only=only)
    visited = {region.low[axis] for region in engine.visited}
    assert visited <= set(only), "it went to slices that nobody asked for"
    assert set(part.scores) == visited | {8, 12}
    for index in part.scores:
        np.testing.assert_array_equal(part.mask.take(index, axis), whole.mask.take(index, axis))
        assert part.scores[index] == whole.scores[index]
    assert part.left == set(range(24)) - visited - {8, 12}
    assert {region.low[axis] for region in engine.announced} <= set(only), "it had slices encoded in vain"


def test_the_way_from_an_anchor_ends_where_a_slice_is_left_out():
    image = bent()
    engine = Slices(image)
    walk = propagate(engine, [anchor_at(image, 0, 8)], 0, only=[9, 10, 12, 13, 7, 5])
    assert [region.low[0] for region in engine.visited] == [9, 10, 7]
    assert walk.left == set(range(24)) - {7, 8, 9, 10}


@pytest.mark.parametrize("count", [1, 4, 15, 17])
def test_stopping_keeps_what_is_there_and_asking_for_just_that_gives_it_again(count):
    image = bent()
    anchors = [anchor_at(image, 0, 8)]
    whole = propagate(Slices(image), anchors, 0)
    stop, seen = threading.Event(), []

    def told(walk, index: int) -> None:
        seen.append(index)
        if len(seen) == count:
            stop.set()

    walk = propagate(Slices(image), anchors, 0, stop=stop, told=told)
    assert seen == [*range(9, 24), *range(7, -1, -1)][:count]
    assert walk.left == set(range(24)) - {8, *seen}
    for index in seen:
        np.testing.assert_array_equal(walk.mask[index], whole.mask[index])
    assert not walk.mask[sorted(walk.left)].any()
    assert "it was cancelled" in walk.stops.values()
    again = propagate(Slices(image), anchors, 0, only=set(range(24)) - walk.left)
    np.testing.assert_array_equal(again.mask, walk.mask)
    assert (again.left, again.scores) == (walk.left, walk.scores)


def test_stopping_before_the_first_slice_leaves_nothing_to_keep():
    image, stop = bent(), threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        propagate(Slices(image), [anchor_at(image, 0, 8)], 0, stop=stop)


def test_beyond_where_the_object_was_lost_the_walk_says_that_there_is_nothing():
    image = bent()
    image[15:] = False
    walk = propagate(Slices(image), [anchor_at(image, 0, 8)], 0, only=range(9, 24))
    assert walk.stops == {15: "nothing was found"}
    assert walk.left == set(range(8))


def test_an_answer_changes_nothing_where_it_is_silent():
    before = MaskPrompt(np.ones((6, 4, 4), bool), (1, 0, 0))
    scope = Box((0, 0, 0), (10, 4, 4))
    part = np.zeros((10, 4, 4), bool)
    part[4, 1:3, 1:3] = True
    answer = Prediction.tight(part, scope, score=0.5, model="any", silent=slabs(scope, 0, [0, 1, 2, 3, 8, 9]))
    after = apply(before, answer)
    placed = np.zeros(scope.shape, bool)
    placed[after.extent.slices] = after.mask
    expected = part.copy()
    expected[1:4] = True
    np.testing.assert_array_equal(placed, expected)


def test_slabs_join_neighbouring_slices():
    scope = Box((2, 3, 4), (12, 6, 9))
    assert slabs(scope, 1, [5, 3, 4]) == (scope,)
    assert slabs(scope, 0, [7, 2, 3, 11]) == (
        Box((2, 3, 4), (4, 6, 9)),
        Box((7, 3, 4), (8, 6, 9)),
        Box((11, 3, 4), (12, 6, 9)),
    )
    assert slabs(scope, 0, []) == ()


@pytest.fixture
def backend():
    backend = LocalBackend(models={"planar": Thresholder(planar=True)})
    yield backend
    backend.shutdown()


def test_the_backend_hands_slices_over_and_stops(backend):
    image = Volume.from_array(bent().astype(np.float32) * 100)
    opened = backend.open(image)
    anchor = anchor_at(image.array > 50, 0, 8)
    whole = backend.propagate(opened, "planar", [anchor], 0)
    stop, pieces = threading.Event(), []

    def partial(piece: Prediction) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            stop.set()

    kept = backend.propagate(opened, "planar", [anchor], 0, stop=stop, partial=partial)
    assert [piece.slice_scores for piece in pieces] == [{i: whole.slice_scores[i]} for i in (9, 10, 11)]
    assert [piece.scope for piece in pieces] == [Box((i, 0, 0), (i + 1, 50, 50)) for i in (9, 10, 11)]
    mask = apply(None, whole)
    for piece in pieces:
        piece_mask, whole_mask = np.zeros((2, 24, 50, 50), bool)
        piece_mask[piece.box.slices] = piece.mask
        whole_mask[mask.extent.slices] = mask.mask
        index = piece.scope.low[0]
        np.testing.assert_array_equal(piece_mask[index], whole_mask[index])
    assert kept.silent == (Box((0, 0, 0), (8, 50, 50)), Box((12, 0, 0), (24, 50, 50)))
    assert set(kept.slice_scores) == {8, 9, 10, 11}
    assert any("Stopped before slice 12: it was cancelled." in sentence for sentence in kept.reductions)
    again = backend.propagate(opened, "planar", [anchor], 0, only={8, 9, 10, 11})
    np.testing.assert_array_equal(again.mask, kept.mask)
    assert (again.box, again.silent) == (kept.box, kept.silent)
