"""SegVol: the official pipeline's numbers through the model, and windows of volumes in every orientation."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models import segvol_windows, zooming
from napari_sammed.models.base import BoxModel, GrowingModel, Logits, PromptableModel, ZoomingModel
from napari_sammed.models.segvol import SegVol, enlarged
from napari_sammed.models.segvol_published import published
from napari_sammed.models.segvol_windows import WindowRegion, measured, network_input
from napari_sammed.prompts import Point, Prompt, Prompts
from napari_sammed.volume import Volume
from tests.golden import fill
from tests.golden_3d import Golden3d
from tests.models.test_zooming import stored_points, users_prompts
from tests.orientations import oblique_grids
from tests.tiny_models import tiny_config, tiny_model

ANY = Window.preset("as-is")
MASKS = 1e-6
WINDOW = (8, 32, 48)  # of the tiny model


@pytest.fixture(scope="module")
def small() -> SegVol:
    return tiny_model("segvol")


def bright(shape: tuple[int, ...], seed: int = 0) -> Volume:
    """Noise that is foreground up to all borders."""
    return Volume.from_array(np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16))


def island(grid: Grid, box: Box) -> Volume:
    """Noise in a box, darkness around it."""
    array = np.full(grid.shape, -1000, np.int16)
    array[box.slices] = np.random.default_rng(1).integers(100, 900, box.shape)
    return Volume(array, grid)


# ---- `segvol_pipeline`


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "segvol_pipeline.npz")


@pytest.fixture(scope="module")
def model(golden) -> SegVol:
    return SegVol(fill(networks.create("segvol", golden.config)))


def volume_of(golden: Golden3d, case: str) -> Volume:
    return Volume.from_array(golden[f"{case}.volume_xyz"].transpose(2, 1, 0), rgb=False)


@pytest.mark.parametrize("case", ["A", "B"])
class TestPipeline:
    """`segvol_pipeline`; in B the volume is smaller than the window along z."""

    def test_the_foreground_in_the_window(self, golden, model, case):
        image = volume_of(golden, case)
        region = model.embed(image, model.plan(image.grid, Prompts(), None), ANY).region
        padding = [max(0, side - size) // 2 for side, size in zip(model.window, image.grid.shape, strict=True)]
        assert region.box.shift(padding).low == tuple(golden[f"{case}.foreground_start_coord"])
        assert region.box.shift(padding).high == tuple(golden[f"{case}.foreground_end_coord"])
        seen = network_input(image, region, measured(image)[0])
        assert seen.dtype == np.float32
        assert np.abs(seen - golden[f"{case}.image_zoom_out"][0]).max() < MASKS

    @pytest.mark.parametrize("mode", ["box", "point"])
    def test_zoom_out(self, golden, model, case, mode):
        image = volume_of(golden, case)
        embedding = model.embed(image, model.plan(image.grid, Prompts(), None), ANY)
        found = model.answer(embedding.features, users_prompts(golden, f"{case}.{mode}"))
        assert np.abs(enlarged(found, model.window) - golden[f"{case}.{mode}.global_logits"]).max() < MASKS

    @pytest.mark.parametrize("mode", ["box", "point"])
    def test_zoom_in_and_back_to_the_image(self, golden, model, case, mode):
        name, image = f"{case}.{mode}", volume_of(golden, case)
        stored = stored_points(golden, name)
        told: list[float] = []
        found = published(
            model,
            image,
            users_prompts(golden, name),
            (lambda _: next(stored)) if mode == "point" else None,
            progress=lambda _, done: told.append(done),
        )
        assert found.shape == image.grid.shape and found.dtype == np.float32
        box = measured(image)[1]
        inside = found[box.slices]
        stride = 1 if f"{name}.final_logits" in golden else 2
        expected = golden[f"{name}.final_logits" if stride == 1 else f"{name}.final_logits_s222"]
        assert np.abs(inside[::stride, ::stride, ::stride] - expected).max() < MASKS
        mask = np.unpackbits(golden[f"{name}.final_mask_packbits"])[: inside.size].reshape(inside.shape) > 0
        assert np.abs(inside[(inside > 0) != mask]).max(initial=0) < MASKS
        assert np.isfinite(found).sum() == inside.size and found.max() == inside.max()  # and nothing elsewhere
        count = int(golden[f"{name}.n_windows"])
        assert np.allclose(told, np.arange(count) / count)


class TestPublished:
    IMAGE = bright((10, 40, 60))

    def test_prompts_of_the_image(self, small):
        box = Box((2, 8, 10), (7, 25, 40))
        (asked,) = small.asked(WindowRegion.showing(self.IMAGE.grid, self.IMAGE.grid.box, WINDOW), Prompts((box,)))
        assert measured(self.IMAGE)[1] == self.IMAGE.grid.box
        found = published(small, self.IMAGE, Prompts((box,)))
        assert np.array_equal(found, published(small, self.IMAGE, asked))
        clicks = Prompts((Point((4, 20, 20)), Point((8, 8, 8), False)))
        assert np.array_equal(published(small, self.IMAGE, clicks), published(small, self.IMAGE, clicks))

    def test_can_be_stopped(self, small):
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Cancelled):
            published(small, self.IMAGE, Prompts((Box((2, 8, 10), (7, 25, 40)),)), cancel=cancel)

    @pytest.mark.parametrize(
        ("prompts", "said"),
        [
            ((Box((2, 8, 10), (7, 25, 40)), Point((4, 20, 20))), "a box or points, not both"),
            ((Box((2, 8, 10), (7, 25, 40)), Box((2, 30, 10), (7, 35, 40))), "one box, not several"),
            ((Point((4, 20, 20), False),), "only clicks outside"),
        ],
    )
    def test_what_the_official_code_does_not_take(self, small, prompts, said):
        with pytest.raises(InputError, match=said):
            published(small, self.IMAGE, Prompts(prompts))


# ---- windows of volumes


GRIDS = [
    *oblique_grids(4, (9, 45, 35)),  # every other one is a mirror image
    Grid.plain((3, 101, 67), (5.0, 0.7, 0.7)),  # thinner than the window
    Grid.plain((33, 21, 15), (0.5, 0.5, 2.0)),
]


def sampled_voxels(region: WindowRegion, image: Grid) -> np.ndarray:
    """Image indices of the samples, (*window, 3), by way of the world; with odd lengths none lies between voxels."""
    samples = np.moveaxis(np.indices(region.grid.shape), 0, -1)
    return np.floor(image.to_index(region.grid.to_world(samples)) + 0.5).astype(int)


@pytest.mark.parametrize("grid", GRIDS)
class TestGeometry:
    def region(self, small: SegVol, image: Volume, within: Box | None = None) -> WindowRegion:
        return small.embed(image, small.plan(image.grid, Prompts(), within), ANY).region

    def test_of_the_whole_image_the_foreground_is_seen(self, small, grid):
        box = Box((1, 3, 2), tuple(size - 2 for size in grid.shape)) if grid.shape[0] > 3 else Box((1, 3, 2), (2, 9, 9))
        image = island(grid, box)
        planned = small.plan(grid, Prompts(), None)
        assert planned == Region.of_box(grid, grid.box, WINDOW)
        found = self.region(small, image)
        assert found.box == found.seen == measured(image)[1]
        assert found.box.intersect(box) == found.box  # the darkest voxels of the noise do not count
        assert found.grid.same_place(grid.crop(found.box).resample(WINDOW))

    def test_of_a_part_all_is_seen(self, small, grid):
        part = Box((1, 4, 2), (2, 20, 13))
        image = island(grid, Box((0, 0, 0), (3, 5, 5)))
        assert self.region(small, image, part).box == part

    def test_samples_are_the_nearest_voxels(self, small, grid):
        image = bright(grid.shape)
        image = Volume(image.array, grid)
        region, limits = self.region(small, image), measured(image)[0]
        assert all(size % 2 for size in region.box.shape)
        expected = zooming.scaled(image.array[tuple(np.moveaxis(sampled_voxels(region, grid), -1, 0))], limits)
        assert np.array_equal(network_input(image, region, limits), expected)

    def test_logits_come_back_to_their_place(self, small, grid):
        """A ramp along each axis, sampled at the decoder's resolution, is the same ramp on the image."""
        image = Volume(bright(grid.shape).array, grid)
        part = Box((0, 2, 1), tuple(size - 1 for size in grid.shape))
        region = self.region(small, image, part)
        decoder = region.grid.resample((8, 8, 12))
        places = grid.to_index(decoder.to_world(np.moveaxis(np.indices(decoder.shape), 0, -1)))
        for axis in range(3):
            restored = small.restore(Logits(places[..., axis].astype(np.float32), region))
            assert restored.shape == part.shape and restored.dtype == np.float32
            voxels = np.indices(part.shape)[axis] + part.low[axis]
            ends = places[..., axis].min(), places[..., axis].max()  # beyond the outermost samples it is flat
            assert np.abs(restored - voxels.clip(*ends)).max() < 1e-3


