"""Images that are unusual or broken: a mask or a sentence, and at a server the same as here."""

from __future__ import annotations

import re

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.prompts import Point, Prompts
from napari_sammed.server.settings import Settings
from napari_sammed.volume import Volume
from tests.parameters import few
from tests.server.serving import in_thread, volume

PLAIN = volume().array
FLAT = PLAIN[5]


def one(value: float, dtype=np.float32) -> np.ndarray:
    """Voxels of which one is something else."""
    voxels = PLAIN.astype(dtype)
    voxels[2, 3, 4] = value
    return voxels


ODD = {
    "NaN": one(np.nan),
    "one infinity": one(np.inf),
    "minus infinity": one(-np.inf),
    "only NaN": np.full(PLAIN.shape, np.nan),
    "only infinities": np.full(PLAIN.shape, np.inf, np.float32),
    "constant": np.full(PLAIN.shape, 7, np.int16),
    "constant, not a whole number": np.full(PLAIN.shape, 0.1, np.float32),
    "zeros": np.zeros(PLAIN.shape, np.uint8),
    "one bright voxel": one(1e6),
    "the largest of float32": one(3e38),
    "the largest of float64": one(1e308, np.float64),
    "smallest of float64": PLAIN * 1e-320,
    "far from zero": PLAIN + 1e9,
    "int64 extremes": np.where(PLAIN > 350, np.iinfo(np.int64).max, np.iinfo(np.int64).min),
    "uint64 extremes": np.where(PLAIN > 350, np.iinfo(np.uint64).max, np.uint64(0)),
    "int8": (PLAIN // 4).astype(np.int8),
    "uint32": PLAIN.astype(np.uint32),
    "bool": PLAIN > 350,
    "float16": PLAIN.astype(np.float16),
    "big-endian": PLAIN.astype(">i2"),
    "complex": PLAIN.astype(np.complex64),
    "objects": PLAIN.astype(object),
    "text": PLAIN.astype("U4"),
    "dates": PLAIN.astype("datetime64[s]"),
    "one slice": PLAIN[5:6],
    "one row": PLAIN[5:6, 12:13],
    "one voxel": PLAIN[5:6, 12:13, 14:15],
    "flat": FLAT,
    "RGB": np.stack([FLAT // 2, FLAT // 3, FLAT // 4], -1).astype(np.uint8),
    "RGBA": np.stack([FLAT // 2] * 4, -1).astype(np.uint8),
    "RGB of a volume": np.stack([PLAIN // 2] * 3, -1).astype(np.uint8),
    "no voxels": PLAIN[:0],
    "a line": PLAIN[5, 12],
    "four axes": np.stack([PLAIN] * 3),
    "every second voxel": PLAIN[:, ::2, ::-1],
    "Fortran order": np.asfortranarray(PLAIN),
}
REFUSED = {
    "NaN": "1 voxels that are NaN",
    "one infinity": "1 voxels that are NaN or infinite",
    "minus infinity": "1 voxels that are NaN or infinite",
    "only NaN": "6720 voxels that are NaN",
    "only infinities": "6720 voxels that are NaN or infinite",
    "constant": "the same value 7 everywhere",
    "constant, not a whole number": "the same value 0.1 everywhere",
    "zeros": "the same value 0 everywhere",
    "the largest of float64": "beyond the 3.4e38",
    "smallest of float64": "the same value 0 all around",
    "complex": "not complex64",
    "objects": "not object",
    "text": "not <U4",
    "dates": "not datetime64",
    "one voxel": "the same value 388 everywhere",
    "RGBA": r"\(24, 28, 4\) does not lie on a grid of shape \(24, 28\)",
    "no voxels": "an axis without voxels",
    "a line": "2 or 3 axes, not 1",
    "four axes": "2 or 3 axes, not 4",
}
CHANNELS = {"RGB": 2, "RGBA": 2, "RGB of a volume": 3}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A backend here and one at a server, with the models of the product."""
    with in_thread(Settings(tmp_path_factory.mktemp("odd"), device="cpu")) as url:
        here, there = LocalBackend("cpu"), RemoteBackend(url, consent=True)
        yield here, there
        there.shutdown()
        here.shutdown()


def outcome(backend, name: str, model: str):
    """Box, mask and score of a click in the middle, or the sentence instead."""
    voxels = ODD[name]
    try:
        axes = CHANNELS.get(name, voxels.ndim)
        image = Volume(voxels, Grid.plain(voxels.shape[:axes], (2.5, 0.8, 0.7)[-axes:] if axes <= 3 else (1,) * axes))
        opened = backend.open(image)
    except InputError as refused:
        return str(refused)
    try:
        middle = Point(tuple(size // 2 for size in image.grid.shape))
        found = backend.predict(opened, model, Prompts((middle,)))
    except InputError as refused:
        return str(refused)
    finally:
        backend.close(opened)
    assert np.isfinite(found.score) and found.mask.dtype == bool
    return found.box, found.mask.tobytes(), round(found.score, 12)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # values near the largest of float32
@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_has_a_mask_or_a_sentence_and_the_same_at_a_server(places, name):
    here, there = (outcome(backend, name, "random-walker") for backend in places)
    assert here == there
    assert isinstance(here, str) == (name in REFUSED), here
    if name in REFUSED:
        assert re.search(REFUSED[name], here) and here.endswith("."), here


@pytest.mark.parametrize(
    "name", few(["one slice", "flat", "RGB", "int64 extremes", "the largest of float32"], tried=[2])
)
def test_a_network_answers_odd_images_as_well(places, name):
    here, there = (outcome(backend, name, "click") for backend in places)
    assert here == there and not isinstance(here, str), here
