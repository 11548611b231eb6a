"""A model that knows the true mask loses nothing of it on the way to the network's grid and back, wherever it looks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.masks import apply
from napari_sammed.backend.reductions import innermost
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import PromptableModel, ZoomingModel
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume, read_volume, resample_labels
from tests import oracle
from tests.orientations import ALL_48, oblique_grids, reorient
from tests.phantoms import ball

REAL = {  # item: label, a part of the name after which it is called in test ids
    "oblique": ("3d_mr_cord_t2s_aniso_oblique", 1),
    "permuted": ("3d_mr_cord_t2_permuted_axes", 1),
    "anisotropic": ("3d_mr_brain_tumour_aniso", 1),
    "spleen": ("3d_ct_torso_multiorgan", 1),
    "liver": ("3d_ct_torso_multiorgan", 5),
    "vertebra": ("3d_ct_torso_vertebrae", 28),
    "cut vertebra": ("3d_ct_torso_vertebrae", 33),
}
TURNS = [ALL_48[0], ALL_48[13], ALL_48[30], ALL_48[47]]  # as stored; permuted, flipped, both
ANY = Window.preset("as-is")
ENOUGH = 0.98


@lru_cache(maxsize=1)
def real(folder: Path, name: str) -> tuple[Volume, Volume]:
    """An image, and one of its structures."""
    item, label = REAL[name]
    image, labels = (
        read_volume(next(path for path in sorted((folder / item).glob(f"{part}.*")) if path.suffix != ".json"))
        for part in ("image", "labels")
    )
    return image, Volume((labels.array == label).astype(np.uint8), image.grid)


@pytest.fixture(
    params=[
        # each volume as one of the turns has it, and the others under `full`
        pytest.param((name, turn), marks=() if place % len(TURNS) == number % len(TURNS) else pytest.mark.full)
        for place, name in enumerate(REAL)
        for number, turn in enumerate(TURNS)
    ],
    ids=str,
)
def turned(request, shared) -> tuple[Volume, Volume]:
    """A real image and one of its structures, stored along other axes."""
    name, turn = request.param
    image, truth = (reorient(volume, *turn) for volume in real(shared / "data", name))
    return image, truth


def noise(grid: Grid) -> Volume:
    return Volume(np.random.default_rng(2).normal(100, 20, grid.shape).astype(np.float32), grid)


def click_inside(truth: Volume) -> Prompts:
    return Prompts((Point(innermost(MaskPrompt(truth.array > 0, (0, 0, 0)))),))


def ask(image: Volume, model: PromptableModel, prompts: Prompts) -> tuple[np.ndarray, Prediction]:
    """A prediction, and its mask on the whole image."""
    backend = LocalBackend(models={model.card.name: model})
    try:
        answer = backend.predict(backend.open(image), model.card.name, prompts)
    finally:
        backend.shutdown()
    mask = np.zeros(image.grid.shape, bool)
    mask[answer.box.slices] = answer.mask
    return mask, answer


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


def sampled(mask: np.ndarray, grid: Grid, on: Grid) -> np.ndarray:
    """A mask as seen on another grid: the nearest voxels'."""
    return resample_labels(Volume(mask.astype(np.uint8), grid), on) > 0


def without(mask: np.ndarray, box: Box) -> np.ndarray:
    rest = mask.copy()
    rest[box.slices] = False
    return rest


def restored(model: ZoomingModel, image: Volume, region: Region, prompts: Prompts) -> np.ndarray:
    """The answer of one window on the whole image."""
    mask = np.zeros(image.grid.shape, bool)
    logits = model.decode(model.embed(image, region, ANY), prompts, None)
    mask[region.box.slices] = model.restore(logits) > 0
    return mask