class TestWindows:
    def test_voxel_by_voxel(self, small):
        image = bright((20, 70, 100))
        part = Box((2, 10, 20), (18, 30, 90))
        regions = small.windows(image.grid, part)
        limits = measured(image)[0]
        covered = np.zeros(image.grid.shape, bool)
        for region in regions:
            assert region.box.shape == region.grid.shape == WINDOW
            assert region.grid.same_place(image.grid.crop(region.box))
            seen = network_input(image, small.embed(image, region, ANY).region, limits)
            assert np.array_equal(seen, zooming.scaled(image.array[region.box.slices], limits))
            covered[region.box.slices] = True
        assert covered[part.slices].all()
        assert len(regions) == 3 * 1 * 2

    @pytest.mark.parametrize("grid", [Grid.plain((3, 21, 60)), *oblique_grids(2, (3, 21, 60))])
    def test_small_images_lie_in_the_middle_of_zeros(self, small, grid):
        image = Volume(bright(grid.shape).array, grid)
        limits = measured(image)[0]
        first, last = small.windows(grid, grid.box)
        assert first.box == Box((0, 0, 0), (3, 21, 48)) and last.box == Box((0, 0, 12), (3, 21, 60))
        for region in (first, last):
            assert region.seen == Box((-2, -5, region.box.low[2]), (6, 27, region.box.high[2]))
            seen = network_input(image, small.embed(image, region, ANY).region, limits)
            assert seen.shape == WINDOW
            inner = seen[2:5, 5:26]
            assert np.array_equal(inner, zooming.scaled(image.array[region.box.slices], limits))
            assert seen.sum(dtype=float) == pytest.approx(inner.sum(dtype=float))
            values = np.zeros(WINDOW, np.float32)
            values[2:5, 5:26] = 1
            assert np.array_equal(small.restore(Logits(values, region)), np.ones(region.box.shape))

    def test_an_image_of_the_windows_shape_is_not_cropped(self, small):
        image = island(Grid.plain(WINDOW), Box((2, 3, 4), (6, 20, 30)))
        (region,) = small.windows(image.grid, image.grid.box)
        assert small.embed(image, region, ANY).region.box == image.grid.box

    @pytest.mark.parametrize(
        ("grid", "part", "said"),
        [
            (Grid.plain((40, 40)), Box((0, 0), (9, 9)), "volumes only"),
            (Grid.plain((9, 40, 40)), Box((9, 0, 0), (12, 9, 9)), "outside the image"),
        ],
    )
    def test_what_cannot_be_looked_at_is_refused(self, small, grid, part, said):
        with pytest.raises(InputError, match=said):
            small.windows(grid, part)
        with pytest.raises(InputError, match=said):
            small.plan(grid, Prompts(), part)


