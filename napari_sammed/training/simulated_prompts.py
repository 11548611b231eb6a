"""Prompts as the published recipes draw them from masks; those of our own are in `click_users`.

Where numbers are drawn, they are drawn in the published order, so that the same seed gives the same prompts.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_sammed.errors import InputError

_EIGHT = np.ones((3, 3), bool)


def correcting_points(
    masks: np.ndarray, wanted: np.ndarray, count: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """SAM-Med2D's clicks on what is wrong, drawn with replacement, anywhere in it.

    Parameters
    ----------
    masks, wanted : ndarray of bool
        (B, H, W).
    count : int
        Clicks on each mask.
    random : RandomState

    Returns
    -------
    points : ndarray of int
        (B, count, 2), x and y.
    labels : ndarray of int
        (B, count): 1 on what was missed, 0 on what leaked, -1 (no point at all) where nothing is wrong.

    Notes
    -----
    Reference sheet ``sam_med2d``, sections 6 and 9. Where nothing is wrong, the published code draws from 256 x 256
    pixels whatever the size of the masks; here they are those of the mask.
    """
    points, labels = [], []
    for mask, true in zip(masks, wanted, strict=True):
        places = np.argwhere(mask != true)
        kinds = true[tuple(places.T)].astype(np.int64)
        if not len(places):
            height, width = mask.shape
            places = random.randint(0, (height, width), size=(count, 2))
            kinds = np.full(count, -1)
        chosen = random.choice(len(places), count, replace=True)
        points.append(places[chosen][:, ::-1])
        labels.append(kinds[chosen])
    return np.stack(points), np.stack(labels)


def first_points(mask: np.ndarray, count: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """SAM-Med2D's clicks before there is an answer: one inside, or half of them inside and half outside, shuffled.

    Parameters
    ----------
    mask : ndarray of bool
        (H, W).
    count : int
    random : RandomState

    Returns
    -------
    points : ndarray of int
        (count, 2), x and y.
    labels : ndarray of int
        (count,): 1 inside, 0 outside.

    Raises
    ------
    InputError
        For a mask without inside, or without outside where points outside are to be drawn.
    """
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    if not len(inside) or (count > 1 and not len(outside)):
        raise InputError("Points cannot be drawn inside and outside of a mask that is empty or fills the image.")
    if count == 1:
        return inside[random.randint(len(inside))][None, ::-1], np.ones(1, np.int64)
    hits = inside[random.choice(len(inside), count // 2, replace=True)]
    misses = outside[random.choice(len(outside), count - count // 2, replace=True)]
    labels = np.repeat([1, 0], [len(hits), len(misses)])
    order = random.permutation(count)
    return np.concatenate([hits, misses])[order][:, ::-1], labels[order]


def shifted_boxes(mask: np.ndarray, count: int, most: int, random: np.random.RandomState) -> np.ndarray:
    """SAM-Med2D's boxes around the pieces of a mask, shifted by some pixels; never larger or smaller.

    Parameters
    ----------
    mask : ndarray of bool
        (H, W).
    count : int
        Boxes; up to the number of pieces the largest ones, beyond it all pieces in turn, in the order of labels.
    most : int
        Pixels of the shift, at most half of the box's shorter side; 0 for none.
    random : RandomState

    Returns
    -------
    ndarray of int
        (count, 4), x0 y0 x1 y1, the last ones exclusive.

    Raises
    ------
    InputError
        For an empty mask.
    """
    labelled, pieces = ndimage.label(mask, _EIGHT)
    if not pieces:
        raise InputError("There is no box around an empty mask.")
    sizes = np.bincount(labelled.ravel())[1:]
    order = np.arange(pieces) if count > pieces else np.argsort(-sizes, kind="stable")
    found = []
    for number in range(count):
        piece = ndimage.find_objects(labelled)[order[number % pieces]]
        (y0, y1), (x0, x1) = ((part.start, part.stop) for part in piece)
        shift = min(most, (min(x1 - x0, y1 - y0)) // 2)
        dx, dy = (random.randint(-shift, shift) if shift else 0 for _ in range(2))
        found.append((x0 + dx, y0 + dy, x1 + dx, y1 + dy))
    return np.array(found)
