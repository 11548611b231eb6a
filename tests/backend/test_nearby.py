"""A brush and an eraser are tools for the place where they are used, whatever the random walker would make of them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend import nearby
from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box, Grid
from napari_sammed.models import registry
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.volume import Volume

MODEL = "random-walker"
SHAPE = (20, 72, 72)
CLICK = Point((10, 36, 32))
MIDDLE = ((10.0, 36.0, 40.0),)
OUTSIDE = ((10.0, 34.0, 62.0), (10.0, 38.0, 62.0))


@pytest.fixture(scope="module")
def scene():
    """An even object of 3 x 1 x 1 mm voxels on even ground: nothing but the prompts says where a part of it ends."""
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    body = ((z - 10) / 7) ** 2 + ((y - 36) / 20) ** 2 + ((x - 36) / 20) ** 2 <= 1
    array = np.full(SHAPE, 20.0) + 80 * body + np.random.default_rng(0).normal(0, 5, SHAPE)
    return Volume.from_array(array.astype(np.float32), (3, 1, 1)), body


@pytest.fixture(scope="module")
def backend():
    backend = LocalBackend()
    yield backend
    backend.shutdown()


def whole(answer) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[answer.box.slices] = answer.mask
    return mask


def near(stroke: Stroke, grid: Grid) -> np.ndarray:
    mask = np.zeros(grid.shape, bool)
    for box, part in nearby.neighbourhoods([stroke], grid):
        mask[box.slices] |= part
    return mask


def test_a_neighbourhood_is_a_radius_wide_in_millimetres():
    grid = Grid.plain((9, 41, 41), (3, 1, 1))
    found = near(Stroke(((4, 20, 20),), True, 6, axis=0), grid)
    assert found[4, 20].nonzero()[0].tolist() == list(range(8, 33))
    assert found[:, 20, 20].nonzero()[0].tolist() == [2, 3, 4, 5, 6], "6 mm are two slices"
    assert not found[2, 20, 27] and found[2, 20, 26]


@pytest.mark.parametrize("before", ["click", "mask"])
@pytest.mark.parametrize(("points", "positive"), [(MIDDLE, False), (OUTSIDE, True)], ids=["eraser", "brush"])
def test_nothing_changes_far_from_a_stroke(scene, backend, before, points, positive):
    volume, body = scene
    start = CLICK if before == "click" else MaskPrompt(body, (0, 0, 0))
    stroke = Stroke(points, positive, 4, axis=0)
    image = backend.open(volume)
    without = body if before == "mask" else whole(backend.predict(image, MODEL, Prompts((start,))))
    answer = backend.predict(image, MODEL, Prompts((start, stroke)))
    changed = whole(answer) ^ without
    assert changed.any() and not (changed & ~near(stroke, volume.grid)).any()
    assert (changed & whole(answer)).any() == positive
    later = whole(backend.predict(image, MODEL, Prompts((start, stroke, Point((10, 40, 32))))))
    assert (later ^ without).sum() < changed.sum() + 0.1 * body.sum(), "nor with the next click"


def test_the_stroke_that_an_object_starts_from_has_no_limits(scene, backend):
    volume, body = scene
    stroke = Stroke(((10, 36, 34), (10, 36, 38)), True, 3, axis=0)
    found = whole(backend.predict(backend.open(volume), MODEL, Prompts((stroke,))))
    assert (found & body).sum() > 0.8 * body.sum()
    assert nearby.strokes(Prompts((stroke, stroke.__class__(OUTSIDE, True, 2)))) != ()
    assert not nearby.needed(Prompts((stroke, CLICK)), registry.card(MODEL))


def test_models_that_take_points_are_asked_once(scene):
    stroke = Stroke(OUTSIDE, True, 4, axis=0)
    assert not nearby.needed(Prompts((CLICK, stroke)), registry.card("litemedsam"))
    assert nearby.needed(Prompts((CLICK, stroke)), registry.card(MODEL))
    thin = Stroke(OUTSIDE)
    assert not nearby.needed(Prompts((CLICK, thin)), registry.card(MODEL)), "a thin stroke is a hint like a click"
    assert nearby.inside(MaskPrompt(np.ones((1, 2, 2), bool), (0, 0, 0)), [stroke], scene[0].grid) is None
    assert Box.of_mask(near(stroke, scene[0].grid)).low[0] > 0
