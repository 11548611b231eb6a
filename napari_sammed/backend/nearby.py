"""A brush and an eraser on an object that is there already, with a model that knows strokes (the random walker).

To such a model a stroke is worth as much as the click that the object came from: painting over a bit of background
would let it flood all of that, and erasing a spot half of the object. But a brush is a tool for the place where it is
used. So the model is asked with such strokes and without them, and the first answer counts near them, as far beyond
what was painted as the brush is wide from its middle; the second one everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import cut
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits, ModelCard
from napari_sammed.prompts import MaskPrompt, Prompts, Stroke

SENTENCE = "A brush and an eraser change the object as far beyond what they paint as their radius."


def strokes(prompts: Prompts) -> tuple[Stroke, ...]:
    """Those of a brush or an eraser that change an object; the first positive prompt is what it starts from."""
    first = next((item for item in prompts if getattr(item, "positive", True)), None)
    return tuple(item for item in prompts.of(Stroke) if item.radius and item is not first)


def needed(prompts: Prompts, card: ModelCard) -> bool:
    """Whether there are such strokes, for a model that would give them the say about the whole object."""
    return "stroke" in card.prompts and any(getattr(p, "positive", True) for p in prompts) and bool(strokes(prompts))


def answer(prompts: Prompts, grid: Grid, ask: Callable[[Prompts], Prediction]) -> Prediction:
    """The answer to prompts with such strokes among them.

    Parameters
    ----------
    prompts : Prompts
    grid : Grid
        Of the image.
    ask : callable
        Has the model answer prompts, all at once.
    """
    local = strokes(prompts)
    rest = ask(Prompts(tuple(item for item in prompts if not any(item is stroke for stroke in local))))
    changed = ask(prompts)
    frame = rest.box.union(changed.box)
    mask = _joined(_placed(rest, frame), _placed(changed, frame), frame, neighbourhoods(local, grid))
    joined = Prediction.tight(mask, frame, score=changed.score, model=changed.model)
    told = tuple(dict.fromkeys((*changed.reductions, SENTENCE)))
    return replace(changed, mask=joined.mask, box=joined.box, reductions=told, logits=None, alternatives=())


def limited(answer: Prediction, before: MaskPrompt | None, stroke: Stroke, previous: Logits | None) -> Prediction:
    """The answer to a stroke on an object that is there already, of a model that looks at slices: near the stroke only.

    Parameters
    ----------
    answer : Prediction
    before : MaskPrompt or None
        The whole object as it was.
    stroke : Stroke
    previous : Logits or None
        Answer to the object's earlier prompts, from which later ones go on: what is hidden now must not come back.
    """
    part = cut(before, answer.scope)
    if part is None or (answer.scope.ndim == 3 and not answer.scope.thin_axes):
        return answer
    frame = part.extent.union(answer.box)
    mask = np.zeros(frame.shape, bool)
    mask[part.extent.shift([-low for low in frame.low]).slices] = part.mask
    near = neighbourhoods([stroke], Grid.plain(answer.scope.high))  # of the slice: in voxels
    joined = Prediction.tight(_joined(mask, _placed(answer, frame), frame, near), frame, score=0.0, model="")
    told = (*answer.reductions, SENTENCE)
    return replace(answer, mask=joined.mask, box=joined.box, reductions=told, logits=previous, alternatives=())


def neighbourhoods(of: Sequence[Stroke], grid: Grid) -> list[tuple[Box, np.ndarray]]:
    """Where strokes may change an object: boxes of the image, and which of their voxels (bool)."""
    found = []
    for stroke in of:
        spacing = np.array(grid.spacing)
        reach = stroke.radius * float(np.mean([s for axis, s in enumerate(spacing) if axis != stroke.axis]))  # mm
        marked = stroke.footprint(grid.box)
        box = stroke.extent.grow(np.ceil(reach / spacing).astype(int).tolist()).intersect(grid.box)
        if marked is None or box is None:
            continue
        away = np.ones(box.shape, bool)
        away[marked[0].shift([-low for low in box.low]).slices] &= ~marked[1]
        found.append((box, ndimage.distance_transform_edt(away, sampling=spacing) <= reach))
    return found


def inside(mask: MaskPrompt, of: Sequence[Stroke], grid: Grid) -> MaskPrompt | None:
    """The part of a mask that strokes may change; None if there is none."""
    kept = np.zeros(mask.mask.shape, bool)
    for box, near in neighbourhoods(of, grid):
        common = box.intersect(mask.extent)
        if common is not None:
            part = common.shift([-low for low in mask.offset]).slices
            kept[part] |= near[common.shift([-low for low in box.low]).slices]
    kept &= mask.mask
    return MaskPrompt(kept, mask.offset) if kept.any() else None


def _joined(mask: np.ndarray, other: np.ndarray, frame: Box, places: Sequence[tuple[Box, np.ndarray]]) -> np.ndarray:
    """A mask with the other one's voxels in some places."""
    for box, near in places:
        common = box.intersect(frame)
        if common is not None:
            inside = common.shift([-low for low in frame.low]).slices
            part = near[common.shift([-low for low in box.low]).slices]
            mask[inside] = np.where(part, other[inside], mask[inside])
    return mask


def _placed(found: Prediction, frame: Box) -> np.ndarray:
    mask = np.zeros(frame.shape, bool)
    mask[found.box.shift([-low for low in frame.low]).slices] = found.mask
    return mask
