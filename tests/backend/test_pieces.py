"""Masks corrected by clicks with a model that takes no masks."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.session import Session
from tests.phantoms import two_balls

MODEL = "random-walker"


@pytest.fixture(scope="module")
def scene():
    return two_balls((24, 48, 60))


@pytest.fixture
def backend():
    backend = LocalBackend()
    yield backend
    backend.shutdown()


def whole(answer, shape) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[answer.box.slices] = answer.mask
    return mask


def centre(mask: np.ndarray) -> tuple[float, ...]:
    return tuple(float(round(c)) for c in np.argwhere(mask).mean(0))


@pytest.mark.parametrize("by", ["click", "stroke"])
def test_a_positive_click_adds_what_it_marks(scene, backend, by):
    volume, first, second = scene
    z, y, x = centre(second)
    marked = Point((z, y, x)) if by == "click" else Stroke(((z, y - 3, x), (z, y + 3, x)))
    answer = backend.predict(backend.open(volume), MODEL, Prompts((MaskPrompt(first, (0, 0, 0)), marked)))
    mask = whole(answer, volume.grid.shape)
    assert mask[first].all()
    assert dice(mask & ~first, second & ~first) > 0.9
    assert "takes no masks" in answer.reductions[-1] and answer.scope == volume.grid.box


def test_a_negative_click_takes_away_what_it_marks(scene, backend):
    volume, first, second = scene
    prompts = Prompts((MaskPrompt(first | second, (0, 0, 0)), Point(centre(first), False)))
    answer = backend.predict(backend.open(volume), MODEL, prompts)
    mask = whole(answer, volume.grid.shape)
    assert not (mask & ~(first | second)).any()
    assert dice(mask, second) > 0.9


def test_signs_together(scene, backend):
    volume, first, second = scene
    prompts = Prompts((MaskPrompt(first, (0, 0, 0)), Point(centre(first), False), Point(centre(second))))
    mask = whole(backend.predict(backend.open(volume), MODEL, prompts), volume.grid.shape)
    assert dice(mask, second) > 0.85


def test_what_was_painted_is_corrected_and_not_thrown_away(scene, backend):
    volume, first, second = scene
    with Session(volume, backend) as session:
        session.new_object()
        box = Box.of_mask(first)
        session.edit(first[box.slices], box)
        session.add(Point(centre(second)), model=MODEL).result(30)
        assert (session.labels() > 0)[first].all()
        session.add(Point((0.0, 0.0, 0.0), False), model=MODEL).result(30)
        assert (session.labels() > 0)[first].mean() > 0.95
