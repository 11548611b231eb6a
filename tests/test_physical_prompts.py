"""The same physical prompt gives the same physical mask, however the volume is stored."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume, resample_labels
from tests.orientations import ALL_48, oblique_grids, reorient
from tests.phantoms import two_balls
from tests.thresholder import Thresholder


@pytest.fixture(scope="module")
def backend():
    backend = LocalBackend(models={"thresholder": Thresholder(), "planar": Thresholder(planar=True)})
    yield backend
    backend.shutdown()


@pytest.fixture(scope="module")
def scene():
    """An anisotropic volume with noise, so that no two orientations look alike, and the click's place in the world."""
    image, first, _ = two_balls((18, 30, 40))
    return image, first, image.grid.to_world(np.argwhere(first).mean(0))


def predict(backend: LocalBackend, image: Volume, model: str, prompts: Prompts) -> np.ndarray:
    opened = backend.open(image)
    prediction = backend.predict(opened, model, prompts)
    backend.close(opened)
    mask = np.zeros(image.grid.shape, bool)
    mask[prediction.box.slices] = prediction.mask
    return mask


def physical_centroid(mask: np.ndarray, image: Volume) -> np.ndarray:
    return image.grid.to_world(np.argwhere(mask).mean(0))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(("permutation", "flips"), ALL_48, ids=str)
def test_a_click_in_all_48_orientations(backend, scene, permutation, flips):
    image, first, world = scene
    turned = reorient(image, permutation, flips)
    index = turned.grid.to_index(world)
    mask = predict(backend, turned, "thresholder", Prompts((Point(tuple(index)),)))
    back = resample_labels(Volume(mask, turned.grid), image.grid) > 0
    assert dice(back, first) == 1.0
    offset = image.grid.to_index(physical_centroid(mask, turned)) - np.argwhere(first).mean(0)
    assert np.abs(offset).max() < 0.5


@pytest.mark.parametrize(("permutation", "flips"), ALL_48[::5], ids=str)
def test_a_slice_box_in_other_orientations(backend, scene, permutation, flips):
    """Also for a 2D model: the slice is the one that the physical box is flat in."""
    image, first, _ = scene
    z = round(float(np.argwhere(first).mean(0)[0]))
    box = Box.of_mask(first[z : z + 1]).shift((z, 0, 0))
    reference = predict(backend, image, "planar", Prompts((box,)))
    assert reference.any() and not reference[:z].any() and not reference[z + 1 :].any()
    turned = reorient(image, permutation, flips)
    corners = turned.grid.to_index(image.grid.to_world(np.array([box.low, np.array(box.high) - 1])))
    mask = predict(backend, turned, "planar", Prompts((Box.around(corners),)))
    back = resample_labels(Volume(mask, turned.grid), image.grid) > 0
    assert dice(back, reference) == 1.0


@pytest.mark.parametrize("number", range(20))
def test_a_click_on_oblique_grids(backend, scene, number):
    image, first, _ = scene
    tilted = Volume(image.array, list(oblique_grids(20, image.grid.shape))[number])
    world = tilted.grid.to_world(np.argwhere(first).mean(0))
    turned = reorient(tilted, *ALL_48[7 * number % 48])
    mask = predict(backend, turned, "thresholder", Prompts((Point(tuple(turned.grid.to_index(world))),)))
    back = resample_labels(Volume(mask, turned.grid), tilted.grid) > 0
    assert dice(back, first) == 1.0
    assert np.abs(tilted.grid.to_index(physical_centroid(mask, turned)) - np.argwhere(first).mean(0)).max() < 0.5
