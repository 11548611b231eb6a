"""A model of slices that answers one slice of a propagation at a time, when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from napari_sammed.geometry import Box
from napari_sammed.models.base import Embedding, Logits
from tests.thresholder import Thresholder


class Stepping(Thresholder):
    """A planar `Thresholder` whose `decode_boxes` waits for `let`; clicks are answered at once.

    Attributes
    ----------
    asked : list of int
        Slices (across axis 0) that boxes were asked for on, in order.
    """

    def __init__(self, free: bool = False) -> None:
        super().__init__(planar=True)
        self.asked: list[int] = []
        self._turns = threading.Semaphore(10**6 if free else 0)

    def let(self, slices: int) -> None:
        """Let so many slices be answered."""
        self._turns.release(slices)

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        self.asked.append(embedding.region.box.low[0])
        assert self._turns.acquire(timeout=30), "nobody let this slice be answered"
        return super().decode_boxes(embedding, boxes)
