"""Memory that runs out in the middle of the work: 50 times, each is answered all the same, and nothing stays behind."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

ERRORS = [
    lambda: RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: not enough memory: you tried to"),
    MemoryError,
]
SHAPE = (20, 40, 48)


class Block(np.ndarray):
    """What had been allocated when memory ran out; can be watched."""


class Hungry(Thresholder):
    """Runs out of memory at the calls of `fails`, counted from the last `count`; holds much while it works."""

    batch = 4

    def __init__(self, planar: bool = False) -> None:
        super().__init__(planar)
        self.weights_hash = "hungry"
        self.fails: set[int] = set()
        self.calls = self.raised = 0
        self.together: list[int] = []
        self.blocks: list[weakref.ref] = []

    def count(self, fails: set[int]) -> None:
        self.calls, self.fails = 0, fails

    def _take(self, many: int = 1) -> None:
        block = np.zeros(1 << 16).view(Block)
        self.blocks = [weakref.ref(block), *self.blocks[:200]]
        self.calls += 1
        if self.calls - 1 in self.fails or (many > 1 and -1 in self.fails):
            self.raised += 1
            raise ERRORS[self.raised % len(ERRORS)]()

    def embed(self, image, region, window):
        self._take()
        return super().embed(image, region, window)

    def embed_many(self, image, regions, window):
        self._take(len(regions))
        self.together.append(len(regions))
        return [Thresholder.embed(self, image, region, window) for region in regions]

    def decode(self, embedding, prompts, previous):
        self._take()
        return super().decode(embedding, prompts, previous)

    def decode_boxes(self, embedding, boxes):
        self._take()
        return [Thresholder.decode(self, embedding, Prompts((box,)), None) for box in boxes]


@pytest.fixture
def scene():
    return two_balls(SHAPE)


@pytest.fixture
def hungry(scene):
    model = Hungry()
    backend = LocalBackend("cpu", models={"hungry": model, "thresholder": Thresholder()})
    yield backend, model, backend.open(scene[0])
    backend.shutdown()


def test_fifty_times_too_little_memory_are_fifty_answers(hungry, scene):
    backend, model, image = hungry
    _, first, _ = scene
    voxels = np.argwhere(first)
    rng, answered, kept = np.random.default_rng(0), 0, []
    for number in range(50):
        click = Prompts((Point(tuple(int(v) for v in rng.choice(voxels))),))
        expected = backend.predict(image, "thresholder", click)
        model.count({0})  # while it encodes and, since that is then in the cache, while it decodes, in turn
        found = backend.predict(image, "hungry", click)
        answered += found.box == expected.box and np.array_equal(found.mask, expected.mask)
        assert model.calls == (3 if number % 2 == 0 else 2) and model.raised == number + 1
        kept.append(backend.embeddings.nbytes)
    assert answered == 50
    assert max(kept) <= 2 * 4 * scene[0].array.size, "no more is kept than without errors"
    gc.collect()
    assert not [block for block in model.blocks if block() is not None], "what was allocated is free again"


def test_it_makes_room_before_it_tries_again(hungry):
    backend, model, image = hungry
    for columns in (30, 40, 48):
        backend.predict(image, "thresholder", Prompts((Point((10, 20, 12)),)), region=Box((0, 0, 0), (20, 40, columns)))
    assert len(backend.embeddings) == 3
    model.count({0})
    backend.predict(image, "hungry", Prompts((Point((10, 20, 12)),)))
    assert len(backend.embeddings) == 1, "only what was needed"


def test_too_many_slices_at_once_are_encoded_one_by_one(scene):
    model, plain = Hungry(planar=True), Thresholder(planar=True)
    with_room, without = LocalBackend("cpu", models={"planar": plain}), LocalBackend("cpu", models={"planar": model})
    image = with_room.open(scene[0])
    assert without.open(scene[0]) == image
    boxes = [Box((z, 0, 0), (z + 1, 40, 48)) for z in range(8)]
    model.count({-1})
    for future in without.prefetch(image, "planar", boxes, Window.auto(scene[0])):
        future.result(20)
    assert model.raised > 0 and model.together == []
    middle = int(np.argwhere(scene[1]).mean(0)[0])
    start = [MaskPrompt(scene[1][middle : middle + 1], (middle, 0, 0))]
    expected = with_room.propagate(image, "planar", start, axis=0)
    model.count({0, 3, 5, 8, 11})
    before = model.raised
    found = without.propagate(image, "planar", start, axis=0)
    assert model.raised >= before + 4
    assert found.box == expected.box and np.array_equal(found.mask, expected.mask)
    with_room.shutdown()
    without.shutdown()


def test_where_there_is_no_room_it_says_so_and_lives_on(hungry):
    backend, model, image = hungry
    click = Prompts((Point((10, 20, 12)),))
    for fails in ({0, 1}, {1, 2}):
        backend.embeddings.clear()
        model.count(fails)
        with pytest.raises(InputError, match="Memory ran out while"):
            backend.predict(image, "hungry", click)
    model.count(set())
    assert backend.predict(image, "hungry", click).mask.any()


def test_other_errors_are_not_tried_again(hungry):
    backend, model, image = hungry

    def broken(*_):
        model.calls += 1
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    model.embed = broken
    with pytest.raises(RuntimeError, match="illegal"):
        backend.predict(image, "hungry", Prompts((Point((10, 20, 12)),)))
    assert model.calls == 1
