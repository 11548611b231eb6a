"""SegVol's way: a look at the whole volume, then a closer one around the pieces that hold a prompt."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume
from tests import oracle
from tests.phantoms import ball

WINDOW = (16, 32, 32)
GRID = Grid.plain((60, 130, 120), (2.0, 0.8, 0.8))
NEAR, FAR = (20, 40, 40), (45, 100, 95)


@pytest.fixture(scope="module")
def truth() -> Volume:
    """Two things; each loses its surface where the whole volume is squeezed into a window."""
    return Volume((ball(GRID.shape, NEAR, 13) | ball(GRID.shape, FAR, 9)).astype(np.uint8), GRID)


@pytest.fixture(scope="module")
def image() -> Volume:
    return Volume(np.random.default_rng(0).normal(100, 10, GRID.shape).astype(np.float32), GRID)


@pytest.fixture
def model(truth):
    return oracle.windows(truth, WINDOW)


@pytest.fixture
def backend(model):
    backend = LocalBackend(models={"segvol": model})
    yield backend
    backend.shutdown()


def shown(answer) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[answer.box.slices] = answer.mask
    return mask


def around(centre, radius) -> Box:
    return Box(tuple(c - radius for c in centre), tuple(c + radius + 1 for c in centre))


def test_the_prompted_piece_is_exact_and_the_other_stays_coarse(backend, model, image, truth):
    answer = backend.predict(backend.open(image), "segvol", Prompts((Point(NEAR),)))
    mask, right = shown(answer), truth.array > 0
    near, far = around(NEAR, 15), around(FAR, 11)
    assert np.array_equal(mask[near.slices], right[near.slices])
    assert mask[far.slices].any()
    assert not np.array_equal(mask[far.slices], right[far.slices])
    assert answer.scope == GRID.box
    windows = [region.box for region in model.encoded[1:]]
    assert len(windows) > 1
    assert all(box.intersect(near) is not None for box in windows)


def test_both_pieces_where_both_hold_a_prompt(backend, image, truth):
    answer = backend.predict(backend.open(image), "segvol", Prompts((Point(NEAR), Point(FAR))))
    assert np.array_equal(shown(answer), truth.array > 0)


def test_a_chosen_part_is_looked_at_once(backend, model, image):
    backend.predict(backend.open(image), "segvol", Prompts((Point(NEAR),)), region=around(NEAR, 15))
    assert len(model.encoded) == 1


def test_it_says_so_and_where_it_is(backend, image):
    told = []
    answer = backend.predict(
        backend.open(image), "segvol", Prompts((Point(NEAR),)), progress=lambda what, share: told.append((what, share))
    )
    assert any(sentence.startswith("Looked closer in") for sentence in answer.reductions)
    steps = [share for what, share in told if what.startswith("looking closer")]
    assert steps == sorted(steps)
    assert len(steps) > 1


def test_it_can_be_cancelled_between_windows(backend, model, image):
    cancel, begun = threading.Event(), []

    def progress(what: str, share: float) -> None:
        if what.startswith("looking closer"):
            begun.append(what)
        if len(begun) == 2:
            cancel.set()

    name = backend.open(image)
    with pytest.raises(Cancelled):
        backend.predict(name, "segvol", Prompts((Point(NEAR),)), cancel=cancel, progress=progress)
    stopped = len(model.encoded)
    backend.predict(name, "segvol", Prompts((Point(NEAR),)))
    assert stopped <= 3 < len(model.encoded)


def test_clicks_come_first(backend, image):
    """What is asked meanwhile about the image is answered between the windows."""
    name = backend.open(image)
    answered = []

    def progress(what: str, share: float) -> None:
        if what.startswith("looking closer") and not answered and not asked.is_alive():
            asked.start()
            end = time.monotonic() + 5
            while backend._inference._queue.empty() and time.monotonic() < end:
                time.sleep(0.005)

    def ask() -> None:
        backend.predict(name, "segvol", Prompts((Point(FAR),)), region=around(FAR, 11))
        answered.append("click")

    asked = threading.Thread(target=ask)
    backend.refine(name, "segvol", GRID.box, prompts=Prompts((Point(NEAR), Point(FAR))), progress=progress)
    answered.append("closer look")
    asked.join(10)
    assert answered == ["click", "closer look"]
