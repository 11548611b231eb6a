"""Answers of overlapping windows, blended on the image grid."""

from __future__ import annotations

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.models.windows import importance


class Canvas:
    """Weighted sums of logits inside a box of the image; each window counts most in its middle, so no seam shows.

    Parameters
    ----------
    box : Box
        In index coordinates of the image.
    """

    def __init__(self, box: Box) -> None:
        self.box = box
        self._sums = np.zeros(box.shape, np.float32)

    def add(self, logits: np.ndarray, place: Box) -> None:
        """The answer of a window that fills `place`; what lies outside of the canvas is dropped."""
        common = self.box.intersect(place)
        if common is None:
            return
        here, there = (common.shift([-low for low in box.low]).slices for box in (self.box, place))
        self._sums[here] += logits[there] * importance(place.shape)[there]

    @property
    def mask(self) -> np.ndarray:
        """Where the mean is positive, for which the sums need not be divided; nothing where no window has looked."""
        return self._sums > 0
