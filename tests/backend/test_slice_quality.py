"""Which slices of an object can be trusted, by figures that anybody can check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_sammed.backend.slice_quality import assess, ranked
from napari_sammed.prompts import MaskPrompt


def stack(*sides: int, shift: dict[int, int] | None = None) -> np.ndarray:
    """Squares of these sides, slice by slice, some of them moved along the columns."""
    mask = np.zeros((len(sides), 20, 30), bool)
    for index, side in enumerate(sides):
        left = 4 + (shift or {}).get(index, 0)
        mask[index, 4 : 4 + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_figures_by_hand(axis):
    mask = np.moveaxis(stack(4, 4, 8, 8, shift={3: 2}), 0, axis)
    offset = [0, 0, 0]
    offset[axis] = 10
    found = assess(MaskPrompt(mask, tuple(offset)), axis, {10: 0.9, 12: 0.5}, {11})
    assert [one.index for one in found] == [10, 11, 12, 13]
    assert [one.voxels for one in found] == [16, 16, 64, 64]
    step, moved = 2 * 16 / (16 + 64), 2 * 48 / 128
    assert [one.overlap for one in found] == pytest.approx([1, (1 + step) / 2, (step + moved) / 2, moved])
    assert [one.jump for one in found] == pytest.approx([math.nan, 24 / 40, 24 / 64, math.nan], nan_ok=True)
    assert [one.around for one in found] == [16, 64, 64, 64]
    assert [one.marked for one in found] == [False, True, False, False]
    np.testing.assert_equal([one.score for one in found], [0.9, math.nan, 0.5, math.nan])
    low = 0.5 * (step + moved) / 2 * (1 - 24 / 64)
    assert [one.quality for one in found] == pytest.approx([0.9, 1, low, moved])
    assert [one.doubt for one in found] == pytest.approx([0.1 * 4, 0, (1 - low) * 8, (1 - moved) * 8])
    assert [one.index for one in ranked(found)] == [12, 13, 10]


def test_an_even_taper_is_no_jump_and_its_small_end_not_the_worst_slice():
    mask = stack(8, 8, 8, 8, 8)
    for index, width in enumerate((8, 7, 6, 5, 4)):
        mask[index, :, 4 + width :] = False
    mask[2, 4:8] = False  # half of the middle slice is missing
    found = assess(MaskPrompt(mask, (0, 0, 0)), 0, {}, ())
    assert found[2].jump == 0.5 and ranked(found)[0].index == 2
    even = assess(MaskPrompt(np.delete(mask, 2, 0), (0, 0, 0)), 0, {}, ())
    assert even[1].jump < 0.1


def test_a_gap_is_the_worst():
    mask = stack(6, 6, 6, 6, 6)
    mask[2] = False
    found = assess(MaskPrompt(mask, (3, 0, 0)), 0, {}, ())
    assert found[2].voxels == 0 and found[2].quality == 0
    assert [one.index for one in ranked(found)[:3]] == [5, 4, 6]


def test_a_single_slice_has_nothing_beside_it():
    (only,) = assess(MaskPrompt(stack(5), (7, 0, 0)), 0, {7: 0.8}, ())
    assert math.isnan(only.overlap) and math.isnan(only.jump) and only.quality == 0.8


def test_nothing_is_known_of_nothing():
    assert assess(None, 0, {}, ()) == ()
    assert ranked(assess(MaskPrompt(stack(5), (7, 0, 0)), 0, {}, {7})) == []
