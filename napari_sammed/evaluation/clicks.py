"""A simulated user who clicks: first in the middle of the structure, then in the middle of the largest mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import ndimage

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point


def innermost(mask: np.ndarray, spacing: Sequence[float]) -> tuple[int, ...]:
    """The voxel of a mask that is farthest from its boundary.

    Parameters
    ----------
    mask : ndarray of bool
        The array's own border counts as a boundary.
    spacing : sequence of float
        mm along each array axis.

    Returns
    -------
    tuple of int
        The first in array order where several are equally far inside.

    Raises
    ------
    InputError
        For an empty mask.
    """
    mask = np.asarray(mask, bool)
    if not mask.any():
        raise InputError("An empty mask has no innermost voxel.")
    distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    inner = distance[(slice(1, -1),) * mask.ndim]
    return tuple(int(i) for i in np.unravel_index(int(inner.argmax()), mask.shape))


def next_click(mask: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> Point | None:
    """The click that corrects the largest mistake: positive in what was missed, negative in what leaked.

    Parameters
    ----------
    mask, truth : ndarray of bool
        The answer so far (empty: none yet) and what the user wants.
    spacing : sequence of float
        mm along each array axis.

    Returns
    -------
    Point or None
        At the innermost voxel of the largest connected piece of the missed or of the leaked voxels; None if the mask
        is right.
    """
    found = largest_piece(mask, truth)
    if found is None:
        return None
    piece, low, positive = found
    inside = innermost(piece, spacing)
    return Point(tuple(i + lo for i, lo in zip(inside, low, strict=True)), positive)


def largest_piece(mask: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, tuple[int, ...], bool] | None:
    """The largest connected piece of the missed or of the leaked voxels; None if the mask is right.

    Returns
    -------
    piece : ndarray of bool
        Its bounding box.
    low : tuple of int
        Where that begins.
    positive : bool
        Whether it was missed.
    """
    mask, truth = np.asarray(mask, bool), np.asarray(truth, bool)
    best: tuple[int, np.ndarray, tuple[int, ...], bool] | None = None
    for wrong, positive in ((truth & ~mask, True), (mask & ~truth, False)):
        around = Box.of_mask(wrong)  # most voxels of a volume are right; looking at them takes the most time
        if around is None:
            continue
        labels, _ = ndimage.label(wrong[around.slices])
        sizes = np.bincount(labels.ravel())[1:]
        if best is None or sizes.max() > best[0]:
            number = int(sizes.argmax())
            place = ndimage.find_objects(labels)[number]
            low = tuple(lo + part.start for lo, part in zip(around.low, place, strict=True))
            best = int(sizes.max()), labels[place] == number + 1, low, positive
    return None if best is None else best[1:]


def click_through(
    answer: Callable[[list[Point]], np.ndarray], truth: np.ndarray, spacing: Sequence[float], count: int
) -> Iterator[tuple[list[Point], np.ndarray]]:
    """Let the simulated user click up to `count` times.

    Parameters
    ----------
    answer : callable
        From all clicks so far to a mask of the shape of `truth`.
    truth : ndarray of bool
    spacing : sequence of float
    count : int

    Yields
    ------
    tuple of list of Point, ndarray of bool
        The clicks so far and the answer to them; stops early where the answer is right.
    """
    clicks: list[Point] = []
    mask = np.zeros_like(truth, bool)
    for _ in range(count):
        click = next_click(mask, truth, spacing)
        if click is None:
            return
        clicks = [*clicks, click]
        mask = answer(clicks)
        yield clicks, mask
