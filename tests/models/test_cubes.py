"""Lattices, cubes and resampling for volumes in every orientation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from napari_sammed.geometry import Box, Grid
from napari_sammed.models import resampling
from napari_sammed.models.cubes import aligned, canonical_lattice, centred_cube, covering_cubes, on_lattice, place_of
from napari_sammed.models.resampling import coverage, covered, resample
from napari_sammed.volume import Volume
from tests.orientations import ALL_48, oblique_grids, reorient
from tests.parameters import few

OBLIQUE = list(oblique_grids())
TO_RIGHT_FRONT_HEAD = np.diag([-1.0, -1, 1])  # in LPS


def rng() -> np.random.Generator:
    """The same numbers for each test, whichever ran before."""
    return np.random.default_rng(5)


def upright() -> Volume:
    """A volume whose extent is a whole number of samples of 1.5 mm along every axis."""
    array = rng().integers(-1000, 1000, (8, 10, 12)).astype(np.int16)
    return Volume.from_array(array, (3.0, 1.5, 0.75))


class TestLattice:
    @pytest.mark.parametrize(("permutation", "flips"), few(ALL_48, tried=range(0, 48, 5)))
    def test_is_the_same_for_every_storage_order(self, permutation, flips):
        volume = upright()
        lattice = canonical_lattice(volume.grid, 1.5)
        turned = reorient(volume, permutation, flips)
        assert lattice.shape == (6, 10, 16)
        assert np.allclose(lattice.direction, TO_RIGHT_FRONT_HEAD)
        assert canonical_lattice(turned.grid, 1.5).same_place(lattice)
        expected = resample(volume.array, volume.grid, lattice)
        assert np.abs(resample(turned.array, turned.grid, lattice) - expected).max() < 1e-9

    @pytest.mark.parametrize("grid", OBLIQUE)
    def test_covers_oblique_images(self, grid):
        lattice = canonical_lattice(grid, 1.5)
        assert np.allclose(lattice.spacing, 1.5)
        towards = (TO_RIGHT_FRONT_HEAD * np.array(lattice.direction)).sum(axis=0)
        assert towards.sum() > 1.5  # axes are the nearest ones, not perpendicular or reversed
        edges = np.array([np.full(3, -0.5), np.array(grid.shape) - 0.5])
        reached = np.sort(lattice.to_index(grid.to_world(edges)), axis=0)
        assert (reached[0] >= -0.5 - 1e-6).all()
        beyond = np.array(lattice.shape) - 0.5 - reached[1]
        assert (beyond > -1e-5).all()
        assert (np.ptp(reached, axis=0) > np.array(lattice.shape) - 1 - 1e-5).all()

    def test_starts_at_the_first_voxel_of_the_image_where_the_last_sample_sticks_out(self):
        grid = Grid.plain((4, 4, 4), (1.0, 1.0, 1.0))  # 4 mm: two samples and two thirds
        lattice = canonical_lattice(grid, 1.5)
        assert lattice.shape == (3, 3, 3)
        outer = lattice.to_index(grid.to_world(np.full(3, -0.5)))
        assert np.allclose(outer, [2.5, 2.5, -0.5])  # x and y run the other way round

    def test_noise_in_a_spacing_adds_no_sample(self):
        assert canonical_lattice(Grid.plain((30, 30, 30), (0.1 + 0.2,) * 3), 0.3).shape == (30, 30, 30)

    def test_box_on_the_lattice(self):
        grid = upright().grid
        lattice = canonical_lattice(grid, 1.5)
        # half a sample from the border of the first two samples along z
        assert on_lattice(Box((0, 0, 0), (1, 1, 1)), grid, lattice) == Box((5, 9, 1), (6, 10, 2))
        assert on_lattice(grid.box, grid, lattice).intersect(lattice.box) is not None


@pytest.mark.parametrize(
    ("low", "high", "first"), [(10, 11, 6), (10, 12, 7), (10, 13, 7), (-3, -2, -7), (-3, -1, -6), (0, 1, -4)]
)
def test_the_middle_of_a_cube(low, high, first):
    """The centre is that of the voxels, rounded down, and has as many samples before it as from it on."""
    cube = centred_cube(Box((low,) * 3, (high,) * 3), 8)
    assert cube == Box((first,) * 3, (first + 8,) * 3)


class TestResampling:
    @pytest.mark.parametrize("grid", OBLIQUE)
    @pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
    def test_is_linear_interpolation_with_a_rim_and_zeros(self, grid, dtype):
        array = rng().uniform(1, 200, grid.shape).astype(dtype)
        lattice = canonical_lattice(grid, 1.5)
        cube = lattice.crop(centred_cube(Box((3, 4, 5), (6, 7, 8)), 24))
        index = grid.to_index(cube.to_world(np.moveaxis(np.indices(cube.shape), 0, -1)))
        inside = ((index >= -0.5) & (index < np.array(grid.shape) - 0.5)).all(axis=-1)
        places = np.moveaxis(index, -1, 0)
        expected = ndimage.map_coordinates(array.astype(float), places, order=1, mode="nearest") * inside
        found = resample(array, grid, cube)
        assert found.dtype == (np.float32 if dtype == np.float32 else np.float64)
        assert np.abs(found - expected).max() < (1e-3 if dtype == np.float32 else 1e-9)

    def test_grids_tilted_against_each_other_are_refused(self):
        with pytest.raises(ValueError, match="tilted"):
            resample(np.zeros(OBLIQUE[0].shape), OBLIQUE[0], OBLIQUE[2])

    def test_a_grid_beside_the_image_sees_nothing(self):
        grid = Grid.plain((5, 5, 5))
        away = grid.crop(Box((20, 0, 0), (25, 5, 5)))
        assert not resample(np.ones(grid.shape), grid, away).any()
        assert covered(grid, away) is None

    @pytest.mark.parametrize("shape", [(1, 6, 6), (6, 1, 6), (1, 1, 1)])
    def test_single_slices(self, shape):
        grid = Grid.plain(shape, (3.0, 1.0, 1.0))
        found = resample(np.full(shape, 7, np.uint8), grid, canonical_lattice(grid, 1.5))
        assert (found == 7).all()

    def test_in_slabs_it_is_the_same(self, monkeypatch):
        array = rng().normal(size=OBLIQUE[0].shape)
        cube = canonical_lattice(OBLIQUE[0], 1.5).crop(centred_cube(Box((3, 4, 5), (6, 7, 8)), 24))
        whole = resample(array, OBLIQUE[0], cube)
        monkeypatch.setattr(resampling, "_AT_ONCE", 24 * 24 * 5)
        assert np.array_equal(resample(array, OBLIQUE[0], cube), whole)

    def test_reads_no_more_than_the_part(self):
        """A CT of 1000 slices, that takes no memory itself."""
        array = np.broadcast_to(np.arange(1000, dtype=np.int16)[:, None, None], (1000, 512, 512))
        grid = Grid.plain(array.shape, (0.7, 0.7, 0.7))
        cube = canonical_lattice(grid, 1.5).crop(Box((40, 40, 100), (168, 168, 228)))
        tracemalloc.start()
        found = resample(array, grid, cube)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found[0, 0, 0] == pytest.approx(100.5 * 1.5 / 0.7 - 0.5)
        assert peak < 300e6  # the whole volume would take 500 MB in 16 bits


class TestCoverage:
    @pytest.mark.parametrize("grid", few(OBLIQUE, tried=range(0, 20, 3)))
    def test_is_the_share_that_fine_samples_say(self, grid):
        mask = rng().random(grid.shape) < 0.4
        cells = canonical_lattice(grid, 1.5).crop(Box((-2, -3, 1), (10, 9, 9))).resample((3, 3, 2))
        found = coverage(mask, grid, cells)
        assert found.shape == (3, 3, 2)
        assert found.dtype == np.float32
        fine = 36
        inside = resample_nearest(mask, grid, cells.resample([n * fine for n in cells.shape]))
        expected = inside.reshape(3, fine, 3, fine, 2, fine).mean(axis=(1, 3, 5))
        assert np.abs(found - expected).max() < 0.03

    @pytest.mark.parametrize("grid", OBLIQUE)
    def test_loses_nothing(self, grid):
        mask = rng().random(grid.shape) < 0.3
        lattice = canonical_lattice(grid, 1.5)
        cells = lattice.crop(lattice.box.grow(2))
        volume = coverage(mask, grid, cells).sum(dtype=float) * cells.voxel_volume
        assert volume == pytest.approx(mask.sum() * grid.voxel_volume, rel=1e-5)


def resample_nearest(mask: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    index = grid.to_index(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))
    places = np.moveaxis(np.floor(index + 0.5).astype(int), -1, 0)
    inside = ((places >= 0) & (places < np.reshape(grid.shape, (3, 1, 1, 1)))).all(axis=0)
    return mask[tuple(np.where(inside, places, 0))] & inside


class TestCubesOfALattice:
    LATTICE = Box.of_shape((20, 100, 64))

    def test_one_cube_lies_around_a_part_inside_of_the_lattice(self):
        (cube,) = covering_cubes(Box((2, 90, 10), (9, 99, 20)), self.LATTICE, 32)
        assert cube == Box((-6, 68, 0), (26, 100, 32))  # in the middle, where the lattice is shorter than the cube

    def test_several_overlap_by_half(self):
        cubes = covering_cubes(self.LATTICE, self.LATTICE, 32)
        assert [cube.low[1] for cube in cubes][::3] == [0, 16, 32, 48, 64, 68]
        assert {cube.shape for cube in cubes} == {(32, 32, 32)}

    @pytest.mark.parametrize("grid", OBLIQUE[:4])
    def test_their_place_is_known_again(self, grid):
        lattice = canonical_lattice(grid, 1.5)
        box = Box((-3, 5, 11), (13, 21, 27))
        assert place_of(lattice.crop(box), lattice) == box
        assert place_of(lattice.crop(box), lattice.crop(Box((1, 2, 3), (4, 5, 6)))) == box.shift((-1, -2, -3))

    def test_aligned_to_another(self):
        moved = aligned(Box((5, 6, 7), (13, 14, 15)), Box((0, 2, -2), (8, 10, 6)), 4)
        assert moved == Box((8, 6, 10), (16, 14, 18))


@pytest.mark.parametrize("grid", OBLIQUE)
def test_covered_voxels_are_those_whose_centres_lie_in_the_cube(grid):
    lattice = canonical_lattice(grid, 1.5)
    cube = lattice.crop(centred_cube(Box((2, 3, 1), (4, 4, 4)), 8))
    index = cube.to_index(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    inside = ((index >= -0.5) & (index < 7.5)).all(axis=-1)
    box = covered(grid, cube)
    assert box == Box.of_mask(inside)
    assert inside[box.slices].all()
