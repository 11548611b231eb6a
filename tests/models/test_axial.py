"""Volumes of every orientation, turned to axial slices and back."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.geometry import Box, Grid
from napari_sammed.models.axial import AxialView
from napari_sammed.volume import Volume
from tests.orientations import ALL_48, oblique_grids, reorient

PLAIN = Volume.from_array(np.random.default_rng(0).integers(0, 999, (4, 6, 7), np.int16), (3.0, 0.7, 0.8))


@pytest.mark.parametrize(("permutation", "flips"), ALL_48)
def test_every_orientation_gives_the_same_slices(permutation, flips):
    """Slices may come in either order: which way the head lies does not matter to a network of slices."""
    volume = reorient(PLAIN, permutation, flips)
    turned = AxialView.of(volume.grid, rows="P", columns="L").turn(volume.array)
    assert np.array_equal(turned, PLAIN.array)


@pytest.mark.parametrize(("permutation", "flips"), ALL_48)
def test_what_is_written_into_the_view_lies_in_the_box(permutation, flips):
    volume = reorient(PLAIN, permutation, flips)
    view = AxialView.of(volume.grid, rows="A", columns="R")
    box = Box((1, 0, 2), tuple(size - 1 for size in volume.grid.shape))
    part = np.zeros(box.shape, np.int16)
    view.turn(part)[:] = view.turn(volume.array)[view.turn_box(box, volume.grid)]
    assert np.array_equal(part, volume.array[box.slices])


def test_rows_and_columns_go_where_they_are_wanted():
    array = PLAIN.array
    assert np.array_equal(AxialView.of(PLAIN.grid, rows="A", columns="L").turn(array), array[:, ::-1])
    assert np.array_equal(AxialView.of(PLAIN.grid, rows="P", columns="R").turn(array), array[:, :, ::-1])


def test_oblique_grids_take_the_nearest_axes():
    for grid in oblique_grids():
        view = AxialView.of(grid, rows="P", columns="L")
        direction = np.array(grid.direction)[::-1][:, list(view.axes)]
        assert np.abs(np.diag(direction)).sum() >= np.abs(np.diag(direction[:, [1, 2, 0]])).sum()
        signs = [-1 if back else 1 for back in view.backwards]
        assert (np.diag(direction) * signs >= 0).all()


def test_flat_images_are_one_slice():
    image = Volume.from_array(np.arange(12, dtype=np.uint8).reshape(3, 4))
    view = AxialView.of(image.grid, rows="A", columns="L")
    assert np.array_equal(view.turn(image.array), image.array[None, ::-1])
    assert view.turn_box(Box((0, 1), (1, 3)), image.grid) == (slice(0, 1), slice(2, 3), slice(1, 3))


def test_channels_stay_last():
    grid = Grid.plain((2, 3, 4))
    assert AxialView.of(grid, rows="A", columns="L").turn(np.zeros((2, 3, 4, 3))).shape == (2, 3, 4, 3)
