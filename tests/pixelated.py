"""A model without a network that sees only so many samples of what it looks at: zooming in shows it more."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.planes import slice_to_look_at
from napari_sammed.models.windows import covering
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume
from tests.thresholder import TOLERANCE, thresholder_card

SIDE = 12
"""Samples along each axis, at most."""


class Pixelated:
    """Marks connected samples that look like the clicked ones; of a mask prompt, like most of its samples.

    Parameters
    ----------
    planar : bool
        Look at slices only; its name is then "pixelated-2d", else "pixelated".

    Attributes
    ----------
    asked : list of (Region, Prompts)
        What was asked so far.
    """

    def __init__(self, planar: bool = False) -> None:
        name, dimensions = ("pixelated-2d", {2}) if planar else ("pixelated", {2, 3})
        self.card = thresholder_card(name, frozenset(dimensions))
        self.weights_hash = "pixelated-1"
        self.planar = planar
        self.asked: list[tuple[Region, Prompts]] = []

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        box = slice_to_look_at(grid, prompts, within) if self.planar else within or grid.box
        return Region.of_box(grid, box, [min(size, SIDE) for size in box.shape])

    def windows(self, grid: Grid, part: Box) -> list[Region]:
        sides = [1 if size == 1 else SIDE for size in part.shape]
        return [Region.of_box(grid, box, box.shape) for box in covering(part, sides, grid.box)]

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        part = image.array[region.box.slices].astype(np.float32)
        if image.channels == 3:
            part = part.mean(-1)
        samples = part[np.ix_(*(_centres(size, n) for size, n in zip(part.shape, region.grid.shape, strict=True)))]
        return Embedding(samples, region, image.grid, samples.nbytes)

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        self.asked.append((embedding.region, prompts))
        grey, box = embedding.features, embedding.region.box
        ratio = np.array(grey.shape) / box.shape

        def samples(indices: np.ndarray) -> np.ndarray:
            return np.clip(((indices - box.low + 0.5) * ratio).astype(int), 0, np.array(grey.shape) - 1)

        mask = np.zeros(grey.shape, bool)
        for item in prompts:
            match item:
                case Point(positive=True):
                    mask |= self._like(grey, samples(np.array([item.index])))
                case MaskPrompt():
                    mask |= self._like(grey, samples(np.argwhere(item.mask) + item.offset))
                case Box():
                    mask |= self._like(grey, samples((np.array([item.low]) + item.high - 1) / 2))
        labelled, _ = ndimage.label(mask)
        for item in prompts.of(Point):
            if not item.positive:
                mask &= labelled != max(labelled[tuple(samples(np.array(item.index)))], 1)
        return Logits(np.where(mask, 5.0, -5.0).astype(np.float32), embedding.region, 0.8)

    def _like(self, grey: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The samples connected with some places and of about their median grey value."""
        alike = np.abs(grey - np.median(grey[tuple(places.T)])) <= TOLERANCE
        labelled, _ = ndimage.label(alike)
        found = np.unique(labelled[tuple(places.T)])
        return np.isin(labelled, found[found > 0])

    def restore(self, logits: Logits) -> np.ndarray:
        values = logits.values
        lines = (np.arange(size) * n // size for size, n in zip(logits.region.box.shape, values.shape, strict=True))
        return values[np.ix_(*lines)]


def _centres(size: int, samples: int) -> np.ndarray:
    return ((np.arange(samples) + 0.5) * size / samples).astype(int)
