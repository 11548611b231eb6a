"""Images that are read by region: the same masks as in memory, and nothing read that is not looked at."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.lazy import LazyVolume
from napari_sammed.measures import measure
from napari_sammed.models.cube_choice import first_cube
from napari_sammed.models.sam_med3d import network_input
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from napari_sammed.volume import Volume
from tests.counting import Counting
from tests.phantoms import two_balls
from tests.thresholder import Thresholder
from tests.tiny_models import tiny_model

zarr = pytest.importorskip("zarr")

SHAPE = (24, 160, 200)


@pytest.fixture
def scene() -> Volume:
    return two_balls(SHAPE)[0]


@pytest.fixture
def backend():
    backend = LocalBackend(models={"thresholder": Thresholder(), "planar": Thresholder(planar=True)})
    yield backend
    backend.shutdown()


def on_disk(kind: str, array: np.ndarray, folder: Path):
    if kind == "zarr":
        stored = zarr.create_array(store=folder / "a.zarr", shape=array.shape, chunks=(8, 32, 32), dtype=array.dtype)
        stored[:] = array
        return stored
    if kind == "dask":
        return dask.array.from_array(array, chunks=(5, 60, 70))
    np.save(folder / "a.npy", array)
    return np.load(folder / "a.npy", mmap_mode="r")


@pytest.mark.parametrize("kind", ["zarr", "dask", "memmap"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, ">i2"], ids=str)
def test_masks_are_those_of_the_same_image_in_memory(kind, dtype, scene, backend, tmp_path) -> None:
    array = scene.array.astype(dtype)
    lazy = LazyVolume([on_disk(kind, array, tmp_path)], scene.grid)
    near = Volume(array, scene.grid)
    assert lazy.dtype == near.dtype and lazy.channels == 1
    np.testing.assert_array_equal(lazy.array, near.array)
    masks = []
    for image in (near, lazy):
        with Session(image, backend, window=Window.displayed(0, 255)) as session:
            session.look_at(Box((12, 0, 0), (13, 160, 200)))
            for model, axis in (("random-walker", None), ("thresholder", None), ("planar", 1)):
                session.new_object()
                session.add(Point((12, 80, 50)), model=model, axis=axis).result(30)
            masks.append(session.labels())
            measured = [measure(state.mask, image) for state in session.objects.values()]
        if image is near:
            expected = measured
    np.testing.assert_array_equal(*masks)
    assert masks[0].any() and measured == expected


def test_the_part_of_a_large_image_is_what_is_in_view(backend) -> None:
    array = np.full((8, 3000, 3000), 20, np.uint8)
    array[2:6, 1400:1500, 1600:1700] = 120
    far = Counting(array)
    with Session(LazyVolume([far], Grid.plain(array.shape)), backend) as session:
        far.read, far.limit = 0, 2 * 8 * 600 * 700
        session.look_at(Box((3, 1200, 1400), (4, 1700, 2000)))
        session.add(Point((3, 1450, 1650)), model="planar", axis=0).result(10)
        region = session.history.done[-1].region
        assert region == Box((3, 1184, 1376), (4, 1728, 2016))  # at multiples of 32
        np.testing.assert_array_equal(session.objects[1].mask.extent.low, (3, 1400, 1600))
        session.look_at(Box((3, 1390, 1590), (4, 1420, 1620)))  # zoomed in: the part stays, with its prompts
        session.add(Point((3, 1405, 1605)), model="planar", axis=0).result(10)
        assert session.history.done[-1].region == region
        session.look_at(Box((3, 0, 0), (4, 3000, 3000)))  # zoomed out: a wider part, and everything in it
        far.limit = None
        session.add(Point((3, 1495, 1695)), model="planar", axis=0).result(10)
        assert session.history.done[-1].region == Box((3, 0, 0), (4, 3000, 3000))
        assert session.objects[1].mask.extent == Box((3, 1400, 1600), (4, 1500, 1700))


@pytest.mark.parametrize("view", [None, Box((3, 1200, 1400), (4, 1700, 2000))], ids=["nobody", "view"])
@pytest.mark.parametrize("model", ["thresholder", "random-walker", "planar"])
def test_nothing_outside_of_the_part_is_read(model, view, backend) -> None:
    array = np.full((8, 3000, 3000), 20, np.uint8)
    array[2:6, 1400:1500, 1600:1700] = 120
    array += np.random.default_rng(0).integers(0, 3, array.shape, np.uint8)
    far = Counting(array, limit=array.nbytes // 4)
    with Session(LazyVolume([far], Grid.plain(array.shape)), backend) as session:
        session.look_at(view)
        answer = session.add(Point((3, 1450, 1650)), model=model, axis=0).result(30)
        assert answer.mask.any() and answer.scope.shape[1] <= 1100
        measure(session.objects[1].mask, session.image)
        if model == "random-walker":
            session.refine().result(30)


def test_a_walk_stays_near_the_object() -> None:
    array = np.random.default_rng(0).integers(0, 255, (9, 3000, 3000), np.uint8)
    far = Counting(array, limit=array.nbytes // 10)
    backend = LocalBackend(models={"litemedsam": tiny_model("litemedsam")})
    opened = backend.open(LazyVolume([far], Grid.plain(array.shape)))
    anchor = MaskPrompt(np.ones((1, 200, 150), bool), (4, 1000, 2900 - 50))
    answer = backend.propagate(opened, "litemedsam", [anchor], 0, window=Window.preset("as-is"))
    assert answer.scope == Box((0, 900, 2600), (9, 1300, 3000))
    assert far.read > 9 * 10000
    backend.shutdown()


def test_an_image_is_opened_by_a_sample_of_it() -> None:
    array = np.random.default_rng(0).integers(1, 900, (40, 1024, 1024)).astype(np.uint16)
    far = Counting(array, limit=array.nbytes // 50)
    image = LazyVolume([far], Grid.plain(array.shape))
    image.check_usable()
    low, high = Window.auto(image).limits(image)
    assert low == pytest.approx(0.005 * 900, abs=2) and high == pytest.approx(0.995 * 900, abs=2)
    assert image.hash == LazyVolume([Counting(array)], Grid.plain(array.shape)).hash
    assert image.hash != LazyVolume([Counting(array)], Grid.plain(array.shape, (2, 1, 1))).hash
    assert image.hash != LazyVolume([Counting(array.astype(np.int16))], Grid.plain(array.shape)).hash
    assert image.hash != LazyVolume([Counting(array + np.uint16(1))], Grid.plain(array.shape)).hash


def test_of_a_pyramid_no_finer_level_is_read_than_is_used() -> None:
    fine = np.kron(np.random.default_rng(0).integers(0, 255, (4, 64, 64), np.uint8), np.ones((1, 16, 16), np.uint8))
    levels = [Counting(fine), Counting(fine[:, ::4, ::4]), Counting(fine[::2, ::8, ::8])]
    image = LazyVolume(levels, Grid.plain(fine.shape))
    assert image.factors == ((1, 1, 1), (1, 4, 4), (2, 8, 8))
    for level in levels:
        level.read = 0
    slab = Box((3, 0, 0), (4, 1024, 1024))
    np.testing.assert_array_equal(image.part(slab, (1, 256, 256)), fine[3:4, ::4, ::4])
    np.testing.assert_array_equal(image.part(slab, (1, 100, 100)), fine[2:3, ::8, ::8])
    assert levels[0].read == 0
    np.testing.assert_array_equal(
        image.part(slab.intersect(Box((0, 5, 7), (4, 40, 50))), (1, 35, 43)), fine[3:4, 5:40, 7:50]
    )
    array, grid = image.around(Box((1, 100, 200), (3, 300, 500)), (2, 40, 40))
    np.testing.assert_array_equal(array, fine[0:4, ::4, ::4][1:3, 25:75, 50:125])
    np.testing.assert_allclose(grid.to_world((0, 0, 0)), (201.5, 101.5, 1))  # x, y, z of the first coarse voxel
    assert grid.spacing == (1, 4, 4)


def test_levels_that_were_rounded_lie_right() -> None:
    fine = np.arange(1025 * 1025, dtype=np.int32).reshape(1025, 1025)
    image = LazyVolume([fine, fine[::2, ::2]], Grid.plain(fine.shape))
    assert image.factors[1] == (2, 2)
    part = image.part(Box((512, 0), (1025, 512)), (200, 200))
    np.testing.assert_array_equal(part, fine[512:1025:2, 0:512:2])


def test_a_cube_is_sampled_from_the_part_it_covers(scene) -> None:
    far = Counting(scene.array)
    lazy = LazyVolume([far], scene.grid)
    prompts = Prompts((Point((12, 80, 50)),))
    region = first_cube(scene.grid, prompts, None, 32)
    far.read, far.limit = 0, scene.array.nbytes // 3
    np.testing.assert_allclose(network_input(lazy, region), network_input(scene, region), atol=1e-5)


NETWORKS = ["litemedsam", "medsam", "sam-med2d", "sam-vit-b", "sam-med3d", "segvol"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_see_the_same(name, scene) -> None:
    model = tiny_model(name)
    far = Counting(scene.array)
    prompts = Prompts((Point((12, 80, 50)) if "point" in model.card.prompts else Box((12, 60, 30), (13, 100, 70)),))
    part = Box((4, 20, 10), (20, 140, 90)) if 3 in model.card.dimensions else Box((12, 20, 10), (13, 140, 90))
    answers = []
    for image in (scene, LazyVolume([far], scene.grid)):
        backend = LocalBackend(models={name: model})
        opened = backend.open(image)
        far.read = 0
        answers.append(backend.predict(opened, name, prompts, window=Window.displayed(0, 200), region=part))
        backend.shutdown()
    assert far.read
    np.testing.assert_allclose(answers[0].logits.values, answers[1].logits.values, atol=1e-4)


@pytest.mark.parametrize("view", [None, Box((12, 20, 20), (13, 140, 90))], ids=["nobody", "view"])
def test_undo_resume_and_replay(view, scene, backend, tmp_path) -> None:
    def image() -> LazyVolume:
        return LazyVolume([on_disk("memmap", scene.array, tmp_path)], scene.grid)

    journal = tmp_path / "session.jsonl"
    with Session(image(), backend, journal=journal) as session:
        session.look_at(view)
        session.add(Point((12, 80, 50)), model="planar", axis=0).result(10)
        once = session.labels()
        session.add(Point((12, 20, 90), False), model="planar", axis=0).result(10)
        session.undo()
        np.testing.assert_array_equal(session.labels(), once)
        session.redo()
        twice = session.labels()
    with Session(image(), backend, journal=journal) as session:
        np.testing.assert_array_equal(session.labels(), twice)
        session.undo()
        np.testing.assert_array_equal(session.labels(), once)
        session.redo()
    history = replay(journal, image(), backend)
    np.testing.assert_array_equal(history.labels(scene.grid.box), twice)


def test_what_does_not_fit_into_memory_is_refused(backend) -> None:
    huge = np.broadcast_to(np.arange(4096, dtype=np.uint8), (600, 4096, 4096))
    image = LazyVolume([huge], Grid.plain(huge.shape), "brain")
    with pytest.raises(InputError, match=r"9\.4 GiB of brain would have to be read at once"):
        _ = image.array
    with (
        Session(image, backend) as session,
        pytest.raises(InputError, match=r"600 x 4096 x 4096 voxels takes 37\.5 GiB"),
    ):
        backend.predict(session.image_id, "thresholder", Prompts((Point((1, 2, 3)),)))


def test_errors() -> None:
    grid = Grid.plain((4, 5, 6))
    with pytest.raises(InputError, match="complex"):
        LazyVolume([np.zeros((4, 5, 6), complex)], grid)
    with pytest.raises(InputError, match="does not lie on a grid"):
        LazyVolume([np.zeros((4, 5, 5))], grid)
    with pytest.raises(InputError, match="no level of an image"):
        LazyVolume([np.zeros((4, 5, 6)), np.zeros((8, 5, 6))], grid)
    with pytest.raises(InputError, match="no level of an image"):
        LazyVolume([np.zeros((4, 5, 6)), np.zeros((5, 6))], grid)
    holes = np.zeros((4, 5, 6))
    holes[0, 0, 0] = np.nan
    image = LazyVolume([holes], grid, "scan")
    image.check_usable()
    assert image.extremes == (0, 0)
    image.part(Box((1, 0, 0), (2, 5, 6)))
    with pytest.raises(InputError, match="scan has voxels that are NaN"):
        image.part(grid.box)
    with pytest.raises(InputError, match="no voxel that is a finite number"):
        LazyVolume([np.full((4, 5, 6), np.inf)], grid).check_usable()


def test_colour(backend) -> None:
    array = np.random.default_rng(0).integers(0, 255, (300, 200, 4), np.uint8)
    image = LazyVolume([Counting(array), Counting(array[::2, ::2])], Grid.plain((300, 200)))
    near = Volume.from_array(array, rgb=True)
    assert image.channels == 3
    box = Box((10, 20), (110, 90))
    np.testing.assert_array_equal(image.part(box), near.part(box))
    assert image.part(box, (40, 30)).shape == (50, 35, 3)


def test_brush_and_closer_look_stay_near_the_object(backend) -> None:
    array = np.random.default_rng(0).integers(20, 24, (40, 2000, 2000), np.uint8)
    array[10:30, 1000:1060, 700:760] += 100
    far = Counting(array, limit=array.nbytes // 3)
    with Session(LazyVolume([far], Grid.plain(array.shape)), backend) as session:
        session.look_at(Box((20, 900, 600), (21, 1160, 860)))
        once = session.add(Point((20, 1030, 730)), model="random-walker").result(30)
        stroke = Stroke(tuple((20, 1010 + step, 764) for step in range(20)), radius=3)
        session.add(stroke, model="random-walker").result(30)
        assert (session.labels(Box((20, 1012, 763), (21, 1028, 766))) == 1).all()
        session.refine().result(30)
        session.undo()
        session.undo()
        np.testing.assert_array_equal(session.objects[1].mask.mask, once.mask)
