"""Layer coordinates against index coordinates; layers without a viewer."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Points

from napari_sammed.geometry import Box, Grid
from napari_sammed.plugin.image.coordinates import (
    GRID_KEY,
    between,
    box_of,
    current_slice,
    displayed_axes,
    grid_of,
    hidden_axis,
    matrix_of,
    rectangle_of,
    seen_index,
    to_world,
)

SHAPE = (7, 9, 11)


def image(**transform) -> Image:
    return Image(np.zeros(SHAPE, np.float32), **transform)


def test_a_plain_scale_is_a_plain_grid():
    grid = grid_of(image(scale=(3, 0.5, 0.7)), SHAPE)
    assert grid.same_place(Grid.plain(SHAPE, (3, 0.5, 0.7)))


def test_negative_scales_and_affines_end_in_the_direction():
    layer = image(scale=(3, -0.5, 0.7), translate=(10, 20, 30))
    grid = grid_of(layer, SHAPE)
    np.testing.assert_allclose(grid.spacing, (3, 0.5, 0.7))
    index = np.array([2.0, 3.0, 4.0])
    np.testing.assert_allclose(grid.to_world(index), layer.data_to_world(index)[::-1])


def test_lengths_become_millimetres():
    np.testing.assert_allclose(grid_of(image(scale=(2, 3, 4), units="um"), SHAPE).spacing, (0.002, 0.003, 0.004))
    np.testing.assert_allclose(grid_of(image(scale=(2, 3, 4), units="pixel"), SHAPE).spacing, (2, 3, 4))


def test_the_readers_grid_wins_if_it_fits():
    known = Grid.from_affine(SHAPE, np.array([[0, 0, -2.0, 5], [0, 3, 0, 6], [4, 0, 0, 7], [0, 0, 0, 1]]))
    assert grid_of(image(metadata={GRID_KEY: known}), SHAPE) is known
    other = Grid.plain((3, 3, 3))
    assert grid_of(image(metadata={GRID_KEY: other}), SHAPE).shape == SHAPE


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_displayed_axes_follow_the_viewer(order):
    viewer = ViewerModel()
    layer = viewer.add_layer(image(scale=(3, 2, 1), translate=(10, 0, -5)))
    viewer.dims.order = order
    assert displayed_axes(viewer.dims, 3) == order[1:]
    assert hidden_axis(viewer.dims, 3) == order[0]
    for index in (0, 4, 6):
        viewer.dims.set_point(order[0], layer.data_to_world((index,) * 3)[order[0]])
        assert current_slice(layer, viewer.dims) == index
    viewer.dims.ndisplay = 3
    assert hidden_axis(viewer.dims, 3) is None and current_slice(layer, viewer.dims) is None


def test_layers_with_fewer_axes_than_the_viewer_have_its_last_ones():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((2, *SHAPE)))
    layer = viewer.add_layer(image(scale=(3, 1, 1)))
    viewer.dims.set_point(1, 12)
    assert displayed_axes(viewer.dims, 3) == (1, 2)
    assert current_slice(layer, viewer.dims) == 4
    assert displayed_axes(viewer.dims, 2) == (0, 1)


def test_seen_index_is_world_to_data_where_slices_are_straight():
    turned = np.array([[3.0, 0, 0, 1], [0, 0.8, 0.6, 2], [0, -0.6, 0.8, 3], [0, 0, 0, 1]])
    layer = image(affine=turned)
    world = np.array(layer.data_to_world((4, 2.25, 3.5)))
    np.testing.assert_allclose(seen_index(layer, world, (1, 2))[0], (4, 2.25, 3.5))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_seen_index_finds_the_voxel_under_the_pointer_of_an_oblique_volume():
    """napari draws the slice flat: what is seen at a place is not what lies there in the world."""
    angle = np.deg2rad(20)
    oblique = np.eye(4)
    oblique[:3, :3] = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * (
        3,
        1,
        1,
    )
    viewer = ViewerModel()
    data = np.random.default_rng(0).random(SHAPE)
    layer = viewer.add_image(data, affine=oblique)
    viewer.dims.set_point(0, 9.0)
    shown = layer._slice.image.raw
    z = current_slice(layer, viewer.dims)
    np.testing.assert_array_equal(shown, data[z])
    matrix = matrix_of(layer)
    row, column = 5, 6
    drawn_at = matrix[1:3, 1:3] @ (row, column) + matrix[1:3, 3]
    index = seen_index(layer, np.array([9.0, *drawn_at]), (1, 2))[0]
    np.testing.assert_allclose(index, (z, row, column))


def test_prompts_of_another_transform_are_found_by_their_place():
    one = Points(np.zeros((1, 3)), scale=(1, 2, 4), translate=(5, 5, 5))
    other = image(scale=(3, 1, 1))
    places = np.array([[1.0, 2, 3], [4, 5, 6]])
    moved = between(one, other, places)
    np.testing.assert_allclose(to_world(other, moved), to_world(one, places))
    for place, expected in zip(places, moved, strict=True):
        np.testing.assert_allclose(other.world_to_data(one.data_to_world(place)), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rectangle_around_a_box_gives_the_box_back(axis):
    low, high = [2, 3, 4], [5, 7, 9]
    low[axis], high[axis] = 3, 4
    box = Box(tuple(low), tuple(high))
    assert box_of(rectangle_of(box, axis, 3), axis) == box
    flat = Box((2, 3), (6, 8))
    assert box_of(rectangle_of(flat, None), None) == flat


def test_a_rectangle_takes_every_voxel_that_it_touches():
    corners = np.array([[4, 1.4, 2.6], [4, 1.4, 6.2], [4, 5.51, 6.2], [4, 5.51, 2.6]])
    assert box_of(corners, 0) == Box((4, 1, 3), (5, 7, 7))
    assert box_of(corners, 0, (8, 2)) == Box((2, 1, 3), (9, 7, 7))
    assert box_of(np.full((4, 2), 3.0), None) == Box((3, 3), (4, 4)), "a press without a drag is one pixel"
