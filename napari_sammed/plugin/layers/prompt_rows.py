"""Prompts as rows of napari's prompt layers, and what a user changed in those rows.

A row knows by a number which prompt of the object it shows: its position among the object's prompts. Rows that the user
adds have the number `NEW`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.plugin.image.coordinates import rectangle_of
from napari_sammed.prompts import Box, Point, Prompts, Stroke

NEW = -1
SKETCH = -2
"""Number of a path that napari draws while the user does; the stroke that comes of it takes its place."""

THIN = 0.5
"""Width at which strokes without one are shown, in voxels."""


@dataclass(frozen=True)
class Rows:
    """What a prompt layer shows.

    Parameters
    ----------
    numbers : tuple of int
        Position of each row's prompt among the object's prompts, or `NEW`.
    coordinates : tuple of ndarray
        A point (ndim,) or vertices (M, ndim) for each row.
    positive : tuple of bool
        Of each row; boxes are always positive.
    widths : tuple of float
        Of strokes, in voxels, `THIN` for those that have none; 0 for a dab, which is a disc by its four corners. Empty
        for points and boxes.
    """

    numbers: tuple[int, ...] = ()
    coordinates: tuple[np.ndarray, ...] = ()
    positive: tuple[bool, ...] = ()
    widths: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Difference:
    """What a user did to the rows: positions of rows that are new or changed, numbers of prompts that are gone."""

    added: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def click_rows(prompts: Prompts) -> Rows:
    """The points among an object's prompts, in index coordinates."""
    clicks = [(number, item) for number, item in enumerate(prompts) if isinstance(item, Point)]
    return Rows(
        tuple(number for number, _ in clicks),
        tuple(np.array(item.index) for _, item in clicks),
        tuple(item.positive for _, item in clicks),
    )


def stroke_rows(prompts: Prompts) -> Rows:
    """The strokes among an object's prompts that lie on a slice, in index coordinates."""
    strokes = [
        (number, item)
        for number, item in enumerate(prompts)
        if isinstance(item, Stroke) and (item.ndim == 2 or item.line.thin_axes)
    ]
    return Rows(
        tuple(number for number, _ in strokes),
        tuple(_drawn(item) for _, item in strokes),
        tuple(item.positive for _, item in strokes),
        tuple(_width(item) for _, item in strokes),
    )


def _width(stroke: Stroke) -> float:
    if len(stroke.points) == 1 and stroke.radius:
        return 0.0
    return 2 * stroke.radius or THIN


def _drawn(stroke: Stroke) -> np.ndarray:
    """Vertices of the path, or corners of the disc, that show a stroke."""
    vertices = np.array(stroke.points)
    if len(vertices) > 1:
        return vertices
    rows, columns = (axis for axis in range(stroke.ndim) if axis != _axis_across(stroke))
    reach = stroke.radius or THIN
    corners = np.repeat(vertices, 4, axis=0)
    corners[:, rows] += np.array([-reach, -reach, reach, reach])
    corners[:, columns] += np.array([-reach, reach, reach, -reach])
    return corners if stroke.radius else corners[:2]


def _axis_across(stroke: Stroke) -> int | None:
    if stroke.ndim == 2:
        return None
    return stroke.line.thin_axes[0] if stroke.axis is None else stroke.axis


def box_rows(prompts: Prompts, axis: int | None) -> Rows:
    """The boxes among an object's prompts as rectangles, one on each slice that they reach.

    Parameters
    ----------
    prompts : Prompts
    axis : int or None
        Across the slices that are looked at, for boxes that are thick along every axis; None for a flat image.
    """
    numbers: list[int] = []
    rectangles: list[np.ndarray] = []
    for number, item in enumerate(prompts):
        if not isinstance(item, Box):
            continue
        across = axis_of(item, axis)
        slices = (0,) if across is None else range(item.low[across], item.high[across])
        numbers += [number] * len(slices)
        rectangles += [rectangle_of(item, across, index) for index in slices]
    return Rows(tuple(numbers), tuple(rectangles), (True,) * len(numbers))


def axis_of(box: Box, axis: int | None) -> int | None:
    """The axis across the slices on which a box is drawn: ``axis`` unless the box is flat along another one."""
    if box.ndim == 2:
        return None
    if box.thin_axes and axis not in box.thin_axes:
        return box.thin_axes[0]
    return 0 if axis is None else axis


def difference(shown: Rows, seen: Rows, tolerance: float = 1e-3) -> Difference:
    """What changed between the rows that were shown and those that are in the layer now.

    A number that comes more often than it was shown is a pasted copy, so a new prompt.
    """
    left: dict[int, list[int]] = {}
    for row, number in enumerate(shown.numbers):
        left.setdefault(number, []).append(row)
    added: list[int] = []
    changed: list[int] = []
    for row, number in enumerate(seen.numbers):
        if not left.get(number):
            added.append(row)
        elif not _same(shown, left[number].pop(0), seen, row, tolerance):
            changed.append(row)
    removed = sorted(number for number, rows in left.items() if rows)
    return Difference(tuple(added), tuple(changed), tuple(removed))


def _same(one: Rows, i: int, other: Rows, j: int, tolerance: float) -> bool:
    a, b = one.coordinates[i], other.coordinates[j]
    if one.widths and abs(one.widths[i] - other.widths[j]) > tolerance:
        return False
    return one.positive[i] == other.positive[j] and a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance)


def numbers_from(values: Sequence[object]) -> tuple[int, ...]:
    """Row numbers as a layer's feature table holds them; what is no number is `NEW`."""
    return tuple(int(v) if isinstance(v, (int, float, np.number)) and v == v else NEW for v in values)