class TestCubes:
    def test_real_volumes(self, turned):
        image, truth = turned
        model = oracle.cube(truth)
        mask, _ = ask(image, model, click_inside(truth))
        for region in model.encoded:
            seen = [sampled(volume, image.grid, region.grid) for volume in (mask, truth.array)]
            assert dice(*seen) >= ENOUGH
        looked_at = model.encoded[0].box
        for region in model.encoded[1:]:
            looked_at = looked_at.union(region.box)
        assert not without(mask, looked_at).any()

    @pytest.mark.parametrize(("permutation", "flips"), ALL_48[::5], ids=str)
    def test_nothing_is_lost_where_grids_coincide(self, permutation, flips):
        grid = Grid.plain((50, 60, 70), (1.5, 1.5, 1.5))
        shape = ball(grid.shape, (20, 31, 40), 9) & ~ball(grid.shape, (16, 30, 44), 5)
        image, truth = (
            reorient(volume, permutation, flips) for volume in (noise(grid), Volume(shape.astype(np.uint8), grid))
        )
        model = oracle.cube(truth, 32)
        mask, answer = ask(image, model, click_inside(truth))
        assert len(model.encoded) == 1
        assert np.array_equal(mask, truth.array > 0)
        assert answer.reductions == ()

    @pytest.mark.parametrize("spacing", [(3.0, 0.8, 0.8), (5.0, 0.7, 0.9), (1.5, 1.5, 1.5)], ids=str)
    def test_thirty_slices_are_thinner_than_the_cube(self, spacing):
        grid = Grid.plain((30, 160, 150), spacing)
        extent = np.array(grid.shape) * spacing
        places = (np.moveaxis(np.indices(grid.shape), 0, -1) + 0.5) * spacing - extent / 2
        truth = Volume((np.linalg.norm(places / (0.7 * extent[0], 38, 45), axis=-1) < 1).astype(np.uint8), grid)
        model = oracle.cube(truth)
        mask, answer = ask(noise(grid), model, click_inside(truth))
        (region,) = model.encoded
        assert answer.reductions == ()
        assert region.box.shape[0] == 30
        assert mask[0].any()  # it is cut by the image itself, which is no reason to look further
        assert dice(sampled(mask, grid, region.grid), sampled(truth.array, grid, region.grid)) >= ENOUGH
        if len(set(spacing)) == 1:
            assert np.array_equal(mask, truth.array > 0)

    @pytest.mark.parametrize("grid", [None, *list(oblique_grids(6, (70, 60, 50)))[::2]], ids=["plain", *"abc"])
    def test_a_target_twice_as_long_as_the_cube(self, grid):
        grid = grid or Grid.plain((100, 60, 70), (1.5, 1.5, 1.5))
        extent = np.array(grid.shape) * grid.spacing
        long = int(extent.argmax())
        side = round(0.8 * extent[long] / 2 / 1.5 / 4) * 4  # the target fills 80 % of the image along its longest axis
        places = (np.moveaxis(np.indices(grid.shape), 0, -1) + 0.5) * grid.spacing - extent / 2
        radii = np.where(np.arange(3) == long, 0.4 * extent, np.minimum(0.4 * extent, 0.4 * 1.5 * side))
        truth = Volume((np.linalg.norm(places / radii, axis=-1) < 1).astype(np.uint8), grid)
        model = oracle.cube(truth, side)
        mask, answer = ask(noise(grid), model, click_inside(truth))
        assert 2 <= len(model.encoded) - 1 <= 4
        assert f"{len(model.encoded) - 1} neighbouring cubes were looked at as well." in answer.reductions[-1]
        assert answer.logits.region == model.encoded[0]
        if set(grid.spacing) == {1.5}:
            assert np.array_equal(mask, truth.array > 0)
        lattice = model.joined([answer.logits]).region.grid  # of the first cube; the whole target is longer
        assert dice(sampled(mask, grid, lattice), sampled(truth.array, grid, lattice)) >= ENOUGH
        assert dice(mask, truth.array > 0) >= 0.95

    def test_windows_of_real_volumes(self, turned):
        image, truth = turned
        part = Box.of_mask(truth.array > 0)
        model = oracle.cube(truth)
        regions = model.windows(image.grid, part)
        for region in regions:
            middle = Prompts((Point(tuple((np.array(region.box.low) + region.box.high - 1) / 2)),))
            mask = restored(model, image, region, middle)
            assert dice(sampled(mask, image.grid, region.grid), sampled(truth.array, image.grid, region.grid)) >= ENOUGH

    @pytest.mark.parametrize(("permutation", "flips"), TURNS, ids=str)
    def test_several_windows_cover_a_large_part(self, permutation, flips):
        grid = Grid.plain((50, 90, 40), (1.5, 1.5, 1.5))
        truth = reorient(Volume(np.ones(grid.shape, np.uint8), grid), permutation, flips)
        image = reorient(noise(grid), permutation, flips)
        model = oracle.cube(truth, 32)
        regions = model.windows(image.grid, image.grid.box)
        covered = np.zeros(image.grid.shape, int)
        for region in regions:
            assert np.allclose(region.grid.spacing, 1.5)
            middle = Prompts((Point(tuple((np.array(region.box.low) + region.box.high - 1) / 2)),))
            covered += restored(model, image, region, middle)
        assert len(regions) == 3 * 5 * 2
        assert (covered > 0).all()


class TestSlices:
    def test_real_volumes(self, turned):
        image, truth = turned
        axis = int(np.argmax(image.grid.spacing))  # slices are across the longest distance, or the first axis
        areas = truth.array.sum(axis=tuple(a for a in range(3) if a != axis))
        number = int(areas.argmax())
        slab = [slice(None)] * 3
        slab[axis] = slice(number, number + 1)
        low = tuple(number if a == axis else 0 for a in range(3))
        box = Box.of_mask(truth.array[tuple(slab)] > 0).shift(low)
        model = oracle.slices(truth)
        mask, answer = ask(image, model, Prompts((box,)))
        (region,) = model.encoded
        seen = [sampled(volume, image.grid, region.grid) for volume in (mask, truth.array)]
        assert dice(*seen) >= ENOUGH
        assert not without(mask, answer.scope).any()
        assert answer.scope.shape[axis] == 1


