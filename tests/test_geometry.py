"""Boxes and grids: round trips, agreement with SimpleITK, refusals, and volumes in every orientation."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region, nearest_voxel
from napari_sammed.volume import Volume, resample_labels
from tests.orientations import ALL_48, oblique_grids, reorient

GRIDS = {f"oblique{i}": grid for i, grid in enumerate(oblique_grids())} | {
    "plain": Grid.plain((4, 5, 6), (3.0, 1.0, 0.5)),
    "flat": Grid.plain((7, 5), (0.5, 2.0)),
    "one slice": Grid.plain((1, 5, 6), (6.5, 0.8, 0.8)),
    "LAS": Grid.from_itk((6, 5, 4), (0.8, 0.8, 6.5), (90, 125, -71), (1, 0, 0, 0, -1, 0, 0, 0, 1)),
}
EYE = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))  # columns are the z, y, x axes

each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
boxes = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 40)), min_size=2, max_size=3).map(
    lambda sides: Box(tuple(lo for lo, _ in sides), tuple(lo + size for lo, size in sides))
)


def itk_image(grid: Grid) -> sitk.Image:
    image = sitk.Image(grid.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.itk_direction)
    return image


@each_grid
def test_world_and_back(grid: Grid) -> None:
    index = np.random.default_rng(0).uniform(-20, 40, (50, grid.ndim))
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-9)
    np.testing.assert_allclose(grid.to_index(grid.to_world(index[0])), index[0], atol=1e-9)


@each_grid
def test_world_is_simpleitks(grid: Grid) -> None:
    image = itk_image(grid)
    for index in np.random.default_rng(1).uniform(-20, 40, (10, grid.ndim)):
        expected = image.TransformContinuousIndexToPhysicalPoint(index[::-1].tolist())
        np.testing.assert_allclose(grid.to_world(index), expected, atol=1e-9)


@each_grid
def test_itk_and_affine_round_trips(grid: Grid) -> None:
    image = itk_image(grid)
    again = Grid.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    assert again.same_place(grid, 1e-9)
    np.testing.assert_allclose(Grid.from_affine(grid.shape, grid.affine).affine, grid.affine, atol=1e-12)


@each_grid
def test_crop_keeps_every_voxel_in_place(grid: Grid) -> None:
    box = Box((0,) + (1,) * (grid.ndim - 1), tuple(s + 2 for s in grid.shape))
    crop = grid.crop(box)
    assert (crop.shape, crop.spacing, crop.direction) == (box.shape, grid.spacing, grid.direction)
    inner = np.arange(grid.ndim)
    np.testing.assert_allclose(crop.to_world(inner), grid.to_world(inner + box.low), atol=1e-9)


@each_grid
@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_resample_keeps_the_field_of_view(grid: Grid, factor: float) -> None:
    shape = tuple(max(1, int(s * factor)) for s in grid.shape)
    other = grid.resample(shape)
    outer_low, outer_high = np.full(grid.ndim, -0.5), np.array(grid.shape) - 0.5
    np.testing.assert_allclose(other.to_world(np.full(grid.ndim, -0.5)), grid.to_world(outer_low), atol=1e-9)
    np.testing.assert_allclose(other.to_world(np.array(shape) - 0.5), grid.to_world(outer_high), atol=1e-9)
    assert other.voxel_volume * np.prod(shape) == pytest.approx(grid.voxel_volume * np.prod(grid.shape))


def test_region_sees_the_centre_of_its_box() -> None:
    grid = GRIDS["oblique3"]
    box = Box((2, 3, 4), (3, 11, 12))
    region = Region.of_box(grid, box, (1, 256, 256))
    np.testing.assert_allclose(region.grid.to_world([0, 127.5, 127.5]), grid.to_world([2, 6.5, 7.5]), atol=1e-9)


def test_voxel_volume_of_a_sheared_grid() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 1], [0.5, 1, 0], [2, 0, 0]]  # a tilted gantry: z leans towards y
    grid = Grid.from_affine((4, 5, 6), affine)
    assert grid.voxel_volume == pytest.approx(2)
    assert not grid.is_orthogonal
    assert all(other.is_orthogonal for other in GRIDS.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spacing": (0.0, 1.0, 1.0)}, "0.0"),
        ({"spacing": (1.0, -2.5, 1.0)}, "-2.5"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "nan"),
        ({"spacing": (1.0, float("inf"), 1.0)}, "inf"),
        ({"spacing": (1.0, 1.0)}, "(1.0, 1.0)"),
        ({"spacing": None}, "None"),
        ({"origin": (0.0, float("nan"), 0.0)}, "nan"),
        ({"shape": (4, 0, 6)}, "(4, 0, 6)"),
        ({"shape": (4, 5.5, 6)}, "5.5"),
        ({"shape": (4, 5, 6, 7)}, "not 4"),
        ({"shape": 4}, "4"),
        ({"direction": ((0, 0, 1), (0, 1, 0), (0.9, 0, 0))}, "0.9"),
        ({"direction": ((0, 1, 1), (0, 0, 0), (1, 0, 0))}, "singular"),
        ({"direction": ((0, 0, float("nan")), (0, 1, 0), (1, 0, 0))}, "nan"),
        ({"direction": ((1, 0, 0), (0, 1, 0), (0, 0, 1))}, "left-handed"),
        ({"direction": ((0, 0, 1), (0, 1, 0))}, "3 x 3"),
        ({"direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}, "direction"),
        ({"direction": 1}, "3 x 3"),
    ],
    ids=lambda value: str(value).replace("float", ""),
)
def test_refused_grids(change: dict, said: str) -> None:
    good = {"shape": (4, 5, 6), "spacing": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "direction": EYE}
    assert Grid(**good).shape == (4, 5, 6)
    with pytest.raises(InputError) as error:
        Grid(**good | change)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_mirror_images_must_be_meant() -> None:
    mirrored = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert Grid((2, 2, 2), (1, 1, 1), (0, 0, 0), mirrored, mirrored=True).direction == mirrored


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)], ids=["zero", "3x3", "nan"])
def test_refused_affines(affine: np.ndarray) -> None:
    with pytest.raises(InputError, match="affine"):
        Grid.from_affine((2, 2, 2), affine)


@pytest.mark.parametrize("shape", [(2, 2), (0, 1, 1), (1.5, 2, 2)], ids=str)
def test_refused_resampling(shape: tuple) -> None:
    with pytest.raises(InputError):
        GRIDS["plain"].resample(shape)


def test_same_place_sees_small_moves() -> None:
    grid = GRIDS["oblique0"]
    moved = grid.crop(Box((0, 0, 0), grid.shape))
    assert grid.same_place(moved)
    assert not grid.same_place(grid.crop(Box((1, 0, 0), (grid.shape[0] + 1, *grid.shape[1:]))))
    assert not grid.same_place(grid.crop(Box((0, 0, 0), (2, 2, 2))))
    nudged = Grid(grid.shape, grid.spacing, tuple(np.add(grid.origin, 0.01)), grid.direction, mirrored=True)
    assert not grid.same_place(nudged)
    assert grid.same_place(nudged, tolerance=0.1)


# Orientations


@pytest.mark.parametrize(("permutation", "flips"), ALL_48, ids=str)
def test_reoriented_volumes_hold_the_same_voxels_at_the_same_places(permutation: tuple, flips: tuple) -> None:
    rng = np.random.default_rng(2)
    for grid in (GRIDS["oblique0"], GRIDS["oblique1"]):
        volume = Volume(rng.integers(0, 255, grid.shape).astype(np.uint8), grid)
        turned = reorient(volume, permutation, flips)
        index = rng.integers(0, grid.shape, (20, 3))
        new = turned.grid.to_index(grid.to_world(index))
        np.testing.assert_allclose(new, nearest_voxel(new), atol=1e-6)
        np.testing.assert_array_equal(turned.array[tuple(nearest_voxel(new).T)], volume.array[tuple(index.T)])
        np.testing.assert_array_equal(resample_labels(turned, grid), volume.array)


def test_the_48_orientations_differ() -> None:
    volume = Volume(np.zeros((2, 3, 4), np.uint8), GRIDS["plain"].crop(Box((0, 0, 0), (2, 3, 4))))
    grids = {reorient(volume, *orientation).grid for orientation in ALL_48}
    assert len(grids) == 48


# Boxes


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        ((0, 0), (0, 4), "empty"),
        ((3, 0), (1, 4), "reversed"),
        ((0, 0), (4, 4, 4), "differ"),
        ((0.5, 0), (4, 4), "0.5"),
        ((float("nan"), 0), (4, 4), "nan"),
        (0, 4, "whole"),
    ],
    ids=str,
)
def test_refused_boxes(low: tuple, high: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Box(low, high)


@given(boxes, boxes)
def test_boxes_as_sets_of_voxels(a: Box, b: Box) -> None:
    if a.ndim != b.ndim:
        with pytest.raises(InputError):
            a.intersect(b)
        with pytest.raises(InputError):
            a.union(b)
        return
    common = a.intersect(b)
    per_axis = [
        set(range(*pair)) & set(range(*other))
        for pair, other in zip(zip(a.low, a.high, strict=True), zip(b.low, b.high, strict=True), strict=True)
    ]
    assert (common is None) == (not all(per_axis))
    if common:
        assert common.shape == tuple(map(len, per_axis))
        assert a.union(b).intersect(a) == a
    assert a.shift(b.low).shift([-lo for lo in b.low]) == a
    assert a.grow(3).grow(-3) == a
    assert a.grow(np.int64(2)).shape == tuple(s + 4 for s in a.shape)


@given(boxes)
def test_the_box_of_a_mask(box: Box) -> None:
    shape = tuple(h + 60 for h in box.high)
    mask = np.zeros(shape, bool)
    inside = box.shift((51,) * box.ndim)
    inside = inside.intersect(Box.of_shape(shape))
    if inside is None:
        assert Box.of_mask(mask) is None
        return
    mask[inside.slices] = True
    assert Box.of_mask(mask) == inside


def test_voxels_of_points() -> None:
    np.testing.assert_array_equal(nearest_voxel([-0.5, 0.49, 0.5, 1.5, 2.5]), [0, 0, 1, 2, 3])
    box = Box((0, 0), (4, 4))
    assert box.contains((-0.5, 3.49))
    assert not box.contains((0, 3.5))
    assert not box.contains((-0.51, 0))
    assert Box.around(np.array([[0.5, 2.0], [3.2, -1.0]]), margin=1) == Box((0, -2), (5, 4))
    with pytest.raises(InputError):
        box.contains((0, 0, 0))
    assert Box((0, 5, 0), (9, 6, 9)).thin_axes == (1,)