# ---- prompts


def shown(low: tuple[int, ...], high: tuple[int, ...], image: tuple[int, ...] = (200, 500, 500)) -> WindowRegion:
    return WindowRegion.showing(Grid.plain(image), Box(low, high), WINDOW)


class TestPrompts:
    @pytest.mark.parametrize("size", [(8, 32, 48), (16, 64, 96), (9, 100, 250), (3, 7, 49), (120, 480, 333)])
    def test_a_voxel_lies_where_it_is_sampled(self, small, size):
        """Sample n reads the voxel v = floor((n + 1/2) size / window); where it is squeezed, v is at n."""
        region = shown((5, 6, 7), tuple(low + n for low, n in zip((5, 6, 7), size, strict=True)))
        for axis, (n, side) in enumerate(zip(size, WINDOW, strict=True)):
            voxels = np.tile(region.box.low, (n, 1))
            voxels[:, axis] += np.arange(n)
            (asked,) = small.asked(region, Prompts(tuple(Point(tuple(voxel)) for voxel in voxels)))
            assert np.array_equal(asked.points[:, axis], (2 * np.arange(n) + 1) * side // (2 * n))
            if n >= side:
                sampled = (2 * np.arange(side) + 1) * n // (2 * side)
                assert np.array_equal(asked.points[sampled, axis], np.arange(side))

    def test_boxes_include_their_last_voxel(self, small):
        region = shown((0, 0, 0), (16, 64, 96))
        (asked,) = small.asked(region, Prompts((Box((2, 8, 11), (4, 21, 96)),)))
        assert asked.box.tolist() == [1, 4, 5, 1, 10, 47]
        assert asked.points is None and asked.labels is None
        (asked,) = small.asked(shown((0, 0, 0), WINDOW), Prompts((Box((-3, 8, 11), (4, 21, 77)),)))
        assert asked.box.tolist() == [0, 8, 11, 3, 20, 47]  # cut to the window

    def test_points_keep_their_signs(self, small):
        region = shown((10, 0, 0), (18, 32, 48))
        points = (Point((10.4, 3.6, 9)), Point((17, 30, 40), False), Point((9, 3, 3)), Point((18, 3, 3), False))
        (asked,) = small.asked(region, Prompts(points))
        assert asked.points.tolist() == [[0, 4, 9], [7, 30, 40]]  # the others lie outside
        assert asked.labels.tolist() == [1, 0]
        assert asked.box is None

    def test_a_box_goes_with_points(self, small):
        prompts = Prompts((Point((3, 3, 3), False), Box((1, 2, 3), (5, 9, 9))))
        (asked,) = small.asked(shown((0, 0, 0), WINDOW), prompts)
        assert asked.box.tolist() == [1, 2, 3, 4, 8, 8]
        assert asked.labels.tolist() == [0]

    def test_boxes_are_parts_of_one_object(self, small):
        image = bright((20, 70, 100))
        embedding = small.embed(image, small.plan(image.grid, Prompts(), None), ANY)
        one, two = Box((2, 8, 10), (9, 30, 40)), Box((11, 40, 50), (19, 60, 90))
        inside, elsewhere = Point((4, 20, 20)), Point((10, 35, 45), False)
        found = small.decode(embedding, Prompts((one, inside, two, elsewhere)), None)
        alone = [
            small.decode(embedding, Prompts((one, inside, elsewhere)), None),
            small.decode(embedding, Prompts((two, elsewhere)), None),
        ]
        assert np.array_equal(found.values, np.maximum(alone[0].values, alone[1].values))
        assert not np.array_equal(alone[0].values, alone[1].values)
        assert found.region == embedding.region and 0 <= found.score <= 1

    def test_an_answer_before_has_no_say(self, small):
        image = bright((20, 70, 100))
        embedding = small.embed(image, small.plan(image.grid, Prompts(), None), ANY)
        prompts = Prompts((Point((4, 20, 20)),))
        found = small.decode(embedding, prompts, None)
        again = small.decode(embedding, prompts, Logits(np.ones((8, 8, 12), np.float32), embedding.region))
        assert np.array_equal(found.values, again.values)
        assert found.values.shape == (8, 8, 12) and np.ptp(found.values) > 0

    @pytest.mark.parametrize(
        ("prompts", "said"),
        [
            ((), "needs a click or a box"),
            ((Point((12, 3, 3), False),), "only clicks outside"),
            ((Point((9, 3, 3)),), r"from \(10, 0, 0\) to \(18, 32, 48\)"),
            ((Box((0, 0, 0), (10, 9, 9)), Point((12, 3, 3), False)), "choose the region"),
        ],
        ids=["nothing", "negative only", "click elsewhere", "box elsewhere"],
    )
    def test_nothing_to_look_for(self, small, prompts: tuple[Prompt, ...], said):
        with pytest.raises(InputError, match=said):
            small.asked(shown((10, 0, 0), (18, 32, 48)), Prompts(prompts))


# ---- images


def test_is_a_zooming_model(small):
    assert isinstance(small, PromptableModel) and isinstance(small, ZoomingModel)
    assert not isinstance(small, BoxModel | GrowingModel)
    assert small.zooms_in


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float16, np.float32, np.float64])
def test_any_dtype_looks_the_same(dtype):
    array = np.random.default_rng(0).integers(0, 200, (9, 33, 49))
    expected = Volume.from_array(array.astype(np.int64))
    image = Volume.from_array(array.astype(dtype))
    regions = [WindowRegion.showing(v.grid, measured(v)[1], WINDOW) for v in (expected, image)]
    assert regions[0] == regions[1]
    seen = [network_input(v, regions[0], measured(v)[0]) for v in (expected, image)]
    assert np.abs(seen[0] - seen[1]).max() < 1e-6
    assert seen[0].min() == 0 and seen[0].max() == 1


