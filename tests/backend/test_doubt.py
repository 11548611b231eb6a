"""Where to click next: deep areas of doubt, never the thin band along a border; the same place every time."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend.doubt import by_logits, by_readings, by_slices, deepest
from napari_sammed.backend.slice_quality import assess
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.models.base import Logits
from napari_sammed.prompts import MaskPrompt

SHAPE = (40, 50)
NOWHERE = np.zeros((0, 2), int)


def logits_of(values: np.ndarray, low: tuple[int, ...] | None = None, step: int = 1) -> Logits:
    """Logits on the image grid; with `step`, the network has one of so many voxels along each axis."""
    box = Box.of_shape(values.shape).shift(low or (0,) * values.ndim)
    grid = Grid.plain(tuple(max(hi, 1) for hi in box.high))
    small = values[tuple(slice(None, None, step) for _ in values.shape)]
    return Logits(small.squeeze(), Region.of_box(grid, box, small.shape))


def disc_with_doubt() -> np.ndarray:
    """Sure inside and outside of a disc, with a soft border, and unsure of two areas, one larger than the other."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    values = 4.0 * np.clip(12 - np.hypot(rows - 20, columns - 20), -2, 2)
    values[17:24, 40:47] = 0.5
    values[2:7, 40:45] = -0.5
    return values.astype(np.float32)


def test_the_largest_area_of_doubt_and_its_innermost_voxel():
    values = disc_with_doubt()
    found = by_logits(values, logits_of(values), (1.0, 1.0), Box.of_shape(SHAPE), NOWHERE)
    assert found.index == (20, 43)
    assert "probability 0.62" in found.reason
    assert Box((17, 40), (24, 47)).intersect(found.extent) == found.extent
    again = by_logits(values.copy(), logits_of(values), (1.0, 1.0), Box.of_shape(SHAPE), NOWHERE)
    assert again == found


def test_a_soft_border_alone_is_no_doubt():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    values = (12 - np.hypot(rows - 20, columns - 20)).astype(np.float32)  # unsure within 1.1 voxels of it
    assert by_logits(values, logits_of(values), (1.0, 1.0), Box.of_shape(SHAPE), NOWHERE) is None
    coarse = 0.25 * values  # unsure within 4.4 voxels, and the network sees one of four
    assert by_logits(coarse, logits_of(coarse, step=4), (1.0, 1.0), Box.of_shape(SHAPE), NOWHERE) is None


def test_what_was_clicked_already_is_not_suggested_again():
    values = disc_with_doubt()
    known = np.array([[20, 43]])
    found = by_logits(values, logits_of(values), (1.0, 1.0), Box.of_shape(SHAPE), known)
    assert found.index == (4, 42)


def test_only_where_the_object_may_be():
    values = disc_with_doubt()
    found = by_logits(values, logits_of(values), (1.0, 1.0), Box((0, 0), (10, 50)), NOWHERE)
    assert found.index == (4, 42)
    assert by_logits(values, logits_of(values), (1.0, 1.0), Box((0, 0), (40, 30)), NOWHERE) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_on_a_slice_of_a_volume_and_in_index_coordinates(axis):
    values = np.expand_dims(disc_with_doubt(), axis)
    low = [5, 6, 7]
    found = by_logits(
        values, logits_of(values, tuple(low)), (1.0, 1.0, 1.0), Box((0, 0, 0), (99, 99, 99)), np.zeros((0, 3), int)
    )
    place = list(found.index)
    assert place.pop(axis) == low[axis]
    assert tuple(p - lo for p, lo in zip(place, [lo for a, lo in enumerate(low) if a != axis], strict=True)) == (20, 43)


def test_depth_is_measured_in_millimetres():
    area = np.zeros((9, 30), bool)
    area[2:7, 2:7] = True  # 5 x 5 voxels, 20 x 5 mm
    area[3:6, 12:28] = True  # 3 x 16 voxels, 12 x 16 mm
    place, _ = deepest(area, (4.0, 1.0), least=3.0)
    assert place[1] > 12


def test_readings_that_disagree():
    mask, other = np.zeros((2, *SHAPE), bool)
    mask[5:30, 5:30] = True
    other[5:30, 5:20] = True
    found = by_readings(mask, other, Box((10, 100), (50, 150)), (1.0, 1.0))
    assert Box((15, 120), (40, 130)).contains(found.index) and "readings" in found.reason
    assert by_readings(mask, mask, Box((10, 100), (50, 150)), (1.0, 1.0)) is None


def test_the_worst_slice_differs_from_its_neighbours_there():
    mask = np.zeros((9, *SHAPE), bool)
    mask[:, 10:20, 10:20] = True
    mask[4, 10:20, 20:40] = True  # a leak
    slices = assess(MaskPrompt(mask, (3, 0, 0)), 0, {7: 0.7}, {3})
    found = by_slices(MaskPrompt(mask, (3, 0, 0)), 0, slices, (3.0, 1.0, 1.0))
    assert found.index[0] == 7 and Box((10, 20), (20, 40)).contains(found.index[1:])
    assert found.reason == (
        "Slice 7 is the most doubtful (score 0.70, overlap 0.50, area jump 0.67): it differs from its neighbours here."
    )


def test_nothing_stands_out_of_a_steady_object():
    mask = MaskPrompt(np.ones((9, 6, 6), bool), (0, 0, 0))
    assert by_slices(mask, 0, assess(mask, 0, dict.fromkeys(range(9), 0.95), ()), (1.0, 1.0, 1.0)) is None
    assert by_slices(mask, 0, assess(mask, 0, {}, set(range(9))), (1.0, 1.0, 1.0)) is None
    unsure = assess(mask, 0, {4: 0.3}, ())  # as large as its neighbours, but the model says no
    assert by_slices(mask, 0, unsure, (1.0, 1.0, 1.0)).index[0] == 4
