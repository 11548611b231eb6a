"""Views of volumes and prompts in them, drawn as SegVol learns from them: all of a volume in the window, or a part of
it one to one. Reference sheet ``segvol``, sections 4, 5 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.models import zooming
from napari_sammed.models.segvol_windows import WindowRegion, in_window, measured, network_input, widened
from napari_sammed.training.material import Example
from napari_sammed.training.pseudo_masks import NOTHING

POINTS = 21
"""Of a prompt: one inside, up to ten more, up to ten outside; the rest is made up of points to ignore."""

_TRIES = 100  # places that are tried for a window without the object in its middle


@dataclass(frozen=True)
class Look:
    """How much what is seen is varied, by which chance; as published.

    Parameters
    ----------
    flip : float
        Along each axis.
    change : float
        Of brighter or darker, and of more or less contrast.
    much : float
        How much of either at most.
    """

    flip: float = 0.2
    change: float = 0.1
    much: float = 0.1


@dataclass(frozen=True)
class View:
    """What the network sees, and what is there; all of the window's shape.

    Parameters
    ----------
    image : ndarray of float32
        Mostly 0..1.
    labels : ndarray
        Of the example, 0 beyond the image.
    pseudo : ndarray of int32 or None
        Pieces of like grey values; `NOTHING` beyond the foreground.
    """

    image: np.ndarray
    labels: np.ndarray
    pseudo: np.ndarray | None = None


def whole(example: Example, window: Sequence[int]) -> WindowRegion:
    """The foreground of a volume in the window."""
    return WindowRegion.showing(example.image.grid, measured(example.image)[1], window)


def closer(example: Example, value: int, box: Box, window: Sequence[int], random: np.random.Generator) -> WindowRegion:
    """A part of the foreground one to one, in two of three cases around a voxel of an object, else around any voxel
    of the foreground that is neither dark nor of the object.

    Parameters
    ----------
    example : Example
    value : int
        Label of the object.
    box : Box
        Of the object.
    window : sequence of int
    random : Generator
    """
    limits, foreground = measured(example.image)
    part = np.asarray(example.labels[box.slices]) == value
    place = np.add(_any_of(part, random), box.low)
    if random.random() >= 2 / 3:
        for _ in range(_TRIES):
            other = random.integers(foreground.low, foreground.high)
            voxel = Box(tuple(other), tuple(other + 1))
            dark = np.mean(example.image.part(voxel)) <= limits[0]
            if not dark and int(example.labels[tuple(other)]) != value:
                place = other
                break
    room = widened(foreground, [max(side, size) for side, size in zip(window, foreground.shape, strict=True)])
    low = [
        min(max(int(middle) - side // 2, first), last - side)
        for middle, side, first, last in zip(place, window, room.low, room.high, strict=True)
    ]
    seen = Box(tuple(low), tuple(first + side for first, side in zip(low, window, strict=True)))
    return WindowRegion.showing(example.image.grid, seen, window)


def view(example: Example, region: WindowRegion, pseudo: np.ndarray | None = None) -> View:
    """What a region shows.

    Parameters
    ----------
    example : Example
    region : WindowRegion
    pseudo : ndarray of int, optional
        Pieces of the foreground, of the window's shape.
    """
    image = network_input(example.image, region, measured(example.image)[0])
    labels = in_window(np.asarray(example.labels[region.box.slices]), region)
    return View(image, labels, None if pseudo is None else _laid(pseudo, measured(example.image)[1], region))


def _laid(pseudo: np.ndarray, foreground: Box, region: WindowRegion) -> np.ndarray:
    """Pieces of the foreground where a region shows them."""
    result = np.full(region.grid.shape, NOTHING, np.int32)
    inside, taken = [], []
    for axis, side in enumerate(region.grid.shape):
        first, size = region.seen.low[axis], region.seen.shape[axis]
        places = first + (np.arange(side) + 0.5) * size / side - foreground.low[axis]  # 0 at the foreground's edge
        numbers = np.floor(places * pseudo.shape[axis] / foreground.shape[axis]).astype(int)
        seen = (numbers >= 0) & (numbers < pseudo.shape[axis])
        inside.append(np.flatnonzero(seen))
        taken.append(numbers[seen])
    result[np.ix_(*inside)] = pseudo[np.ix_(*taken)]
    return result


def varied(seen: View, random: np.random.Generator, look: Look) -> View:
    """A view mirrored, brighter or darker, with more or less contrast, or as it is."""
    axes = tuple(np.flatnonzero(random.random(3) < look.flip).tolist())
    image, labels, pseudo = (
        None if array is None else np.flip(array, axes) for array in (seen.image, seen.labels, seen.pseudo)
    )
    if random.random() < look.change:
        image = image * np.float32(1 + random.uniform(-look.much, look.much))
    if random.random() < look.change:
        image = image + np.float32(random.uniform(-look.much, look.much))
    return View(image, labels, pseudo)


def points(mask: np.ndarray, random: np.random.Generator, fewest: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of an object, as the network takes them.

    Parameters
    ----------
    mask : ndarray of bool
        Not empty.
    random : Generator
    fewest : int
        Of the up to ten further points inside.

    Returns
    -------
    places : ndarray of float32
        (POINTS, 3), index coordinates; -1 of points to ignore.
    labels : ndarray of float32
        (POINTS,): 1 inside, 0 outside, -1 to ignore.
    """
    extra = (POINTS - 1) // 2
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    chosen = [inside[random.integers(len(inside))][None]]
    for from_, least in ((inside, fewest), (outside, 0)):
        count = min(int(random.integers(least, extra + 1)), len(from_))
        chosen.append(random.choice(from_, count, replace=False, shuffle=False))
    found = np.stack(np.unravel_index(np.concatenate(chosen), mask.shape), 1)
    places, labels = np.full((POINTS, 3), -1, np.float32), np.full(POINTS, -1, np.float32)
    places[: len(found)] = found
    labels[: len(found)] = mask[tuple(found.T)]
    return places, labels


def in_box(pieces: np.ndarray, number: int, share: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """The box of a piece, and that piece with every other one of which more than a share lies in the box.

    Parameters
    ----------
    pieces : ndarray of int
    number : int
        Of the piece.
    share : float

    Returns
    -------
    box : ndarray of float32
        (6,), see `napari_sammed.models.zooming.bounds`.
    mask : ndarray of bool
    """
    mask = pieces == number
    box = zooming.bounds(mask)
    low, high = box.reshape(2, 3).astype(int)
    part = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    there = np.bincount(pieces[part].ravel() + 1)
    all_ = np.bincount(pieces.ravel() + 1, minlength=len(there))[: len(there)]
    taken = there > share * all_
    taken[0] = False  # what is no piece
    return box, mask | np.isin(pieces, np.flatnonzero(taken) - 1)


def _any_of(mask: np.ndarray, random: np.random.Generator) -> tuple[int, ...]:
    places = np.flatnonzero(mask)
    return tuple(int(i) for i in np.unravel_index(int(places[random.integers(len(places))]), mask.shape))
