"""Models of slices on volumes: clicks are answered on their slice, and carried through the stack."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.evaluation.methods import methods
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Grid
from napari_sammed.prompts import Point
from napari_sammed.volume import Volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

SHAPE = (24, 40, 44)


def column() -> np.ndarray:
    """A round column through slices 3 to 20."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return ((y - 20) ** 2 + (x - 22) ** 2 < 81) & (z >= 3) & (z <= 20)


@pytest.fixture
def backend():
    backend = LocalBackend("cpu", models={"planar": Thresholder(planar=True)})
    yield backend
    backend.shutdown()


def image(target: np.ndarray, beside: np.ndarray | None = None) -> Volume:
    bright = target if beside is None else target | beside
    noise = np.random.default_rng(0).uniform(-2, 2, SHAPE)
    return Volume(20 + 80 * bright + noise, Grid.plain(SHAPE, (3.0, 1.0, 1.0)))


def test_a_click_on_a_slice_is_carried_through_the_volume(backend):
    target = column()
    opened = methods(["planar+propagation"], backend)["planar+propagation"](image(target))
    opened.begin()
    found = opened.answer(Point((12, 20, 22)))
    assert found.dtype == bool and dice(found, target) > 0.95
    assert set(np.flatnonzero(found.any(axis=(1, 2)))) == set(range(3, 21))
    assert opened.weights == "thresholder-1"
    opened.close()


def test_a_further_click_is_answered_on_its_slice_and_carried_as_well(backend):
    """A second column, apart from the first, belongs to the object: nothing finds it before it is clicked."""
    target, other = column(), np.zeros(SHAPE, bool)
    other[8:21, 18:23, 36:42] = True
    opened = methods(["planar+propagation"], backend)["planar+propagation"](image(target, other))
    opened.begin()
    first = opened.answer(Point((5, 20, 22)))
    assert not (first & other).any() and dice(first, target) > 0.95
    corrected = opened.answer(Point((14, 20, 39)))
    assert dice(corrected, target | other) > 0.9 and corrected[10:20][other[10:20]].mean() > 0.9
    opened.begin()
    again = opened.answer(Point((5, 20, 22)))
    assert (again == first).all(), "another structure begins without the prompts of the one before"
    opened.close()


def test_the_plain_name_carries_as_well_and_says_the_same(backend):
    asked = methods(["planar", "planar+propagation"], backend)
    volume = image(column())
    one, other = (asked[name](volume) for name in asked)
    for opened in (one, other):
        opened.begin()
    assert (one.answer(Point((9, 20, 22))) == other.answer(Point((9, 20, 22)))).all()
    one.close()
    other.close()


def test_nothing_is_carried_through_flat_images_or_by_models_of_volumes(backend):
    flat, _, _ = two_balls((40, 50))
    with pytest.raises(InputError, match="flat image has no slices"):
        methods(["planar+propagation"], backend)["planar+propagation"](flat)
    with pytest.raises(InputError, match=r"leave '\+propagation' out"):
        methods(["random-walker+propagation"], backend)
    with pytest.raises(InputError, match="none"):
        methods(["none+propagation"], backend)


def test_a_real_model_follows_a_ball(weights):
    """Over five thick slices; `test_real_models_follow_one_of_two_balls` goes further."""
    name, slices = "litemedsam+propagation", 5
    z, y, x = np.ogrid[:slices, :48, :60]
    target = ((z - slices // 2) / (slices / 4)) ** 2 + ((y - 24) / 10) ** 2 + ((x - 38) / 10) ** 2 <= 1
    noise = np.random.default_rng(0).uniform(-2, 2, target.shape)
    volume = Volume(20 + 160 * target + noise, Grid.plain(target.shape, (40 / slices, 1.0, 1.0)))
    backend = LocalBackend("cpu")
    opened = methods([name], backend)[name](volume)
    opened.begin()
    found = opened.answer(Point((slices // 2, 24, 38)))
    assert dice(found, target) > 0.8 and len(opened.weights) == 64
    opened.close()
    backend.shutdown()


@pytest.mark.full
@pytest.mark.parametrize("name", ["litemedsam+propagation", "click+propagation"])
def test_real_models_follow_one_of_two_balls(weights, name):
    volume, _, second = two_balls((11, 48, 60))
    backend = LocalBackend("cpu")
    opened = methods([name], backend)[name](volume)
    opened.begin()
    found = opened.answer(Point(tuple(int(c) for c in np.argwhere(second).mean(0).round())))
    assert dice(found, second) > 0.8 and len(opened.weights) == 64
    opened.close()
    backend.shutdown()
