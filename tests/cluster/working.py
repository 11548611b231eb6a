"""What workers of a cluster do in the tests; they import it by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_sammed import networks
from napari_sammed.backend.loading import Files
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.evaluation.methods import Method
from napari_sammed.models.samed import SAMed
from napari_sammed.volume import Volume
from tests.golden import fill
from tests.tiny_models import tiny_config


def make(folder: Path) -> int:
    """Note that a worker got ready, and which one it is."""
    (folder / f"made-{os.getpid()}").touch()
    return os.getpid()


def squares(own: int, item: int, done: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Of an item's first three multiples, with the worker that did it."""
    for factor in range(len(done) + 1, 4):
        yield (item * factor) ** 2, own


def dies_once(folder: Path, own: int, item: int, done: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """As `squares`; over item 2, after its first part, the worker is killed the first time."""
    for count, part in enumerate(squares(own, item, done)):
        if item == 2 and count == 1 and not (folder / "died").exists():
            (folder / "died").touch()
            time.sleep(0.5)  # the first part is on its way
            os.kill(os.getpid(), signal.SIGKILL)
        yield part


def dies_always(own: int, item: int, done: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from squares(own, item, done)


def fails(own: int, item: int, done: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for part in squares(own, item, done):
        yield part
        if item == 1:
            raise InputError("It is one.")
        if item == 2:
            raise KeyError("two")


def waits(folder: Path, own: int, item: int, done: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """As `squares`, but the last part comes when there is a file "go-on"."""
    for count, part in enumerate(squares(own, item, done), len(done)):
        while count == 2 and not (folder / "go-on").exists():
            time.sleep(0.05)
        yield part


def cannot_begin() -> int:
    raise InputError("There are no weights.")


class Halves:
    """Answers with half of what a click is on, by grey value; once in its life the worker is killed meanwhile."""

    weights = "halves-1"

    def __init__(self, image: Volume, folder: Path) -> None:
        self._array, self._folder, self._count = image.array, folder, 0

    def begin(self) -> None:
        self._count += 1
        self._mask = np.zeros(self._array.shape, bool)

    def answer(self, prompt) -> np.ndarray:
        if self._count == 2 and not (self._folder / "died").exists():
            (self._folder / "died").touch()
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        place = tuple(map(int, prompt.index))
        self._mask = (self._array == self._array[place]) & (np.indices(self._array.shape)[-1] % 2 == 0)
        return self._mask

    def close(self) -> None:
        pass


def tiny(device: str, *, precision: str = "auto", weights: Mapping[str, Files] | None = None) -> LocalBackend:
    """A backend with a model of classes, tiny and filled by a rule."""
    assert weights is not None
    return LocalBackend(device, precision=precision, models={"samed": organs()})


def organs() -> SAMed:
    network = fill(networks.create("samed", {**tiny_config("samed"), "num_classes": 3}))
    return SAMed(network, "tiny", classes=("left kidney", "liver", "spleen"))


def halves(folder: Path) -> Mapping[str, Method]:
    return {"halves": lambda image: Halves(image, folder)}
