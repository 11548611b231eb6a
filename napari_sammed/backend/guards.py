"""Around the work of models: how long it took, who may end it, and what to say when memory ran out."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.volume import Volume

MOST_HELD = 1 << 30
"""Bytes of an answer about an image that is read by region."""


class Clock:
    """Adds up seconds by step."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._steps: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._steps[step] = self._steps.get(step, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        return {**self._steps, "total": time.perf_counter() - self._start}


class Either(threading.Event):
    """Set as soon as one of several events is; those that are None never are."""

    def __init__(self, *events: threading.Event | None) -> None:
        super().__init__()
        self._events = [event for event in events if event is not None]

    def is_set(self) -> bool:
        return super().is_set() or any(event.is_set() for event in self._events)


@contextmanager
def out_of_memory(name: str) -> Iterator[None]:
    """Say plainly that memory ran out; torch's own error is a RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise InputError(
                f"Memory ran out while {name} was looking at the image: close other programs or images, choose a "
                "smaller model, or run on the CPU (--device cpu)."
            ) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, here or on a device."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "not enough memory" in str(error)


def check_answerable(volume: Volume, box: Box, voxel: int = 4) -> None:
    """Refuse to answer about more of an image than fits into memory; one that is in memory itself may be tried.

    Parameters
    ----------
    volume : Volume
    box : Box
        What the answer is about.
    voxel : int
        Bytes that one voxel of it takes.

    Raises
    ------
    InputError
    """
    size = math.prod(box.shape) * voxel
    if not volume.in_memory and size > MOST_HELD:
        raise InputError(
            f"An answer about {' x '.join(map(str, box.shape))} voxels takes {size / 2**30:.1f} GiB of memory: zoom in "
            "on the object, or draw a box around the part that is wanted."
        )
