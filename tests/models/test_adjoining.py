"""Answers about cubes beside each other: which faces are open, and what they say together."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.geometry import Box, Grid
from napari_sammed.models.adjoining import blended, enclosing, innermost_sample, open_faces
from napari_sammed.models.base import Logits
from napari_sammed.models.cubes import CubeRegion, canonical_lattice
from napari_sammed.models.windows import importance

IMAGE = Grid.plain((48, 48, 48), (1.5, 1.5, 1.5))
LATTICE = canonical_lattice(IMAGE, 1.5)
SIDE, CELLS = 16, 4


def answer(low: tuple[int, int, int], values: np.ndarray | float = -1.0) -> Logits:
    """About the cube that starts at a sample of the lattice."""
    cube = LATTICE.crop(Box(low, tuple(n + SIDE for n in low)))
    region = CubeRegion.seeing(IMAGE, cube, IMAGE.box)
    return Logits(np.broadcast_to(np.float32(values), (CELLS,) * 3).copy(), region)


class TestFaces:
    @pytest.mark.parametrize("axis", range(3))
    @pytest.mark.parametrize(("direction", "cell"), [(-1, 0), (1, CELLS - 1)])
    def test_a_touched_one_is_open(self, axis, direction, cell):
        found = answer((16, 16, 16))
        place = [1, 2, 1]
        place[axis] = cell
        found.values[tuple(place)] = 1
        assert open_faces(found, IMAGE) == [(axis, direction)]

    def test_none_is_open_around_an_object_that_fits(self):
        found = answer((16, 16, 16))
        found.values[1:3, 1:3, 1:3] = 1
        assert open_faces(found, IMAGE) == []

    def test_islands_do_not_count(self):
        found = answer((16, 16, 16))
        found.values[1:3, 1:3, 1:3] = 1
        found.values[0, 3, 3] = 9
        assert open_faces(found, IMAGE) == []

    def test_where_the_image_ends_none_is_open(self):
        """A cube that reaches one cell and a half beyond the image at its low corner."""
        found = answer((-6, 16, 16))
        found.values[0, 1, 1] = 1
        assert open_faces(found, IMAGE) == []
        found.values[:, 1, 1] = 1
        assert open_faces(found, IMAGE) == [(0, 1)]

    def test_nor_where_the_chosen_part_ends(self):
        found = answer((16, 16, 16), 1.0)
        part = IMAGE.crop(IMAGE.box.intersect(found.region.box).grow((0, 20, -4)))
        assert open_faces(found, part) == [(1, -1), (1, 1), (2, -1), (2, 1)]


class TestTogether:
    def test_one_answer_is_itself(self):
        values = np.random.default_rng(0).normal(size=(CELLS,) * 3).astype(np.float32)
        found = answer((16, 16, 16), values)
        mean, weights = blended([found], found.region.grid, (CELLS,) * 3)
        assert np.abs(mean - values).max() < 1e-6
        assert (weights > 0).all()

    def test_overlaps_are_weighed_by_the_distance_from_the_middle(self):
        region, shape = enclosing([answer((16, 16, 16)), answer((24, 16, 16))])
        assert shape == (CELLS + 2, CELLS, CELLS)
        mean, weights = blended([answer((16, 16, 16), 1.0), answer((24, 16, 16), -3.0)], region.grid, shape)
        assert np.allclose(mean[:2], 1) and np.allclose(mean[4:], -3)
        own, other = importance((CELLS,) * 3)[2:], importance((CELLS,) * 3)[:2]
        assert np.allclose(mean[2:4], (own - 3 * other) / (own + other), atol=1e-5)
        assert np.allclose(weights[2:4], own + other)

    def test_unknown_is_zero(self):
        further = answer((24, 8, 16)).region.grid
        mean, weights = blended([answer((16, 16, 16), 5.0)], further, (CELLS,) * 3)
        assert np.allclose(mean[:2, 2:], 5)
        assert not mean[2:].any() and not mean[:, :2].any()
        assert np.array_equal(weights > 0, mean != 0)

    def test_the_enclosing_region_holds_all_and_keeps_cells_in_place(self):
        region, shape = enclosing([answer((16, 16, 16)), answer((8, 24, 16)), answer((16, 40, 16))])
        assert shape == (6, 10, 4)
        assert np.allclose(region.grid.origin, LATTICE.to_world(np.array([8, 16, 16])))
        assert region.grid.shape == (24, 40, 16)
        for low in ((16, 16, 16), (8, 24, 16), (16, 40, 16)):
            own = answer(low).region.box
            assert region.box.intersect(own) == own
        assert region.box.intersect(IMAGE.box) == region.box


def test_the_innermost_sample():
    grid = LATTICE.crop(Box((0, 0, 0), (SIDE,) * 3))
    values = np.full((CELLS,) * 3, -1.0, np.float32)
    assert innermost_sample(values, grid) is None
    values[1:, 1:, :3] = 1
    assert np.allclose(innermost_sample(values, grid), (9.5, 9.5, 5.5))  # the middle of cell (2, 2, 1)
