"""The backend on this machine: what it caches, how it refuses, how long jobs can be stopped."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.volume import Volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder


@pytest.fixture
def model():
    return Thresholder(planar=True)


@pytest.fixture
def backend(model):
    backend = LocalBackend(models={"planar": model, "thresholder": Thresholder()})
    yield backend
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls()


def slice_box(index: int) -> Box:
    return Box((index, 0, 0), (index + 1, 40, 50))


def test_an_embedding_is_made_once_for_each_image_region_and_window(backend, model, scene):
    image = scene[0]
    opened = backend.open(image)
    click = Prompts((Point((10, 20, 12)),))
    for prompts in (click, click.add(Point((10, 20, 37))), click.add(Point((10, 0, 0), False))):
        backend.predict(opened, "planar", prompts, region=slice_box(10))
    assert model.embedded == [slice_box(10)]
    backend.predict(opened, "planar", click, region=slice_box(10), window=Window.displayed(0, 100))
    assert model.embedded == [slice_box(10)] * 2
    assert backend.open(Volume(image.array, image.grid)) == opened
    backend.close(opened)
    backend.predict(opened, "planar", click, region=slice_box(10))  # still open once
    backend.close(opened)
    with pytest.raises(InputError, match="not open"):
        backend.predict(opened, "planar", click)
    backend.open(image)
    backend.predict(opened, "planar", click, region=slice_box(10))
    assert model.embedded == [slice_box(10)] * 3


def test_slices_encoded_ahead_are_not_encoded_again(backend, model, scene):
    opened = backend.open(scene[0])
    backend.load("planar")
    window = Window.auto(scene[0])
    backend.prefetch(opened, "planar", [slice_box(8), slice_box(9)], window)
    backend.predict(opened, "planar", Prompts((Point((9, 20, 12)),)), region=slice_box(9))
    assert sorted(model.embedded, key=lambda box: box.low) in ([slice_box(9)], [slice_box(8), slice_box(9)])
    assert model.embedded.count(slice_box(9)) == 1


def test_a_box_across_slices_becomes_a_volume(backend, scene):
    image, first, _ = scene
    box = Box.of_mask(first).grow((0, 2, 2))
    prediction = backend.predict(backend.open(image), "planar", Prompts((box,)))
    mask = np.zeros(image.grid.shape, bool)
    mask[prediction.box.slices] = prediction.mask
    assert prediction.scope == box
    assert 2 * (mask & first).sum() / (mask.sum() + first.sum()) > 0.9
    assert set(prediction.slice_scores) <= set(range(box.low[0], box.high[0]))


def test_propagation_follows_the_structure_and_ends_with_it(backend, scene):
    image, first, _ = scene
    anchor = MaskPrompt(first[10:11], (10, 0, 0))
    told = []
    prediction = backend.propagate(
        backend.open(image), "planar", [anchor], 0, progress=lambda what, share: told.append((what, share))
    )
    mask = np.zeros(image.grid.shape, bool)
    mask[prediction.box.slices] = prediction.mask
    assert (mask[10] == first[10]).all()
    assert 2 * (mask & first).sum() / (mask.sum() + first.sum()) > 0.85
    assert told and all(0 <= share <= 1 for _, share in told)
    assert prediction.reductions and all("Stopped before slice" in text for text in prediction.reductions)


def test_cancel_stops_between_slices(backend, scene):
    image, first, _ = scene
    cancel = threading.Event()
    seen = []

    def progress(what: str, share: float) -> None:
        seen.append(what)
        if len(seen) == 2:
            cancel.set()

    anchor = MaskPrompt(first[10:11], (10, 0, 0))
    with pytest.raises(Cancelled):
        backend.propagate(backend.open(image), "planar", [anchor], 0, cancel=cancel, progress=progress)
    assert len(seen) == 2
    with pytest.raises(Cancelled):
        backend.predict(backend.open(image), "planar", Prompts((Point((10, 20, 12)),)), cancel=cancel)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (Prompts(), "no prompt"),
        (Prompts((Point((10, 20, 99)),)), "outside the image"),
        (Prompts((Stroke(((1, 1), (2, 2))),)), "2D prompt"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(backend, scene, prompts, message):
    with pytest.raises(InputError, match=message):
        backend.predict(backend.open(scene[0]), "planar", prompts)


def test_unknown_models_and_devices_are_named(scene):
    backend = LocalBackend(device="tpu")
    opened = backend.open(scene[0])
    with pytest.raises(InputError, match="litemedsam"):
        backend.predict(opened, "litemedsan", Prompts((Point((1, 1, 1)),)))
    with pytest.raises(InputError, match="no device 'tpu'"):
        backend.load("litemedsam")
    backend.shutdown()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_poison_networks_are_refused(backend, scene, value):
    array = scene[0].array.copy()
    array[3, 4, 5] = value
    with pytest.raises(InputError, match="1 voxels that are NaN or infinite"):
        backend.open(Volume(array, scene[0].grid))
    with pytest.raises(InputError, match="same value 7 everywhere"):
        backend.open(Volume(np.full((4, 5), 7), Volume.from_array(np.zeros((4, 5))).grid))


class Hungry(Thresholder):
    def embed(self, image, region, window):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")


def test_running_out_of_memory_is_said_plainly_and_the_backend_lives_on(scene):
    backend = LocalBackend(models={"hungry": Hungry(), "thresholder": Thresholder()})
    opened = backend.open(scene[0])
    click = Prompts((Point((10, 20, 12)),))
    with pytest.raises(InputError, match="Memory ran out"):
        backend.predict(opened, "hungry", click)
    assert backend.predict(opened, "thresholder", click).mask.any()
    backend.shutdown()


def test_weights_of_unknown_size_are_fetched_with_progress(monkeypatch, scene):
    def load(name, weights, device, fetched, *more):
        for done, total in ((5, None), (5, 20), (0, 0)):
            fetched(done, total)
        return Thresholder()

    monkeypatch.setattr("napari_sammed.models.registry.load", load)
    told = []
    backend = LocalBackend()
    click = Prompts((Point((10, 20, 12)),))
    backend.predict(backend.open(scene[0]), "litemedsam", click, progress=lambda *what: told.append(what))
    backend.shutdown()
    assert [share for what, share in told if what.startswith("fetching")] == [0, 0.25, 0]
