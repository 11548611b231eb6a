"""A model without a network that labels whole images by grey value: real enough to drive backend and faces."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models.base import LabelMap, ModelCard
from napari_sammed.volume import Volume

CLASSES = ("faint", "bright", "absent")


class Labeller:
    """Calls 60..140 "faint" and more "bright", slice by slice.

    Parameters
    ----------
    step : callable, optional
        Called before every slice with its number.
    """

    card = ModelCard(
        name="labeller",
        title="Labeller",
        dimensions=frozenset({2}),
        prompts=frozenset(),
        input_size=(),
        summary="Grey values as classes.",
        weights=None,
        code_licence="Apache-2.0",
        citation="",
        implementation="",
    )
    weights_hash = "labeller-1"
    classes = CLASSES
    notes = ("It knows no anatomy.",)

    def __init__(self, step: Callable[[int], None] = lambda number: None) -> None:
        self._step = step

    def segment(
        self,
        image: Volume,
        within: Box | None = None,
        window: Window | None = None,
        progress: Callable[[str, float], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> LabelMap:
        box = within or image.grid.box
        part = image.array[box.slices]
        if image.channels == 3:
            part = part.mean(-1)
        labels = np.zeros(part.shape, np.uint8)
        for number, grey in enumerate(part):
            self._step(number)
            if cancel is not None and cancel.is_set():
                raise Cancelled
            labels[number] = (grey > 60).astype(np.uint8) + (grey > 140)
            if progress is not None:
                progress("labelling", (number + 1) / len(part))
        return LabelMap(labels, box, CLASSES)
