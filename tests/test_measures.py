"""Measures of masks whose size is known, on grids of every kind."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from napari_sammed.geometry import Box, Grid
from napari_sammed.measures import acquisition_axis, diameters, measure
from napari_sammed.prompts import MaskPrompt
from napari_sammed.volume import Volume
from tests.orientations import ALL_48, oblique_grids, reorient
from tests.phantoms import ball


def ellipsoid(grid: Grid, centre: np.ndarray, axes_mm: tuple[float, ...], turn: np.ndarray | None = None) -> MaskPrompt:
    """Voxels whose centres lie in an ellipsoid of these half axes (mm), around an index, turned in the world."""
    away = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) - grid.to_world(centre)
    local = away if turn is None else away @ turn
    return MaskPrompt((local**2 / np.array(axes_mm) ** 2).sum(-1) <= 1, (0,) * grid.ndim)


def mm(grid: Grid, line) -> float:
    return float(np.linalg.norm(np.subtract(*grid.to_world(np.array(line)))))


def box_mask(box: Box) -> MaskPrompt:
    return MaskPrompt(np.ones(box.shape, bool), box.low)


def test_a_bar_is_as_long_as_its_voxels():
    grid = Grid.plain((9, 40, 50), (5.0, 0.8, 0.8))
    found = measure(box_mask(Box((2, 10, 5), (5, 11, 25))), Volume(np.full(grid.shape, 7.0), grid))
    assert found.diameters.longest == pytest.approx(20 * 0.8)
    assert found.diameters.longest_line == ((2.0, 10.0, 4.5), (2.0, 10.0, 24.5))
    assert found.diameters.perpendicular == pytest.approx(0.8)
    assert sorted(end[1] for end in found.diameters.perpendicular_line) == pytest.approx([9.5, 10.5])
    assert (found.voxels, found.slices) == (60, 3)
    assert found.volume_ml == pytest.approx(60 * 5 * 0.8 * 0.8 / 1000) and found.area_mm2 is None
    assert (found.mean, found.deviation, found.minimum, found.maximum) == (7, 0, 7, 7)
    assert found.centroid == (3.0, 10.0, 14.5)
    assert found.centroid_mm == pytest.approx((14.5 * 0.8, 10 * 0.8, 15.0))  # x, y, z
    assert found.box == Box((2, 10, 5), (5, 11, 25))


@pytest.mark.parametrize("grid", [Grid.plain((12, 40, 60), (4.0, 1.0, 0.5)), *oblique_grids(6, (12, 40, 60))])
def test_a_rectangle_measures_its_diagonal(grid):
    """Outer corners lie half a voxel further out than the outline at half height: at most that much at either end."""
    box = Box((4, 8, 10), (7, 28, 50))
    found = diameters(box_mask(box), grid, 0)
    height, width = 20 * grid.spacing[1], 40 * grid.spacing[2]
    exact = math.hypot(height, width)
    assert exact - max(grid.spacing[1:]) / 2 <= found.longest <= exact
    assert mm(grid, found.longest_line) == pytest.approx(found.longest)
    assert mm(grid, found.perpendicular_line) == pytest.approx(found.perpendicular)
    long, wide = (
        np.subtract(*grid.to_world(np.array(line))) for line in (found.longest_line, found.perpendicular_line)
    )
    assert long @ wide == pytest.approx(0, abs=1e-6 * found.longest * found.perpendicular)
    # The longest chord of a rectangle across its diagonal: from corner to the opposite side.
    expected = min(height * exact / width, width * exact / height)
    assert found.perpendicular == pytest.approx(expected, abs=max(grid.spacing[1:]))


@pytest.mark.parametrize("number", range(6))
def test_an_ellipse_measures_its_axes(number):
    """In slices of tilted grids, turned within the slice; half a voxel at either end."""
    grid = list(oblique_grids(6, (7, 90, 90), seed=5))[number]
    spacing = min(grid.spacing[1:])
    grid = Grid(grid.shape, (grid.spacing[0], spacing, 1.3 * spacing), grid.origin, grid.direction, mirrored=True)
    angle = np.radians(25 * number + 10)
    first, second = np.array(grid.direction)[:, 1], np.array(grid.direction)[:, 2]
    turn = np.column_stack(
        [
            np.cos(angle) * first + np.sin(angle) * second,
            -np.sin(angle) * first + np.cos(angle) * second,
            np.cross(first, second),
        ]
    )
    long, short = 32 * spacing, 17 * spacing
    mask = ellipsoid(grid, np.array([3, 45, 45]), (long, short, 2.2 * grid.spacing[0]), turn)
    found = diameters(mask, grid, 0)
    assert abs(found.longest - 2 * long) <= 1.3 * spacing
    assert abs(found.perpendicular - 2 * short) <= 1.3 * spacing
    assert {end[0] for end in found.longest_line} == {3.0}, "its largest slice"
    direction = np.subtract(*grid.to_world(np.array(found.longest_line))) / found.longest
    assert abs(direction @ turn[:, 0]) > np.cos(np.radians(6))


def test_volume_and_place_of_an_ellipsoid():
    grid = next(oblique_grids(1, (40, 50, 60), seed=3))
    centre, half = np.array([19.5, 25.25, 29.0]), 14 * np.array(grid.spacing)
    local = (np.moveaxis(np.indices(grid.shape), 0, -1) - centre) * grid.spacing
    mask = MaskPrompt((local**2 / half**2).sum(-1) <= 1, (0, 0, 0))
    found = measure(mask, Volume(np.zeros(grid.shape), grid))
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * half.prod() / 1000, rel=0.01)
    np.testing.assert_allclose(found.centroid, centre, atol=0.1)
    np.testing.assert_allclose(found.centroid_mm, grid.to_world(centre), atol=0.1 * max(grid.spacing))


def test_measures_do_not_depend_on_how_the_volume_is_stored():
    rng = np.random.default_rng(1)
    image = Volume.from_array(rng.normal(size=(9, 14, 17)), (4.0, 0.9, 1.2))
    mask = ball(image.grid.shape, (4, 6, 8), 4) & (rng.random(image.grid.shape) > 0.3)
    labels = Volume(mask.astype(np.uint8), image.grid)
    expected = measure(MaskPrompt(mask, (0, 0, 0)), image)
    for permutation, flips in ALL_48:
        turned = reorient(image, permutation, flips)
        found = measure(MaskPrompt(reorient(labels, permutation, flips).array > 0, (0, 0, 0)), turned)
        for name in ("voxels", "slices", "volume_ml", "mean", "deviation", "minimum", "maximum", "centroid_mm"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
        assert found.diameters.longest == pytest.approx(expected.diameters.longest)


@pytest.mark.parametrize("lean", [0.0, 0.6], ids=["square", "sheared"])
def test_the_longest_line_and_its_perpendicular_are_the_best_of_all_lines(lean):
    """Against every pair of outline points, and chords at many places, on ragged masks."""
    rng = np.random.default_rng(0)
    direction = ((math.sin(lean), 1.0), (math.cos(lean), 0.0))
    grid = Grid((20, 24), (0.7, 1.9), (3.0, -8.0), direction, mirrored=True)
    for _ in range(20):
        mask = ball(grid.shape, (9, 11), 7) & (rng.random(grid.shape) > 0.6)
        found = diameters(MaskPrompt(mask, (0, 0)), grid)
        y, x = np.nonzero(mask)
        points = np.concatenate([np.column_stack([y + d, x]) for d in (-0.5, 0.5)])
        points = grid.to_world(np.concatenate([points, *(np.column_stack([y, x + d]) for d in (-0.5, 0.5))]))
        assert found.longest == pytest.approx(np.linalg.norm(points[:, None] - points[None], axis=-1).max())
        start, stop = grid.to_world(np.array(found.longest_line))
        along = (stop - start) / np.linalg.norm(stop - start)
        sides = ConvexHull(points).equations
        chords = [chord(sides, start + t * (stop - start), along) for t in np.linspace(0, 1, 400)]
        assert max(chords) <= found.perpendicular + 1e-9 <= max(chords) + 0.01 * found.longest
        assert mm(grid, found.perpendicular_line) == pytest.approx(found.perpendicular)


def chord(sides: np.ndarray, place: np.ndarray, along: np.ndarray) -> float:
    """Length of the line through a place, across a direction, inside of a convex hull with these sides."""
    low, high = -np.inf, np.inf
    for *normal, away in sides:  # normal @ x + away <= 0 inside
        slope, rest = normal @ np.array([-along[1], along[0]]), -(normal @ place + away)
        if slope > 1e-12:
            high = min(high, rest / slope)
        elif slope < -1e-12:
            low = max(low, rest / slope)
    return max(high - low, 0)


def test_one_voxel_and_none():
    grid = Grid.plain((3, 4, 5), (3.0, 2.0, 1.0))
    image = Volume(np.arange(60).reshape(grid.shape), grid)
    one = measure(MaskPrompt(np.ones((1, 1, 1), bool), (1, 2, 3)), image)
    assert (one.voxels, one.slices, one.diameters.longest, one.diameters.perpendicular) == (1, 1, 2.0, 1.0)
    assert one.mean == one.minimum == one.maximum == 33 and one.deviation == 0
    assert one.centroid == (1.0, 2.0, 3.0) and one.box == Box((1, 2, 3), (2, 3, 4))
    none = measure(None, image)
    assert (none.voxels, none.slices, none.volume_ml, none.area_mm2) == (0, 0, 0.0, None)
    assert none.diameters.longest == none.diameters.perpendicular == 0 and none.diameters.longest_line is None
    assert math.isnan(none.mean) and none.centroid is None and none.box is None


def test_flat_and_colour_images_have_an_area():
    grid = Grid.plain((10, 12), (2.0, 0.5))
    colours = np.zeros((10, 12, 3), np.uint8)
    colours[..., 0], colours[..., 1] = 30, 60
    found = measure(box_mask(Box((1, 2), (4, 10))), Volume(colours, grid))
    assert (found.area_mm2, found.volume_ml, found.slices, found.mean) == (24.0, None, 1, 30.0)
    assert len(found.diameters.longest_line[0]) == 2
    assert measure(None, Volume(colours, grid)).area_mm2 == 0


def test_voxels_that_are_no_number_are_left_out():
    array = np.array([[1.0, np.nan], [3.0, np.inf]])
    found = measure(box_mask(Box((0, 0), (2, 2))), Volume.from_array(array))
    assert (found.mean, found.minimum, found.maximum) == (2, 1, 3) and found.voxels == 4
    assert math.isnan(measure(box_mask(Box((0, 1), (2, 2))), Volume.from_array(array)).mean)


@pytest.mark.parametrize(
    ("spacing", "axis"), [((5, 1, 1), 0), ((1, 5, 1), 1), ((0.7, 0.7, 0.7), 0), ((0.7, 0.7, 0.70001), 0)]
)
def test_slices_lie_across_the_widest_spacing(spacing, axis):
    assert acquisition_axis(Grid.plain((4, 4, 4), spacing)) == axis


def test_a_million_voxels_take_well_under_a_second():
    grid = Grid.plain((200, 260, 260), (2.0, 0.8, 0.8))
    image = Volume(np.zeros(grid.shape, np.int16), grid)
    mask = MaskPrompt(ball(grid.shape, (100, 130, 130), 63), (0, 0, 0))
    assert np.count_nonzero(mask.mask) > 1_000_000
    start = time.process_time()
    measure(mask, image)
    assert time.process_time() - start < 0.5
