"""How much of the slices is looked at where a walk has limits: not less than the network sees, not less than needed."""

from __future__ import annotations

import pytest

from napari_sammed.backend.slices import view_around
from napari_sammed.geometry import Box, Grid


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_small_limits_in_large_slices_are_seen_at_the_image_s_own_resolution(axis):
    grid = Grid.plain((512, 512, 512))
    limits = Box((100, 200, 300), (120, 230, 310))
    view = view_around(limits, axis, grid, 256)
    assert view.intersect(limits) == limits
    assert [view.shape[a] for a in range(3)] == [512 if a == axis else 256 for a in range(3)]


def test_large_limits_keep_their_surroundings():
    view = view_around(Box((3, 100, 100), (9, 220, 200)), 0, Grid.plain((20, 600, 700)), 256)
    assert view == Box((0, 0, 0), (20, 480, 480))


def test_images_no_larger_than_the_input_are_seen_whole():
    grid = Grid.plain((30, 101, 122), (3.0, 3.0, 3.0))
    assert view_around(Box((3, 10, 10), (9, 20, 20)), 0, grid, 256) == grid.box


def test_oblong_pixels_give_a_square_in_millimetres():
    view = view_around(Box((3, 100, 100), (9, 110, 105)), 0, Grid.plain((20, 600, 300), (5.0, 1.0, 2.0)), 128)
    assert view.shape == (20, 128, 64)


def test_limits_at_the_rim_move_the_view_inside():
    view = view_around(Box((3, 0, 500), (9, 10, 512)), 0, Grid.plain((20, 512, 512)), 256)
    assert view == Box((0, 0, 256), (20, 256, 512))