class TestWindowsOfVoxels:
    def test_nothing_is_lost_of_real_volumes(self, turned):
        """SegVol's windows show the image's own voxels, so grids coincide."""
        image, truth = turned
        model = oracle.windows(truth)
        part = Box.of_mask(truth.array > 0)
        seen = np.zeros(image.grid.shape, bool)
        for region in model.windows(image.grid, part):
            middle = Prompts((Point(tuple((np.array(region.box.low) + region.box.high - 1) / 2)),))
            mask = restored(model, image, region, middle)
            assert np.array_equal(mask[region.box.slices], truth.array[region.box.slices] > 0)
            seen[region.box.slices] = True
        assert seen[part.slices].all()


ZOOMS = {"cubes": oracle.cube, "slices": oracle.slices, "windows": oracle.windows}


def rough(truth: np.ndarray, across: int | None = None) -> MaskPrompt:
    """The truth as somebody who saw it badly would mark it: moved by a voxel along each axis but one."""
    moved = truth
    for axis in range(truth.ndim):
        if truth.shape[axis] > 20 and axis != across:
            moved = np.roll(moved, 1, axis)
            moved[(slice(None),) * axis + (0,)] = False  # not round the corner
    return MaskPrompt(moved, (0,) * truth.ndim)


def lower_half(truth: np.ndarray) -> Box:
    """About half of a structure along its longest axis, and some of its surroundings."""
    box = Box.of_mask(truth)
    axis = int(np.argmax(box.shape))
    high = list(box.high)
    high[axis] = (box.low[axis] + box.high[axis]) // 2
    return Box(box.low, tuple(high)).grow(3).intersect(Box.of_shape(truth.shape))


def refine(
    image: Volume, model: PromptableModel, part: Box, coarse: MaskPrompt, axis: int | None = None
) -> tuple[np.ndarray, Prediction]:
    """A closer look, and the mask on the whole image that it makes of the coarse one."""
    backend = LocalBackend(models={model.card.name: model})
    try:
        answer = backend.refine(backend.open(image), model.card.name, part, coarse=coarse, axis=axis, window=ANY)
    finally:
        backend.shutdown()
    mask = np.zeros(image.grid.shape, bool)
    kept = apply(coarse, answer)
    mask[kept.extent.slices] = kept.mask
    return mask, answer


class TestZoomingIn:
    """A closer look with models that know the truth mends a coarse mask inside a region, and nothing outside of it."""

    @pytest.mark.parametrize("kind", ZOOMS)
    def test_real_volumes(self, turned, kind):
        image, truth = turned
        right = truth.array > 0
        across = int(np.argmax(image.grid.spacing)) if kind == "slices" else None
        part, coarse = lower_half(right), rough(right, across)
        model = ZOOMS[kind](truth)
        mask, answer = refine(image, model, part, coarse, across)
        before = np.zeros(image.grid.shape, bool)
        before[coarse.extent.slices] = coarse.mask
        assert np.array_equal(without(mask, part), without(before, part))
        assert answer.scope == part
        if kind == "windows":
            assert np.array_equal(mask[part.slices], right[part.slices])
            return
        around = Box.of_mask(right).grow(3).intersect(image.grid.box)
        model.encoded.clear()
        mask, _ = refine(image, model, around, coarse, across)
        for region in model.encoded:
            seen = dice(*(sampled(found, image.grid, region.grid) for found in (mask, right)))
            assert seen >= (0.95 if kind == "slices" else ENOUGH)  # a coarse mask has a say among boxes made from it

    @pytest.mark.parametrize(("permutation", "flips"), TURNS, ids=str)
    def test_cubes_that_coincide_with_the_image_lose_nothing(self, permutation, flips):
        grid = Grid.plain((50, 60, 70), (0.75, 0.75, 0.75))
        shape = ball(grid.shape, (20, 31, 40), 9) & ~ball(grid.shape, (16, 30, 44), 5)
        image, truth = (
            reorient(volume, permutation, flips) for volume in (noise(grid), Volume(shape.astype(np.uint8), grid))
        )
        part = lower_half(truth.array > 0)
        mask, _ = refine(image, oracle.cube(truth, 64), part, rough(truth.array > 0))
        assert np.array_equal(mask[part.slices], truth.array[part.slices] > 0)

    @pytest.mark.parametrize("kind", ["cubes", "windows"])
    def test_many_windows_show_no_seam(self, kind):
        grid = Grid.plain((40, 150, 140), (1.5, 1.5, 1.5))
        truth = Volume((~ball(grid.shape, (20, 70, 70), 25)).astype(np.uint8), grid)
        model = oracle.cube(truth, 48) if kind == "cubes" else oracle.windows(truth, (16, 48, 48))
        mask, _ = refine(noise(grid), model, grid.box, rough(truth.array > 0))
        assert len(model.encoded) > 10
        assert dice(mask, truth.array > 0) > (0.999 if kind == "windows" else 0.99)
