"""One step of a walk through a stack: the boxes to ask for on the next slice, and one mask out of their answers.

Every box answers a little differently, and a walk that follows one of them never gets over its mistakes. So the
answers are averaged, weighted by how well they fit the neighbouring mask and how sure the network is of them, and each
is first corrected by the object's appearance: grey values that belong to its surroundings speak against it. Arrays in
this file are flat, (rows, columns) of the walk's scope on one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit, softmax

from napari_sammed.geometry import Box, Grid
from napari_sammed.models.stability import stability_score

_WIDEST = 0.25  # margin, share of the box's own side: a small vessel's box must not take in its neighbours


@dataclass(frozen=True)
class Rules:
    """How a walk chooses its boxes, how it weighs the answers, and when it ends.

    Parameters
    ----------
    margins : tuple of float
        What is added to each side of the box of the neighbour's mask, as shares of the slice's longest side.
    growth : float
        How far the object may have grown on the next slice, as a share of the slice's longest side: pixels within that
        distance of the neighbour's mask which look like the object give one more box.
    temperature : float
        Of the weights of the answers: they differ by the factor e where their ranks differ by this much.
    near : float
        Distance of slices in mm up to which the overlap with the neighbour's mask counts fully for the rank; farther
        ones may differ more.
    least_overlap : float
        Intersection over union with the neighbour's mask under which the object is lost.
    explosion, collapse : float
        Largest and smallest ratio of neighbouring areas.
    least_confidence : float
        Share of the best confidence so far (predicted IoU times stability) under which the object is lost.
    lookahead : int
        Slices to encode ahead.
    """

    margins: tuple[float, ...] = (1 / 256, 3 / 256, 5 / 256, 8 / 256)
    growth: float = 8 / 256
    temperature: float = 0.1
    near: float = 3.0
    least_overlap: float = 0.2
    explosion: float = 2.0
    collapse: float = 0.1
    least_confidence: float = 0.5
    lookahead: int = 2


@dataclass(frozen=True)
class Found:
    """A mask on a slice.

    Parameters
    ----------
    mask : ndarray of bool
    overlap : float
        Intersection over union with the neighbour's mask.
    confidence : float
        Predicted IoU times stability.
    """

    mask: np.ndarray
    overlap: float
    confidence: float


def candidate_boxes(
    mask: np.ndarray, log_odds: np.ndarray, scope: Box, region: Box, axis: int, grid: Grid, rules: Rules
) -> list[Box]:
    """Boxes to ask for on a slice, without repeats.

    Parameters
    ----------
    mask : ndarray of bool
        Of the neighbouring slice, not empty.
    log_odds : ndarray
        Of the slice, see `napari_sammed.backend.appearance.Appearance`.
    scope, region : Box
        Of the walk, and the whole slice.
    axis : int
        Across the slices.
    grid : Grid
    rules : Rules
    """
    longest = max(size * spacing for size, spacing in zip(region.shape, grid.spacing, strict=True))
    boxes = _with_margins(mask, scope, region, axis, grid, longest, rules.margins)
    reach = rules.growth * longest / min(grid.spacing[a] for a in range(3) if a != axis)
    grown = ndimage.binary_dilation(mask, iterations=max(round(reach), 1)) & (log_odds > 0)
    grown = touching(ndimage.binary_opening(grown), mask)
    if grown.any():
        boxes += _with_margins(grown, scope, region, axis, grid, longest, rules.margins[:1])
    inside = scope.intersect(region)
    if inside != region:  # the limits are a box around the object: somewhere it reaches them
        low, high = (np.add(a, b) // 2 for a, b in ((boxes[0].low, inside.low), (boxes[0].high, inside.high)))
        boxes += [Box(tuple(low.tolist()), tuple(high.tolist())), inside]
    return list(dict.fromkeys(boxes))


def blend(
    answers: Sequence[tuple[np.ndarray, float]],
    log_odds: np.ndarray,
    neighbour: np.ndarray,
    spacing: float,
    rules: Rules,
) -> Found:
    """One mask out of the answers to several boxes.

    Parameters
    ----------
    answers : sequence of (ndarray, float)
        Logits of each box's answer, and its predicted IoU.
    log_odds : ndarray
        By the object's appearance; added to the logits, as the two are taken to be independent.
    neighbour : ndarray of bool
        The mask of the neighbouring slice.
    spacing : float
        Distance of the slices in mm.
    rules : Rules
    """
    loyalty = min(1.0, rules.near / spacing)
    ranks, confidences, probabilities = [], [], []
    for logits, score in answers:
        logits = logits + log_odds
        stability = stability_score(logits)
        ranks.append(loyalty * _overlap(touching(logits > 0, neighbour), neighbour) + score + stability)
        confidences.append(score * stability)
        probabilities.append(expit(logits))
    weights = softmax(np.array(ranks) / rules.temperature)
    mask = touching(np.tensordot(weights, np.array(probabilities), 1) > 0.5, neighbour)
    return Found(mask, _overlap(mask, neighbour), float(weights @ confidences))


def lost(found: Found, before: np.ndarray, best: float | None, rules: Rules, surrounded: bool) -> str:
    """Why a walk should end here, or an empty string.

    Parameters
    ----------
    found : Found
    before : ndarray of bool
        The mask of the neighbouring slice.
    best : float or None
        The best confidence of the walk so far.
    rules : Rules
    surrounded : bool
        In a box around the object, or between two anchors: go on as long as there is a mask.
    """
    area, area_before = found.mask.sum(), before.sum()
    if area == 0:
        return "nothing was found"
    if surrounded:
        return ""
    if area > rules.explosion * area_before:
        return "the mask exploded"
    if area < rules.collapse * area_before:
        return "the mask collapsed"
    if found.overlap < rules.least_overlap:
        return "the mask left its neighbour"
    if best is not None and found.confidence < rules.least_confidence * best:
        return "the network lost confidence"
    return ""


def touching(mask: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """The parts of a mask that overlap the neighbour's; all of it if none does."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    kept = np.unique(labels[neighbour & mask])
    return np.isin(labels, kept) if kept.size else mask


def _with_margins(
    mask: np.ndarray, scope: Box, region: Box, axis: int, grid: Grid, longest: float, margins: Sequence[float]
) -> list[Box]:
    """The tight box of a flat mask, on another slice, with several margins."""
    tight = Box.of_mask(np.expand_dims(mask, axis)).shift(scope.low)
    boxes = []
    for share in margins:
        low, high = list(region.low), list(region.high)
        for a in range(3):
            if a != axis:
                margin = round(min(share * longest / grid.spacing[a], _WIDEST * tight.shape[a]))
                low[a] = max(tight.low[a] - margin, region.low[a])
                high[a] = min(tight.high[a] + margin, region.high[a])
        boxes.append(Box(tuple(low), tuple(high)))
    return boxes


def _overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / max((mask | other).sum(), 1))
