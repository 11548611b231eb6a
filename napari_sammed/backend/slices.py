"""The slices of one open image as `napari_sammed.backend.propagation` wants them, on the inference thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_sammed.backend.inference import InferenceThread, Priority
from napari_sammed.backend.slicing import grey
from napari_sammed.geometry import Box
from napari_sammed.models.base import BoxModel, Embedding, Logits
from napari_sammed.volume import Volume


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
    """

    def __init__(
        self,
        volume: Volume,
        model: BoxModel,
        inference: InferenceThread,
        embed: Callable[[Box], Embedding],
        ahead: Callable[[Sequence[Box]], None],
    ) -> None:
        self.grid = volume.grid
        self._volume = volume
        self.ahead = ahead
        self._model = model
        self._inference = inference
        self._embed = embed

    def decode(self, region: Box, boxes: Sequence[Box]) -> list[Logits]:
        """Answers to boxes on a slice."""
        return self._inference.run(lambda: self._model.decode_boxes(self._embed(region), boxes), Priority.STEP)

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid."""
        return self._inference.run(lambda: self._model.restore(logits), Priority.STEP)

    def pixels(self, region: Box) -> np.ndarray:
        """Grey values of a slice; the mean of its channels where it has several."""
        return grey(self._volume, region)
