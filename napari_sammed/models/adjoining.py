"""Cubes beside each other on one lattice: where an object goes on, and what their answers say together.

The cubes differ by whole cells, the voxels of their low-resolution logits; so answers are put together cell by cell,
which costs a few kilobytes where the image may have gigabytes. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import cast

import numpy as np
from scipy import ndimage

from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits
from napari_sammed.models.cubes import CubeRegion, place_of
from napari_sammed.models.windows import importance

_ROUNDING = 1e-6  # cells: an image that ends at the border of two cells does not reach into the next one


def open_faces(logits: Logits, part: Grid) -> list[tuple[int, int]]:
    """The faces of a cube through which its object leaves: axis of the cube, and direction, -1 or 1.

    Only the largest piece of the mask counts, not islands at the rim; and only in cells that show a given part of the
    image, since what an answer says elsewhere means nothing.
    """
    cells = logits.region.grid.resample(logits.values.shape)
    corners = cells.to_index(part.to_world(np.array([(-0.5,) * 3, np.array(part.shape) - 0.5]))) + 0.5
    low = np.floor(corners.min(axis=0) + _ROUNDING).astype(int).clip(0)
    high = np.ceil(corners.max(axis=0) - _ROUNDING).astype(int).clip(max=cells.shape)
    seen = Box(tuple(low), tuple(high))
    faces = [
        (axis, direction, at)
        for axis in range(3)
        for direction, at, reached in ((-1, 0, seen.low[axis] == 0), (1, -1, seen.high[axis] == cells.shape[axis]))
        if reached
    ]
    mask = logits.values[seen.slices] > 0
    if not any(mask.take(at, axis).any() for axis, _, at in faces):
        return []
    pieces, _ = ndimage.label(mask)
    largest = pieces == np.bincount(pieces[pieces > 0]).argmax()
    return [(axis, direction) for axis, direction, at in faces if largest.take(at, axis).any()]


def blended(answers: Sequence[Logits], grid: Grid, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What answers say of a part of their lattice: the mean of their logits, those near a cube's middle counting most.

    Parameters
    ----------
    answers : sequence of Logits
    grid : Grid
        Of the samples of the part.
    shape : sequence of int
        Of the part in cells, which are as long as those of the answers.

    Returns
    -------
    values : ndarray of float32
        Logits, 0 where no answer says anything.
    weights : ndarray of float32
        0 there.
    """
    cells = grid.resample(shape)
    total, weights = np.zeros(cells.shape, np.float32), np.zeros(cells.shape, np.float32)
    for answer in answers:
        own = place_of(answer.region.grid.resample(answer.values.shape), cells)
        common = own.intersect(cells.box)
        if common is None:
            continue
        inside = common.shift([-low for low in own.low]).slices
        weight = importance(own.shape)[inside]
        total[common.slices] += weight * answer.values[inside]
        weights[common.slices] += weight
    return np.divide(total, weights, out=total, where=weights > 0), weights


def enclosing(answers: Sequence[Logits]) -> tuple[CubeRegion, tuple[int, ...]]:
    """The smallest region that holds those of all answers, and its shape in cells."""
    regions = [cast(CubeRegion, answer.region) for answer in answers]
    first = regions[0].grid
    places = [place_of(region.grid, first) for region in regions]
    grid = first.crop(reduce(Box.union, places))
    cell = first.shape[0] // len(answers[0].values)
    box = reduce(Box.union, (region.box for region in regions))
    return CubeRegion(box, grid, regions[0].image), tuple(size // cell for size in grid.shape)


def innermost_sample(values: np.ndarray, grid: Grid) -> np.ndarray | None:
    """Index in the grid of samples of the cell that is farthest from the outside of the mask; None if it is empty."""
    mask = values > 0
    if not mask.any():
        return None
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    cell = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - 1
    return (cell + 0.5) * (np.array(grid.shape) / mask.shape) - 0.5
