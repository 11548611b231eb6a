"""A model without a network that thresholds around the click: real enough to drive geometry, backend and faces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, Logits, ModelCard
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.volume import Volume

TOLERANCE = 20.0  # grey levels


def thresholder_card(name: str, dimensions: frozenset[int]) -> ModelCard:
    return ModelCard(
        name=name,
        title="Thresholder",
        dimensions=dimensions,
        prompts=frozenset({"point", "box", "stroke", "mask"}),
        input_size=(),
        summary="Connected voxels that look like the clicked ones.",
        weights=None,
        code_licence="Apache-2.0",
        citation="",
        implementation="",
    )


class Thresholder:
    """Marks the connected voxels within `TOLERANCE` of each positive prompt that no negative prompt lies in.

    Parameters
    ----------
    planar : bool
        Look at slices only, as a 2D network does; its name is then "planar", else "thresholder".
    """

    def __init__(self, planar: bool = False) -> None:
        name, dimensions = ("planar", {2}) if planar else ("thresholder", {2, 3})
        self.card = thresholder_card(name, frozenset(dimensions))
        self.weights_hash = "thresholder-1"
        self.embedded: list[Box] = []

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        box = within or grid.box
        return Region.of_box(grid, box, box.shape)

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        self.embedded.append(region.box)
        part = image.part(region.box).astype(np.float32)
        if image.channels == 3:
            part = part.mean(-1)
        return Embedding(part, region, image.grid, part.nbytes)

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        grey, box = embedding.features, embedding.region.box
        positive, negative = _voxels(prompts, True, box), _voxels(prompts, False, box)
        limits = np.zeros(box.shape, bool)
        boxes = prompts.of(Box)
        for prompt in boxes:
            limits[prompt.intersect(box).shift([-lo for lo in box.low]).slices] = True
        if not boxes:
            limits[:] = True
        if not len(positive):
            inside = grey[limits]
            mask = limits & (grey > (inside.min() + inside.max()) / 2) & (np.ptp(inside) > TOLERANCE)
            return Logits(np.where(mask, 5.0, -5.0).astype(np.float32), embedding.region, 0.5)
        mask = np.zeros(box.shape, bool)
        for seed in map(tuple, positive):
            labelled, _ = ndimage.label((np.abs(grey - grey[seed]) <= TOLERANCE) & limits)
            mask |= (labelled == labelled[seed]) & (labelled > 0)
        labelled, _ = ndimage.label(mask)
        for seed in map(tuple, negative):
            mask &= (labelled != labelled[seed]) | (labelled == 0)
        return Logits(np.where(mask, 5.0, -5.0).astype(np.float32), embedding.region, 0.9 if mask.any() else math.nan)

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        return [self.decode(embedding, Prompts((box,)), None) for box in boxes]

    def coarse(self, logits: Logits) -> np.ndarray:
        return logits.values.squeeze()

    def restore(self, logits: Logits) -> np.ndarray:
        return logits.values


class Ambiguous(Thresholder):
    """Gives one prompt three readings: the structure, its inside, everything else; and goes on from `previous`."""

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        own = super().decode(embedding, prompts, None)
        if previous is not None:
            return Logits(np.maximum(own.values, previous.values), own.region, own.score)
        if len(prompts) > 1:
            return own
        inside = np.where(ndimage.binary_erosion(own.values > 0), 5.0, -5.0).astype(np.float32)
        others = (Logits(inside, own.region, 0.3), Logits(-own.values, own.region, 0.2))
        return Logits(own.values, own.region, own.score, others)


def _voxels(prompts: Prompts, positive: bool, box: Box) -> np.ndarray:
    """Voxels (N, ndim) of clicks, strokes and masks of one sign, relative to the box."""
    found = [np.zeros((0, box.ndim), int)]
    for item in prompts:
        match item:
            case Point() if item.positive == positive:
                found.append(np.rint(np.array([item.index])).astype(int))
            case Stroke() if item.positive == positive:
                found.append(item.voxels())
            case MaskPrompt() if positive:
                found.append(np.argwhere(item.mask) + np.array(item.offset))
    return np.concatenate(found) - np.array(box.low)
