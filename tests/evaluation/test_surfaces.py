"""Surface Dice and Hausdorff distance against hand calculations, on anisotropic grids, and where masks are empty."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_sammed.errors import InputError
from napari_sammed.evaluation.metrics import area_under_curve, dice, hausdorff_95, interactions_to, surface_dice

SPACING = (3.0, 1.0, 0.5)


def block(shift=(0, 0, 0)) -> np.ndarray:
    mask = np.zeros((20, 40, 60), bool)
    mask[
        tuple(slice(low + s, high + s) for (low, high), s in zip(((5, 12), (10, 25), (15, 40)), shift, strict=True))
    ] = 1
    return mask


def test_a_shifted_block_is_as_far_away_as_it_was_shifted():
    for axis in range(3):
        shift = [0, 0, 0]
        shift[axis] = 2
        distance = 2 * SPACING[axis]
        assert hausdorff_95(block(), block(shift), SPACING) == pytest.approx(distance)
        assert surface_dice(block(), block(shift), SPACING, distance) == pytest.approx(1, abs=1e-6)
        assert surface_dice(block(), block(shift), SPACING, 0.4 * distance) < 0.9


def test_the_part_of_the_surface_that_is_too_far_away_is_what_is_missing():
    """Two opposite faces move by 2 mm, the other four stay within a millimetre but for their ends."""
    shifted = block((0, 2, 0))
    faces = np.array([15 * 25 * 0.5, 7 * 3 * 25 * 0.5, 7 * 3 * 15]) * 2  # mm2 across z, y, x
    expected = 1 - faces[1] / faces.sum()
    assert surface_dice(block(), shifted, SPACING, 1.0) == pytest.approx(expected, abs=0.08)


def test_metrics_do_not_depend_on_where_in_the_array_the_masks_lie():
    near_border = np.roll(block(), (-5, -10, -15), (0, 1, 2))
    moved = np.roll(block((1, 0, 0)), (-5, -10, -15), (0, 1, 2))
    assert hausdorff_95(near_border, moved, SPACING) == hausdorff_95(block(), block((1, 0, 0)), SPACING) == 3
    assert surface_dice(near_border, moved, SPACING, 1) == pytest.approx(
        surface_dice(block(), block((1, 0, 0)), SPACING, 1)
    )


def test_flat_masks_have_outlines():
    mask = np.zeros((30, 30), bool)
    mask[8:20, 8:20] = True
    assert hausdorff_95(mask, np.roll(mask, 3, 1), (1.0, 0.5)) == pytest.approx(1.5)
    assert surface_dice(mask, mask, (1.0, 0.5), 0.1) == 1


def test_empty_masks_are_defined():
    empty = np.zeros_like(block())
    assert (surface_dice(empty, empty, SPACING, 1), hausdorff_95(empty, empty, SPACING)) == (1, 0)
    for pair in ((empty, block()), (block(), empty)):
        assert surface_dice(*pair, SPACING, 1) == 0 and hausdorff_95(*pair, SPACING) == math.inf
    with pytest.raises(InputError, match=r"\(20, 40, 60\)"):
        surface_dice(block(), block()[1:], SPACING, 1)


def test_dice_is_that_of_monai():
    import torch
    from monai.metrics import compute_dice

    masks = [block(), block((0, 2, 0)), np.zeros_like(block())]
    for one in masks:
        for other in masks:
            theirs = compute_dice(*(torch.from_numpy(m)[None, None] for m in (one, other)), ignore_empty=False)
            assert dice(one, other) == pytest.approx(float(theirs), abs=1e-6)


def test_curves_over_the_prompts():
    assert area_under_curve([0.0, 1.0, 1.0]) == pytest.approx(0.75)
    assert area_under_curve([0.0, 1.0, 1.0], undivided=True) == pytest.approx(1.5)
    assert area_under_curve([0.4]) == 0.4 and math.isnan(area_under_curve([]))
    assert interactions_to([0.2, 0.86, 0.84, 0.91], 0.85) == 2
    assert interactions_to([0.2, 0.86], 0.9) is None
