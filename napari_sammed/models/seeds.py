"""Prompts as seeds on a sampling grid: which samples are inside, which outside, where to look at grey values."""

from __future__ import annotations

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Region, nearest_voxel
from napari_sammed.prompts import Box, Point, Prompts, Stroke

SPREAD = 16  # places of one stroke whose grey values are looked at


def anchor(prompts: Prompts) -> np.ndarray:
    """The voxel that the region is centred on: the first positive one, so that more clicks keep the region."""
    return positive_voxels(prompts)[0]


def marked_voxels(prompts: Prompts, positive: bool) -> np.ndarray:
    """Clicked voxels and those under strokes of one sign, (N, ndim) of float."""
    parts = [
        np.array([item.index]) if isinstance(item, Point) else item.voxels()
        for item in prompts
        if isinstance(item, (Point, Stroke)) and item.positive == positive
    ]
    return np.concatenate(parts).astype(float) if parts else np.empty((0, prompts.ndim or 0))


def positive_voxels(prompts: Prompts) -> np.ndarray:
    """Positive voxels, then the centres of the boxes that none of them lies in: there is something in every box."""
    voxels = marked_voxels(prompts, positive=True)
    empty = [box for box in prompts.of(Box) if not _within(voxels, box).any()]
    centres = np.array([(np.array(box.low) + np.array(box.high) - 1) / 2 for box in empty])
    if len(voxels) and len(centres):
        return np.concatenate([voxels, centres])
    if not len(voxels) and not len(centres):
        raise InputError("The random walker needs a positive click or stroke, or a box, to start from.")
    return voxels if len(voxels) else centres


def _within(voxels: np.ndarray, box: Box) -> np.ndarray:
    """Whether each of the voxels lies in a box."""
    nearest = nearest_voxel(voxels)
    return ((nearest >= box.low) & (nearest < box.high)).all(axis=1)


def places_to_look_at(prompts: Prompts, positive: np.ndarray) -> np.ndarray:
    """All positive clicks and a few voxels of each stroke."""
    strokes = [stroke for stroke in prompts.of(Stroke) if stroke.positive]
    if not strokes:
        return positive
    clicks = prompts.points(positive=True)
    parts = [clicks] if len(clicks) else []
    return np.concatenate([*parts, *(stroke.spread(SPREAD) for stroke in strokes)]).astype(float)


def to_samples(voxels: np.ndarray, region: Region) -> np.ndarray:
    """Samples nearest to voxels of the image, (M, ndim) of int; those outside of the region are left out."""
    nearest = nearest_voxel(voxels)
    inside = ((nearest >= region.box.low) & (nearest < region.box.high)).all(axis=1)
    ratio = np.array(region.grid.shape) / region.box.shape
    samples = (voxels[inside] - region.box.low + 0.5) * ratio - 0.5 if len(voxels) else np.empty((0, len(ratio)))
    return np.clip(np.rint(samples), 0, np.array(region.grid.shape) - 1).astype(int)


def painted(prompts: Prompts, positive: bool, region: Region) -> np.ndarray:
    """Samples in which a brush of some width has painted voxels of one sign."""
    mask = np.zeros(region.grid.shape, bool)
    for stroke in prompts.of(Stroke):
        if stroke.radius and stroke.positive == positive and (found := stroke.footprint(region.box)) is not None:
            box, marked = found
            mask[tuple(to_samples(np.argwhere(marked) + box.low, region).T)] = True
    return mask


def balls(centres: np.ndarray, scale: np.ndarray, shape: tuple[int, ...], radius: float) -> np.ndarray:
    """Whether a sample lies within `radius` finest samples of one of the centres."""
    mask = np.zeros(shape, bool)
    reach = np.floor(radius / scale).astype(int)
    offsets = np.indices(2 * reach + 1).reshape(len(scale), -1).T - reach
    offsets = offsets[((offsets * scale) ** 2).sum(axis=1) <= radius**2]
    hits = (centres[:, None] + offsets).reshape(-1, len(scale))
    hits = hits[((hits >= 0) & (hits < shape)).all(axis=1)]
    mask[tuple(hits.T)] = True
    return mask


def outside_boxes(prompts: Prompts, region: Region) -> np.ndarray:
    """Samples whose centres lie in no box; none if the object leaves the boxes, as a positive click or stroke says."""
    shape = region.grid.shape
    boxes = prompts.of(Box)
    marked = marked_voxels(prompts, positive=True)
    if not boxes or not np.logical_or.reduce([_within(marked, box) for box in boxes]).all():
        return np.zeros(shape, bool)
    outside = np.ones(shape, bool)
    ratio = np.array(region.box.shape) / shape
    for box in boxes:
        low, high = ((np.array(corner) - region.box.low) / ratio - 0.5 for corner in (box.low, box.high))
        low, high = np.clip(np.ceil(low), 0, shape).astype(int), np.clip(np.ceil(high), 0, shape).astype(int)
        outside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = False
    return outside
