"""Walking through a stack: where it goes, where it stops, what it keeps."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_sammed.backend.propagation import propagate, start
from napari_sammed.backend.slicing import slice_of
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import Logits
from napari_sammed.prompts import MaskPrompt
from tests.backend.boxes import Slices


def cone(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """A ball squeezed by the spacing, radius 16 mm around (20, 30, 30) voxels of (40, 60, 60)."""
    axes = np.meshgrid(*(np.arange(n) - c for n, c in zip((40, 60, 60), (20, 30, 30), strict=True)), indexing="ij")
    return sum((a * s) ** 2 for a, s in zip(axes, spacing, strict=True)) < 16**2


def anchor_at(truth: np.ndarray, axis: int, index: int) -> MaskPrompt:
    box = slice_of(Slices(truth).grid, axis, index)
    return MaskPrompt(truth[box.slices], box.low)


def full(walk, shape) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[walk.scope.slices] = walk.mask
    return mask


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.8, 0.8)], ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ball_is_found_from_its_middle_slice(axis, spacing):
    truth = cone(spacing)
    engine = Slices(truth, spacing)
    walk = propagate(engine, [anchor_at(truth, axis, (20, 30, 30)[axis])], axis)
    assert np.array_equal(full(walk, truth.shape), truth)
    assert set(walk.scores) == set(np.flatnonzero(truth.any(tuple(a for a in range(3) if a != axis))))
    assert all(0 < score <= 1 for score in walk.scores.values())


def test_stops_where_nothing_is_found():
    truth = cone()
    walk = propagate(Slices(truth), [anchor_at(truth, 0, 20)], 0)
    ends = np.flatnonzero(truth.any((1, 2))).tolist()
    assert walk.stops == {ends[0] - 1: "nothing was found", ends[-1] + 1: "nothing was found"}


class Leaking(Slices):
    """From slice 6 on, the answer to any box is the whole slice."""

    def restore(self, logits: Logits) -> np.ndarray:
        return np.full_like(logits.values, 8.0) if logits.region.box.low[0] >= 6 else logits.values


def test_stops_where_the_mask_explodes():
    image = np.zeros((10, 60, 60), bool)
    image[:, 28:32, 28:32] = True
    walk = propagate(Leaking(image), [anchor_at(image, 0, 2)], 0)
    assert walk.stops == {6: "the mask exploded"}
    assert not full(walk, image.shape)[6:].any()


def test_limits_are_hard():
    truth = cone()
    within = Box((15, 20, 0), (24, 60, 60))
    walk = propagate(Slices(truth), [anchor_at(truth, 0, 20)], 0, within=within)
    expected = np.zeros_like(truth)
    expected[within.slices] = truth[within.slices]
    assert walk.scope == within
    assert np.array_equal(full(walk, truth.shape), expected)


def test_between_anchors_each_slice_comes_from_the_nearer():
    image = np.zeros((11, 40, 40), bool)
    image[:, 10:20, 10:20] = True
    low, high = anchor_at(image, 0, 0), MaskPrompt(np.ones((1, 4, 4), bool), (10, 12, 12))
    engine = Slices(image)
    walk = propagate(engine, [high, low], 0)
    visited = [region.low[0] for region in engine.visited]
    assert visited == [1, 2, 3, 4, 5, 9, 8, 7, 6]
    assert walk.mask[0].sum() == 100  # the anchors stay as they were
    assert walk.mask[10].sum() == 16


def test_a_stray_part_is_not_followed():
    truth = cone()
    image = truth.copy()
    image[:, 30, 47:49] = True  # a bar beside the ball, inside the wider boxes
    walk = propagate(Slices(image), [anchor_at(truth, 0, 20)], 0)
    assert not full(walk, truth.shape)[21:24, 30, 48].any()


def test_coming_slices_are_announced_in_order():
    truth = cone()
    engine = Slices(truth)
    propagate(engine, [anchor_at(truth, 0, 20)], 0, within=Box((20, 0, 0), (25, 60, 60)))
    assert [region.low[0] for region in engine.announced] == [22, 23, 23, 24, 24]


def test_cancel_between_slices_and_progress():
    truth = cone()
    cancel, seen = threading.Event(), []

    def progress(what: str, share: float) -> None:
        seen.append((what, share))
        if len(seen) == 3:
            cancel.set()

    with pytest.raises(Cancelled):
        propagate(Slices(truth), [anchor_at(truth, 0, 20)], 0, cancel=cancel, progress=progress)
    assert [what for what, _ in seen] == ["slice 21", "slice 22", "slice 23"]
    assert [share for _, share in seen] == pytest.approx([0, 1 / 39, 2 / 39])


def test_starts_where_the_object_is_widest():
    image = np.zeros((21, 50, 50), bool)
    for index in range(21):
        half = 4 + index // 2 if index <= 15 else 4
        image[index, 25 - half : 25 + half, 25 - half : 25 + half] = True
    anchor = start(Slices(image), Box.of_mask(image), 0)
    assert anchor.offset[0] == 15


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda e: propagate(e, [], 0), "at least one slice"),
        (lambda e: propagate(e, [MaskPrompt(np.ones((2, 3, 3), bool), (0, 0, 0))], 0), "2 voxels thick"),
        (
            lambda e: propagate(
                e, [MaskPrompt(np.ones((1, 3, 3), bool), (0, 0, 0))], 0, within=Box((5,) * 3, (9,) * 3)
            ),
            "outside the limits",
        ),
        (lambda e: start(e, Box((0, 0, 0), (3, 4, 4)), 0), "Nothing was found"),
    ],
    ids=["no anchor", "thick anchor", "anchor outside", "empty box"],
)
def test_bad_input_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(Slices(cone()))
