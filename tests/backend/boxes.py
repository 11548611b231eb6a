"""A box model without a network: the bright voxels inside the box, on slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sammed.backend.slicing import slice_of
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.models.base import Embedding, Logits, ModelCard
from napari_sammed.models.planes import plane_axes, slice_to_look_at
from napari_sammed.prompts import Prompts

CARD = ModelCard(
    name="bright",
    title="Bright",
    dimensions=frozenset({2}),
    prompts=frozenset({"box"}),
    input_size=(),
    summary="",
    weights=None,
    code_licence="",
    citation="",
    implementation="",
)


class BrightBoxes:
    """Positive where the image is above 0 *and* inside the box; counts what it decoded."""

    card = CARD
    weights_hash = ""

    def __init__(self) -> None:
        self.decoded: list[Box] = []

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        box = slice_to_look_at(grid, prompts, within)
        return Region.of_box(grid, box, box.shape)

    def embed(self, array: np.ndarray, region: Region, grid: Grid) -> Embedding:
        return Embedding(array[region.box.slices].astype(np.float32), region, grid, 0)

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        answers = self.decode_boxes(embedding, prompts.of(Box))
        return Logits(np.maximum.reduce([a.values for a in answers]), embedding.region, answers[0].score)

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        self.decoded += boxes
        region = embedding.region
        answers = []
        for box in boxes:
            values = np.full(region.box.shape, -8.0, np.float32)
            inside = box.intersect(region.box).shift([-lo for lo in region.box.low]).slices
            values[inside] = np.where(embedding.features[inside] > 0, 8.0, -8.0)
            answers.append(Logits(values, region, 0.9))
        return answers

    def coarse(self, logits: Logits) -> np.ndarray:
        return logits.values.reshape([logits.region.box.shape[axis] for axis in plane_axes(logits.region.box)])

    def restore(self, logits: Logits) -> np.ndarray:
        return logits.values


class Slices:
    """A `propagation.Engine` on an array."""

    def __init__(self, array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        self.array, self.grid, self.model = array, Grid.plain(array.shape, spacing), BrightBoxes()
        self.visited: list[Box] = []
        self.announced: list[Box] = []

    def slice(self, axis: int, index: int) -> Box:
        return slice_of(self.grid, axis, index)

    def decode(self, region: Box, boxes: Sequence[Box]) -> list[Logits]:
        self.visited.append(region)
        plan = self.model.plan(self.grid, Prompts(), region)
        return self.model.decode_boxes(self.model.embed(self.array, plan, self.grid), boxes)

    def restore(self, logits: Logits) -> np.ndarray:
        return logits.values

    def ahead(self, regions: Sequence[Box]) -> None:
        self.announced += regions

    def pixels(self, region: Box) -> np.ndarray:
        return self.array[region.slices].astype(np.float32)
