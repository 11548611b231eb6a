"""The slices of one open image as `napari_sammed.backend.propagation` wants them, on the inference thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_sammed.backend.inference import InferenceThread, Priority
from napari_sammed.backend.recovery import with_room
from napari_sammed.backend.slicing import grey, slice_of
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import BoxModel, Embedding, Logits
from napari_sammed.models.planes import plane_axes, square_around
from napari_sammed.volume import Volume

_SURROUNDINGS = 4.0  # length of what is looked at, in lengths of the limits that a walk has


def view_around(limits: Box, axis: int, grid: Grid, side: int, surroundings: float = _SURROUNDINGS) -> Box:
    """The part of a stack to look at where an object is known to lie inside limits.

    All of the slices, unless they have more pixels than the network sees: then a square around the limits, at the
    image's own resolution, in which a small thing is not lost.

    Parameters
    ----------
    limits : Box
        Inside the image.
    axis : int
        Across the slices.
    grid : Grid
        Of the image.
    side : int
        The network's input size in pixels.
    surroundings : float
        Length of the square, in lengths of the limits.
    """
    slab = slice_of(grid, axis, limits.low[axis])
    target = limits.intersect(slab)
    axes = plane_axes(slab)
    longest = max(target.shape[a] * grid.spacing[a] for a in axes)
    length = max(surroundings * longest, side * min(grid.spacing[a] for a in axes))
    square = square_around(target, length, grid, slab)
    low, high = list(square.low), list(square.high)
    low[axis], high[axis] = 0, grid.shape[axis]
    return Box(tuple(low), tuple(high))


class SliceEngine:
    """A `napari_sammed.backend.propagation.Engine`; every slice is a task of its own, so that clicks come between.

    Parameters
    ----------
    volume : Volume
    model : BoxModel
    inference : InferenceThread
    embed : callable
        Gives the embedding of a slice, from the cache or made now; called on the inference thread.
    ahead : callable
        Told which slices come next.
    make_room : callable
        Lets go of other embeddings, where memory runs out.
    view : Box or None
        The part of the image to look at; None for whole slices.
    """

    def __init__(
        self,
        volume: Volume,
        model: BoxModel,
        inference: InferenceThread,
        embed: Callable[[Box], Embedding],
        ahead: Callable[[Sequence[Box]], None],
        make_room: Callable[[], None],
        view: Box | None = None,
    ) -> None:
        self.grid = volume.grid
        self._view = view or volume.grid.box
        self._volume = volume
        self.ahead = ahead
        self._model = model
        self._inference = inference
        self._embed = embed
        self._make_room = make_room

    def slice(self, axis: int, index: int) -> Box:
        """What is looked at of a slice."""
        low, high = list(self._view.low), list(self._view.high)
        low[axis], high[axis] = index, index + 1
        return Box(tuple(low), tuple(high))

    def decode(self, region: Box, boxes: Sequence[Box]) -> list[Logits]:
        """Answers to boxes on a slice."""

        def work() -> list[Logits]:
            embedding = self._embed(region)
            return with_room(self._model.card.name, lambda: self._model.decode_boxes(embedding, boxes), self._make_room)

        return self._inference.run(work, Priority.STEP)

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid."""
        return self._inference.run(lambda: self._model.restore(logits), Priority.STEP)

    def pixels(self, region: Box) -> np.ndarray:
        """Grey values of a slice; the mean of its channels where it has several."""
        return grey(self._volume, region)
