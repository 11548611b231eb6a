"""A mask corrected by clicks, with a model that knows clicks but takes no masks (the random walker).

What the model makes of the positive clicks is added to the mask; what it makes of the negative ones, asked as if they
were positive, is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from napari_sammed.backend import nearby
from napari_sammed.backend.base import Prediction
from napari_sammed.backend.reductions import innermost
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import ModelCard
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke


def needed(prompts: Prompts, card: ModelCard) -> bool:
    """Whether clicks correct a mask that the model could not take."""
    clicked = prompts.of(Point) or prompts.of(Stroke)
    return bool(clicked and prompts.of(MaskPrompt)) and "point" in card.prompts and "mask" not in card.prompts


def correct(prompts: Prompts, card: ModelCard, grid: Grid, ask: Callable[[Prompts], Prediction]) -> Prediction:
    """The answer to a mask and clicks.

    Parameters
    ----------
    prompts : Prompts
        At least one mask, and one click or stroke. What a brush or an eraser marks counts near it only.
    card : ModelCard
    grid : Grid
        Of the image.
    ask : callable
        Has the model answer prompts without masks.
    """
    masks = prompts.of(MaskPrompt)
    others = Prompts(tuple(item for item in prompts if not isinstance(item, MaskPrompt)))
    local = tuple(stroke for stroke in others.of(Stroke) if stroke.radius)
    clicks = Prompts(tuple(item for item in others if not any(item is stroke for stroke in local)))
    extent = Prompts(masks).extent
    mask = np.zeros(extent.shape, bool)
    for given in masks:
        mask[given.extent.shift([-lo for lo in extent.low]).slices] |= given.mask
    answer = None
    if any(isinstance(item, (Point, Stroke)) and not item.positive for item in clicks):
        answer = ask(_turned_round(clicks, MaskPrompt(mask, extent.low)))
        mask = _without(mask, extent, answer)
    if any(isinstance(item, Box) or item.positive for item in clicks):
        answer = ask(clicks)
        extent, mask = _with(mask, extent, answer)
    for positive in (False, True):
        strokes = [stroke for stroke in local if stroke.positive == positive]
        if not strokes or not (positive or mask.any()):
            continue
        answer = ask(others if positive else _turned_round(others, MaskPrompt(mask, extent.low)))
        near = _near(answer, strokes, grid)
        if positive:
            extent, mask = _with(mask, extent, near)
        else:
            mask = _without(mask, extent, near)
    how = f"{card.title} takes no masks: what the clicks mark was added to the mask, or taken away from it."
    joined = Prediction.tight(mask, extent, score=answer.score, model=answer.model)
    return replace(answer, mask=joined.mask, box=joined.box, reductions=(*answer.reductions, how), logits=None)


def _near(piece: Prediction, strokes: Sequence[Stroke], grid: Grid) -> Prediction:
    """The part of a piece that strokes may change."""
    kept = nearby.inside(MaskPrompt(piece.mask, piece.box.low), strokes, grid) if piece.mask.any() else None
    if kept is None:
        return Prediction.empty(piece.scope, score=piece.score, model=piece.model)
    return replace(piece, mask=kept.mask, box=kept.extent)


def _turned_round(clicks: Prompts, mask: MaskPrompt) -> Prompts:
    """What to take away as what to look for; the middle of the mask stays."""
    turned = [replace(item, positive=not item.positive) for item in clicks if isinstance(item, (Point, Stroke))]
    middle = Point(innermost(mask), False)
    return Prompts((*turned, middle)) if Point(middle.index) not in turned else Prompts(tuple(turned))


def _without(mask: np.ndarray, box: Box, piece: Prediction) -> np.ndarray:
    common = box.intersect(piece.box)
    if common is None:
        return mask
    left = mask.copy()
    left[common.shift([-lo for lo in box.low]).slices] &= ~piece.mask[
        common.shift([-lo for lo in piece.box.low]).slices
    ]
    return left


def _with(mask: np.ndarray, box: Box, piece: Prediction) -> tuple[Box, np.ndarray]:
    frame = box.union(piece.box)
    joined = np.zeros(frame.shape, bool)
    joined[box.shift([-lo for lo in frame.low]).slices] = mask
    joined[piece.box.shift([-lo for lo in frame.low]).slices] |= piece.mask
    return frame, joined
