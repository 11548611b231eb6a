"""Targets without labels: what a box network finds steadily in a picture is taken for an object.

Boxes of superpixels (Felzenszwalb and Huttenlocher 2004, as SegVol used them for pseudo-masks) are answered; a mask
is kept if the network thinks well of it, if its edge is steep, and if its own tight box gives it back.
"""

from __future__ import annotations

import numpy as np
from skimage.segmentation import felzenszwalb

from napari_sammed.geometry import Box
from napari_sammed.models.base import BoxModel, Embedding
from napari_sammed.models.stability import stability_score

_SCALES = (60, 300)  # of superpixels: larger prefers larger ones
_SCORE, _STEADY, _AGAIN, _ALIKE = 0.75, 0.85, 0.8, 0.75


def stable_masks(
    model: BoxModel, embedding: Embedding, pixels: np.ndarray, random: np.random.Generator, most: int = 16
) -> np.ndarray:
    """Masks of what a box network finds in a picture.

    Parameters
    ----------
    model : BoxModel
    embedding : Embedding
        Of the picture, as a flat image.
    pixels : ndarray of uint8
        ``(rows, columns)`` or ``(rows, columns, 3)``.
    random : Generator
    most : int
        Boxes to ask about.

    Returns
    -------
    ndarray of bool
        ``(n, rows, columns)``, no two alike.
    """
    boxes = _boxes(pixels, random)
    chosen = [boxes[i] for i in random.permutation(len(boxes))[:most]]
    found = [(mask, box) for mask, box in _answered(model, embedding, chosen) if mask.any()]
    again = _answered(model, embedding, [Box.of_mask(mask).grow(1).intersect(embedding.image.box) for mask, _ in found])
    kept: list[np.ndarray] = []
    for (mask, _), (second, _) in zip(found, again, strict=True):
        if _overlap(mask, second) >= _AGAIN and all(_overlap(second, other) < _ALIKE for other in kept):
            kept.append(second)
    return np.stack(kept) if kept else np.zeros((0, *pixels.shape[:2]), bool)


def _answered(model: BoxModel, embedding: Embedding, boxes: list[Box]) -> list[tuple[np.ndarray, Box]]:
    """Masks of boxes; empty where the network itself thinks little of them."""
    answers = model.decode_boxes(embedding, boxes) if boxes else []
    masks = []
    for answer, box in zip(answers, boxes, strict=True):
        good = answer.score >= _SCORE and stability_score(model.coarse(answer)) >= _STEADY
        mask = model.restore(answer) > 0
        masks.append((mask if good else np.zeros_like(mask), box))
    return masks


def _boxes(pixels: np.ndarray, random: np.random.Generator) -> list[Box]:
    """Boxes of superpixels of several sizes, and some at random."""
    shape = pixels.shape[:2]
    boxes = []
    for scale in _SCALES:
        segments = felzenszwalb(
            pixels, scale=scale, sigma=0.8, min_size=40, channel_axis=-1 if pixels.ndim > 2 else None
        )
        for value in range(segments.max() + 1):
            box = Box.of_mask(segments == value)
            if max(box.shape) <= 0.9 * max(shape):
                boxes.append(box.grow(1).intersect(Box.of_shape(shape)))
    for _ in range(len(boxes) // 3 + 6):
        size = max(shape) * np.exp(random.uniform(np.log(0.06), np.log(0.7)))
        centre = random.uniform(0, 1, 2) * shape
        sides = size * np.exp(random.normal(0, 0.3, 2))
        box = Box(tuple((centre - sides / 2).astype(int)), tuple((centre + sides / 2).astype(int) + 1))
        boxes.append(box.intersect(Box.of_shape(shape)))
    return [box for box in boxes if box is not None]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    either = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / either) if either else 0.0
