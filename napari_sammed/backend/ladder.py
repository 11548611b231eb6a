"""A ladder of boxes: how a network that was trained on boxes only answers clicks.

The boxes of several sizes and shapes around the clicks are decoded in one batch, and the rung is taken whose mask holds
all positive and no negative clicks, is steady, and has the clicks in its middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import BoxModel, Embedding, Logits
from napari_sammed.prompts import Prompts

if TYPE_CHECKING:
    from napari_sammed.backend.base import Cancel

SIZES = (0.05, 0.08, 0.12, 0.18, 0.27, 0.4, 0.6, 0.85)
"""Side lengths of the rungs, as shares of the region's longest side."""
ASPECTS = (1.0, 0.5, 2.0)
"""Rows over columns of the rungs."""


@dataclass(frozen=True)
class Rung:
    """The chosen answer.

    Parameters
    ----------
    box : Box
        In index coordinates of the image.
    logits : Logits
    count : int
        Boxes that it was chosen from.
    """

    box: Box
    logits: Logits
    count: int


def climb(
    model: BoxModel, embedding: Embedding, prompts: Prompts, previous: Logits | None, cancel: Cancel | None = None
) -> Rung:
    """Answer clicks, and boxes if there are any, with boxes.

    Parameters
    ----------
    model : BoxModel
    embedding : Embedding
    prompts : Prompts
        Points, at least one of them positive unless there is a box or a previous answer; boxes.
    previous : Logits or None
        Answer to the object's earlier prompts in the same region.
    cancel : threading.Event, optional

    Raises
    ------
    InputError
        If there are only negative points.
    Cancelled
    """
    if cancel is not None and cancel.is_set():
        raise Cancelled
    positive, negative = prompts.points(positive=True), prompts.points(positive=False)
    if not len(positive) and not prompts.of(Box):
        raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
    boxes = [*prompts.of(Box), *_rungs(positive, embedding.region.box)]
    answers = model.decode_boxes(embedding, boxes)
    scores = [_score(model, answer, box, positive, negative) for answer, box in zip(answers, boxes, strict=True)]
    best = int(np.argmax(scores))
    return Rung(boxes[best], answers[best], len(boxes))


def _rungs(positive: np.ndarray, region: Box) -> list[Box]:
    if not len(positive):
        return []
    axes = [axis for axis, size in enumerate(region.shape) if size > 1]
    centre = (positive.min(0) + positive.max(0)) / 2
    least = positive.max(0) - positive.min(0)
    longest = max(region.shape)
    boxes = []
    for size in SIZES:
        for aspect in ASPECTS:
            sides = np.ones(region.ndim)
            sides[axes[0]], sides[axes[-1]] = size * longest * aspect**0.5, size * longest / aspect**0.5
            half = np.maximum(sides, 1.2 * least + 1) / 2
            low = np.floor(centre - half + 0.5).astype(int)
            high = np.maximum(np.floor(centre + half + 0.5).astype(int), low + 1)
            box = Box(tuple(low), tuple(high)).intersect(region)
            if box is not None and box not in boxes:
                boxes.append(box)
    return boxes


def _score(model: BoxModel, answer: Logits, box: Box, positive: np.ndarray, negative: np.ndarray) -> float:
    """How good an answer looks; higher is better."""
    region = answer.region.box
    values = model.restore(answer)
    mask = values > 0
    if not mask.any():
        return -10.0

    def share(points: np.ndarray) -> float:
        places = np.rint(points - np.array(region.low)).astype(int)
        return float(np.mean([mask[tuple(p)] for p in places])) if len(places) else 0.0

    depth = ndimage.distance_transform_edt(np.pad(mask.squeeze(), 1))
    stability = (values > 1).sum() / max((values > -1).sum(), 1)
    places = np.rint(positive - np.array(region.low)).astype(int).reshape(-1, region.ndim)
    padded = depth[1:-1, 1:-1].reshape(mask.shape)
    middle = max((padded[tuple(p)] for p in places), default=0.0) / depth.max()
    return 2 * share(positive) - 2 * share(negative) + stability + answer.score + middle
