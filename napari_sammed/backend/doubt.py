"""Where an answer is most in doubt: the place where one more click tells the model most. Pure functions.

Along every border a network is unsure of a pixel or two, which means nothing. What counts is an area of doubt that is
deep: its innermost voxel is the place to look at. The same input always gives the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_sammed.backend.slice_quality import SliceQuality, ranked
from napari_sammed.geometry import Box
from napari_sammed.models.base import Logits
from napari_sammed.prompts import MaskPrompt

_UNSURE = float(np.log(3))  # logit under which a probability lies between 0.25 and 0.75
_BAND = 2.0  # samples of the network on each side of a border that are in doubt without meaning anything
_TRUSTED = 0.9  # quality of a slice from which on nothing stands out


@dataclass(frozen=True)
class Suggestion:
    """A place to look at next.

    Parameters
    ----------
    index : tuple of int
        A voxel of the image.
    reason : str
        Why, in a sentence.
    extent : Box
        Around the whole area that is in doubt.
    """

    index: tuple[int, ...]
    reason: str
    extent: Box


def deepest(
    area: np.ndarray, spacing: Sequence[float], least: float = 0.0, known: np.ndarray | None = None
) -> tuple[tuple[int, ...], np.ndarray] | None:
    """The innermost voxel of the largest connected part of an area, thin parts left out.

    Parameters
    ----------
    area : ndarray of bool
    spacing : sequence of float
        mm, of the array's axes.
    least : float
        Voxels not deeper inside than this, mm, are left out.
    known : ndarray, optional
        (N, ndim) places that were looked at already: what lies within twice the `least` depth of one is left out.

    Returns
    -------
    (tuple of int, ndarray of bool), or None
        The voxel, and the part.
    """
    thick = [axis for axis in range(area.ndim) if area.shape[axis] > 1] or [0]
    thin = tuple(axis for axis in range(area.ndim) if axis not in thick)
    flat = area.squeeze(thin)
    sides = [spacing[axis] for axis in thick]
    depth = ndimage.distance_transform_edt(np.pad(flat, 1), sampling=sides)[(slice(1, -1),) * flat.ndim]
    deep = depth > least
    if known is not None and len(known):
        places = np.ones(flat.shape, bool)
        inside = [p for p in known[:, thick] if all(0 <= i < n for i, n in zip(p, flat.shape, strict=True))]
        for place in inside:
            places[tuple(place)] = False
        if inside:
            deep &= ndimage.distance_transform_edt(places, sampling=sides) > 2 * least
    parts, count = ndimage.label(deep)
    if count == 0:
        return None
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    place = np.unravel_index(int(np.argmax(np.where(largest, depth, 0))), flat.shape)
    index = np.zeros(area.ndim, int)
    index[thick] = place
    return tuple(index.tolist()), np.expand_dims(largest, thin) if thin else largest


def by_logits(
    values: np.ndarray, logits: Logits, spacing: Sequence[float], within: Box, known: np.ndarray
) -> Suggestion | None:
    """Where the network itself is unsure.

    Parameters
    ----------
    values : ndarray
        The logits on the image grid, of shape ``logits.region.box.shape``.
    logits : Logits
        As the network has them.
    spacing : sequence of float
        mm, of the image.
    within : Box
        Look only there.
    known : ndarray
        (N, ndim) clicks so far, in index coordinates of the image.
    """
    box = logits.region.box.intersect(within)
    if box is None:
        return None
    values = values[box.shift([-lo for lo in logits.region.box.low]).slices]
    sample = max(max(logits.region.box.shape) / max(logits.values.shape), 1.0)  # voxels
    sides = [side for side, size in zip(spacing, box.shape, strict=True) if size > 1] or list(spacing)
    found = deepest(np.abs(values) < _UNSURE, spacing, _BAND * sample * min(sides), known - np.array(box.low))
    if found is None:
        return None
    place, part = found
    probability = 1 / (1 + np.exp(-float(values[place])))
    reason = f"The model is unsure here (probability {probability:.2f}): say with a click whether it is the object."
    return _suggestion(place, part, box, reason)


def by_readings(mask: np.ndarray, other: np.ndarray, box: Box, spacing: Sequence[float]) -> Suggestion | None:
    """Where two readings of an ambiguous answer, boolean masks inside `box`, disagree."""
    found = deepest(mask != other, spacing)
    if found is None:
        return None
    return _suggestion(*found, box, "Two readings of your last prompt disagree here: a click decides.")


def by_slices(
    mask: MaskPrompt, axis: int, slices: Sequence[SliceQuality], spacing: Sequence[float]
) -> Suggestion | None:
    """Where the least trustworthy slice of an object differs from the slices beside it.

    Parameters
    ----------
    mask : MaskPrompt
        The object.
    axis : int
        Across the slices.
    slices : sequence of SliceQuality
        See `napari_sammed.backend.slice_quality.assess`.
    spacing : sequence of float
        mm, of the image.
    """
    bad = next((one for one in ranked(slices) if one.quality < _TRUSTED), None)
    if bad is None:
        return None
    here = bad.index - mask.offset[axis]
    flat = mask.mask.take([here], axis)
    beside = [mask.mask.take([i], axis) for i in (here - 1, here + 1) if 0 <= i < mask.mask.shape[axis]]
    differs = [flat != other for other in beside]
    area = np.logical_and.reduce(differs) if differs else flat
    if not area.any():
        area = np.logical_or.reduce(differs)
    found = deepest(area if area.any() else flat, spacing)
    if found is None:
        return None
    low = list(mask.offset)
    low[axis] = bad.index
    figures = [f"score {bad.score:.2f}"] if bad.score == bad.score else []
    figures += [f"overlap {bad.overlap:.2f}"] if bad.overlap == bad.overlap else []
    figures += [f"area jump {bad.jump:.2f}"] if bad.jump == bad.jump else []
    reason = f"Slice {bad.index} is the most doubtful ({', '.join(figures)}): it differs from its neighbours here."
    return _suggestion(*found, Box.of_shape(flat.shape).shift(low), reason)


def _suggestion(place: tuple[int, ...], part: np.ndarray, box: Box, reason: str) -> Suggestion:
    extent = Box.of_mask(part).shift(box.low)
    return Suggestion(tuple(int(i) + lo for i, lo in zip(place, box.low, strict=True)), reason, extent)