def test_shifted_grey_values_look_the_same():
    array = np.random.default_rng(0).normal(0, 100, (9, 33, 49)).astype(np.float32)
    above, below = Volume.from_array(array + 5000), Volume.from_array(array - 5000)
    assert measured(above)[1] == measured(below)[1]
    region = WindowRegion.showing(above.grid, measured(above)[1], WINDOW)
    seen = [network_input(v, region, measured(v)[0]) for v in (above, below)]
    assert np.abs(seen[0] - seen[1]).max() < 1e-4


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((4, 5, 6), -7, np.int16), "same value -7"),
        (np.full((4, 5, 6), 2.5), "same value 2.5"),
        (np.where(np.arange(120).reshape(4, 5, 6) == 7, np.nan, 1.0), "NaN or infinite"),
        (np.where(np.arange(120).reshape(4, 5, 6) == 7, -np.inf, np.arange(120.0).reshape(4, 5, 6)), "NaN or infinite"),
    ],
    ids=["even", "even fractions", "NaN", "infinite"],
)
def test_nothing_to_see_is_refused(small, array, said):
    image = Volume.from_array(array)
    with pytest.raises(InputError, match=said):
        small.embed(image, small.plan(image.grid, Prompts(), None), ANY)


def test_colours_are_seen_as_grey(small):
    grey = bright((9, 33, 49)).array.astype(np.float32)
    colours = Volume.from_array(np.stack([grey * 2, grey, grey * 0.5], -1), rgb=True)
    same = Volume.from_array(grey * np.float32(2 * 0.299 + 0.587 + 0.5 * 0.114))
    features = [small.embed(image, small.plan(image.grid, Prompts(), None), ANY).features for image in (colours, same)]
    np.testing.assert_allclose(*(f.float().numpy() for f in features), rtol=1e-3, atol=1e-4)


