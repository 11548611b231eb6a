"""Simulated users: what they begin with, and how they correct a mistake.

A rule looks at a situation (the target, the mask so far, where they lie) and gives one prompt. Those that draw by lot
get a random generator, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from scipy import ndimage
from skimage.graph import route_through_array
from skimage.morphology import skeletonize

from napari_sammed.evaluation.clicks import innermost, largest_piece, next_click
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point, Prompt, Stroke

_STROKE_POINTS = 20


@dataclass(frozen=True)
class Situation:
    """What a user sees before saying something.

    Parameters
    ----------
    target : ndarray of bool
        What the user wants; not empty.
    mask : ndarray of bool
        The answer so far, empty before the first prompt.
    grid : Grid
        Of both.
    """

    target: np.ndarray
    mask: np.ndarray
    grid: Grid


Rule: TypeAlias = Callable[[Situation, np.random.Generator], Prompt | None]
"""Gives the next prompt, or None if there is nothing to say."""


def innermost_point(situation: Situation, random: np.random.Generator) -> Point:
    """A click in the middle of the target: on the voxel that is farthest from its boundary, in mm."""
    return Point(innermost(situation.target, situation.grid.spacing))


def uniform_point(situation: Situation, random: np.random.Generator) -> Point:
    """A click on any voxel of the target (SAM-Med3D and SAM-Med2D, first click)."""
    return Point(_any_of(situation.target, random))


def box(*, shift: int = 0, grow: int = 0) -> Rule:
    """A box around the target.

    Parameters
    ----------
    shift : int
        It is moved as a whole, along each axis by a whole number from -m to m - 1, m being this or, if smaller, half of
        the box's shortest side (the training of SAM-Med2D; sheet sam_med2d, section 6).
    grow : int
        Each side is moved outwards by 0 to this many voxels (the training of MedSAM).
    """

    return partial(_box, shift, grow)  # not a function within this one: rules go to other processes


def _box(shift: int, grow: int, situation: Situation, random: np.random.Generator) -> Box:
    tight = Box.of_mask(situation.target)
    low, high = np.array(tight.low), np.array(tight.high)
    most = min(shift, int(0.5 * min(tight.shape)))
    if most:
        moved = random.integers(-most, most, tight.ndim)
        low, high = low + moved, high + moved
    if grow:
        low = low - random.integers(0, grow + 1, tight.ndim)
        high = high + random.integers(0, grow + 1, tight.ndim)
    inside = Box(tuple(map(int, low)), tuple(map(int, high))).intersect(situation.grid.box)
    return inside or tight


def middle_slice_box(situation: Situation, random: np.random.Generator) -> Box:
    """A box through all slices of the target, in the plane as large as the target is on its middle slice.

    As the challenge on interactive 3D segmentation (CVPR 2025) gives it. Slices are across the array's first axis.
    """
    tight = Box.of_mask(situation.target)
    if tight.ndim == 2:
        return tight
    filled = np.flatnonzero(situation.target.any(axis=(1, 2)))
    plane = Box.of_mask(situation.target[filled[len(filled) // 2]])
    return Box((tight.low[0], *plane.low), (tight.high[0], *plane.high))


def centre_line(situation: Situation, random: np.random.Generator) -> Stroke:
    """A stroke along the middle of the target, on the slice where there is most of it."""
    return _stroke(situation.target, positive=True)


def largest_mistake(situation: Situation, random: np.random.Generator) -> Point | None:
    """A click in the middle of the largest connected piece of what was missed or of what leaked."""
    return next_click(situation.mask, situation.target, situation.grid.spacing)


def challenge_mistake(situation: Situation, random: np.random.Generator) -> Point | None:
    """A click where the largest mistake is deepest; ties are broken by lot.

    As the challenge on interactive 3D segmentation (CVPR 2025) gives it: what was missed and what leaked are one
    mistake where they touch, corners count as touching, and depth is in voxels.
    """
    wrong = situation.mask ^ situation.target
    around = Box.of_mask(wrong)
    if around is None:
        return None
    pieces, _ = ndimage.label(wrong[around.slices], np.ones((3,) * wrong.ndim))
    largest = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[(slice(1, -1),) * wrong.ndim]
    place = tuple(i + lo for i, lo in zip(_any_of(depth == depth.max(), random), around.low, strict=True))
    return Point(place, bool(situation.target[place]))


def any_mistake(situation: Situation, random: np.random.Generator) -> Point | None:
    """A click on any wrong voxel (SAM-Med3D and SAM-Med2D; sheet sam_med3d, section 9)."""
    wrong = situation.mask ^ situation.target
    if not wrong.any():
        return None
    place = _any_of(wrong, random)
    return Point(place, bool(situation.target[place]))


def deep_mistake(situation: Situation, random: np.random.Generator) -> Point | None:
    """A click well inside of the kind of mistake that goes deeper (RITM; sheet sam_med3d, section 9).

    Among the voxels of that kind that are more than half as deep as the deepest one.
    """
    deepest: tuple[float, np.ndarray, tuple[int, ...], bool] | None = None
    for wrong, positive in ((situation.target & ~situation.mask, True), (situation.mask & ~situation.target, False)):
        if wrong.any():
            around, inner = Box.of_mask(wrong), (slice(1, -1),) * wrong.ndim
            padded = np.pad(wrong[around.slices], 1)
            depth = ndimage.distance_transform_edt(padded, sampling=situation.grid.spacing)[inner]
            if deepest is None or depth.max() > deepest[0]:
                deepest = float(depth.max()), depth, around.low, positive
    if deepest is None:
        return None
    most, depth, low, positive = deepest
    place = _any_of(depth > most / 2, random)
    return Point(tuple(i + lo for i, lo in zip(place, low, strict=True)), positive)


def stroke_mistake(situation: Situation, random: np.random.Generator) -> Stroke | None:
    """A stroke along the middle of the largest connected piece of what was missed or of what leaked."""
    found = largest_piece(situation.mask, situation.target)
    if found is None:
        return None
    piece, low, positive = found
    stroke = _stroke(piece, positive)
    return Stroke(tuple(tuple(np.add(point, low).tolist()) for point in stroke.points), positive)


def _any_of(mask: np.ndarray, random: np.random.Generator) -> tuple[int, ...]:
    places = np.flatnonzero(mask)
    return tuple(int(i) for i in np.unravel_index(int(places[random.integers(len(places))]), mask.shape))


def _stroke(mask: np.ndarray, positive: bool) -> Stroke:
    """Along the longest way through the skeleton of a mask; of a volume's on the slice where there is most of it."""
    index: tuple[int, ...] = ()
    if mask.ndim == 3:
        index = (int(mask.sum(axis=(1, 2)).argmax()),)
        mask = mask[index]
    pieces, _ = ndimage.label(mask)
    piece = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    line = skeletonize(piece)
    start = np.argwhere(line if line.any() else piece)[0]
    cost = np.where(line, 1.0, 1e4)
    end = _farthest(line, start)
    start = _farthest(line, end)
    path, _ = route_through_array(cost, tuple(start), tuple(end), fully_connected=True)
    chosen = np.unique(np.linspace(0, len(path) - 1, _STROKE_POINTS).round().astype(int))
    return Stroke(tuple((*index, *map(int, path[i])) for i in chosen), positive)


def _farthest(line: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The end of a skeleton that is farthest from a place on it, walking along it."""
    reached = np.zeros_like(line)
    reached[tuple(start)] = True
    last = np.array([start])
    while len(last):
        place = last[0]
        grown = ndimage.binary_dilation(reached, np.ones((3, 3)), mask=line | reached)
        last = np.argwhere(grown & ~reached)
        reached = grown
    return place
