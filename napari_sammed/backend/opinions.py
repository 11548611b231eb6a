"""How a network that knows boxes only looks closer at a slice: several boxes in several windows make one mask.

What such a network makes of a small thing depends on how large it is shown and how tight its box is, so one box in one
window is a gamble; the mean of several is not. A box of the user is the best prompt there is, and the windows are laid
close around it. Boxes around the pieces of a coarse mask repeat its mistakes: then the windows are wider, and the mask
itself has a say, as have the grey values that it holds. Both can only settle what the network leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit

from napari_sammed.backend.appearance import Appearance
from napari_sammed.backend.masks import cut
from napari_sammed.backend.slice_step import touching
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.planes import plane_axes, square_around, tiles
from napari_sammed.prompts import MaskPrompt

# Chosen on 83 structures of under 2,000 voxels in flat images and three volumes, each on its largest slice.
_AROUND_BOX = (2.0, 3.0, 4.0, math.inf)  # sides of the windows, in lengths of what they show; inf: the whole slice
_AROUND_MASK = (4.0, 6.0, math.inf)
_BOX_MARGINS = (0.0, 1.0)  # added to each side of the user's box, pixels
_MASK_MARGINS = (0.05, 0.1, 0.2)  # added to each side of a coarse piece's box, shares of its length
_MASK_WEIGHT = 0.3  # of the coarse mask, the rest is the network's: a sure network overrules it
_SOFTNESS = 0.4  # pixels from its edge within which the coarse mask is in doubt by the factor e
_GREY_VALUES = {True: 1.0, False: 2.0}  # weight of the log odds, with a box of the user and without
_MOST_GREY = 3.0  # log odds that grey values may add: less than what a sure network says
_SURE = 8.0  # logits beyond it say no more
_MASK_SURE = 4.0
_NEAR = 2  # pixels from the coarse mask within which a new piece may begin
_CRUMB = 0.02  # pieces smaller than this share of the coarse mask get no box of their own


@dataclass(frozen=True)
class Opinion:
    """A window, and the boxes of one object to ask for in it together."""

    window: Box
    boxes: tuple[Box, ...]


def opinions(
    grid: Grid, target: Box, slab: Box, boxes: Sequence[Box], coarse: MaskPrompt | None, side: int
) -> list[Opinion]:
    """What to ask about a part of a slice.

    Parameters
    ----------
    grid : Grid
        Of the image.
    target : Box
        What is to be looked at closer, on the slice.
    slab : Box
        The whole slice, or the flat image.
    boxes : sequence of Box
        Of the user, on the slice; they are not cut: windows that do not hold them all are asked about the mask.
    coarse : MaskPrompt or None
        The object on the slice as it is known.
    side : int
        The network's input size in pixels.
    """
    asked: dict[Opinion, None] = {}  # ordered, without repeats
    for tile in tiles(grid, target, side):
        for factor in _AROUND_BOX if boxes else _AROUND_MASK:
            window = _square(tile, factor, grid, slab, side)
            if boxes and all(box.intersect(window) == box for box in boxes):
                variants = [[_grown(box, (margin,) * grid.ndim, window) for box in boxes] for margin in _BOX_MARGINS]
            else:
                pieces = _pieces(cut(coarse, window))
                variants = [
                    [_grown(box, [share * size for size in box.shape], window) for box in pieces]
                    for share in _MASK_MARGINS
                ]
            asked.update({Opinion(window, tuple(variant)): None for variant in variants if variant})
    return list(asked)


def blended(
    answers: Sequence[np.ndarray], pixels: np.ndarray, coarse: np.ndarray | None
) -> tuple[np.ndarray, list[float]]:
    """One mask out of several answers about a slice, and how far each of them agrees with it.

    Parameters
    ----------
    answers : sequence of ndarray of float
        Logits, (rows, columns); NaN outside of the answer's window.
    pixels : ndarray
        Grey values, (rows, columns).
    coarse : ndarray of bool, or None
        The mask as it is known, (rows, columns), if it is to have a say; None where the user's box was asked.

    Returns
    -------
    mask : ndarray of bool
    agreement : list of float
        Intersection over union of each answer with the mask, inside the answer's window.
    """
    logits = np.clip(np.array(answers), -_SURE, _SURE)
    known = np.nan_to_num(logits, nan=-_SURE).mean(0) > 0 if coarse is None else coarse
    evidence = np.zeros(pixels.shape)
    if known.any():
        odds = Appearance([(pixels, known)]).log_odds(pixels)
        evidence = np.clip(_GREY_VALUES[coarse is None] * odds, -_MOST_GREY, _MOST_GREY)
    seen = ~np.isnan(logits)
    chance = np.where(seen, expit(np.nan_to_num(logits) + evidence), 0).sum(0) / np.maximum(seen.sum(0), 1)
    if coarse is None:
        mask = (chance > 0.5) & seen.any(0)
    else:
        chance = (1 - _MASK_WEIGHT) * chance + _MASK_WEIGHT * expit(_as_logits(coarse) + evidence)
        mask = np.where(seen.any(0), chance > 0.5, coarse)
        mask = touching(mask, ndimage.binary_dilation(coarse, iterations=_NEAR))
    return mask, [
        _overlap(np.nan_to_num(one, nan=-1) > 0, mask & known) for one, known in zip(logits, seen, strict=True)
    ]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _square(target: Box, factor: float, grid: Grid, slab: Box, side: int) -> Box:
    """A window around a target, square in mm where the slice allows; no wider than the network's input needs."""
    if math.isinf(factor):
        return slab
    axes = plane_axes(slab)
    finest = min(grid.spacing[axis] for axis in axes)
    longest = max(target.shape[axis] * grid.spacing[axis] for axis in axes)
    return square_around(target, min(factor * longest, max(longest, side * finest)), grid, slab)


def _grown(box: Box, margins: Sequence[float], window: Box) -> Box:
    """A wider box, as far as the window goes; never across the slice."""
    return box.grow([int(np.ceil(margin)) for margin in margins]).intersect(window)


def _pieces(coarse: MaskPrompt | None) -> list[Box]:
    """Boxes of the pieces of a mask."""
    if coarse is None:
        return []
    pieces, _ = ndimage.label(coarse.mask, np.ones((3,) * coarse.ndim))
    sizes = np.bincount(pieces.ravel())[1:]
    return [
        Box(tuple(part.start for part in place), tuple(part.stop for part in place)).shift(coarse.offset)
        for size, place in zip(sizes, ndimage.find_objects(pieces), strict=True)
        if size >= _CRUMB * sizes.sum()
    ]


def _as_logits(mask: np.ndarray) -> np.ndarray:
    """A mask as logits: surer with the distance from its edge."""
    if not mask.any():
        return np.full(mask.shape, -_MASK_SURE)
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return np.clip((depth - 0.5 * np.sign(depth)) / _SOFTNESS, -_MASK_SURE, _MASK_SURE)