def test_a_volume_is_measured_once(small, monkeypatch):
    image = bright((9, 33, 49))
    measures = []
    limits = zooming.grey_limits
    monkeypatch.setattr(segvol_windows.zooming, "grey_limits", lambda array: measures.append(1) or limits(array))
    for region in (small.plan(image.grid, Prompts(), None), *small.windows(image.grid, image.grid.box)):
        small.embed(image, region, ANY)
    assert measures == [1]


def test_a_volume_is_not_copied(small):
    """As float32 it would take twice its memory; counting grey values and finding the foreground take half of it."""
    image = bright((64, 256, 256))
    tracemalloc.start()
    try:
        limits, foreground = measured(image)
        network_input(image, WindowRegion.showing(image.grid, foreground, WINDOW), limits)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.7 * image.array.nbytes


def test_half_precision_is_kept_in_half_the_memory(small):
    half = SegVol(fill(networks.create("segvol", tiny_config("segvol"))), dtype=torch.bfloat16)
    image = bright((9, 33, 49))
    prompts = Prompts((Point((4, 10, 10)),))
    embeddings = [m.embed(image, m.plan(image.grid, prompts, None), ANY) for m in (small, half)]
    assert embeddings[0].nbytes == 2 * embeddings[1].nbytes == embeddings[0].features.numel() * 4
    values = [m.decode(e, prompts, None).values for m, e in zip((small, half), embeddings, strict=True)]
    assert 0 < np.abs(values[0] - values[1]).max() < 0.05 * np.abs(values[0]).max()
