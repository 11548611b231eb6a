"""Coordinates as they are typed, turned into prompts.

IJK is the 0-based voxel index in the file's own axis order, first axis fastest, as 3D Slicer shows it: the index
coordinates of the array, backwards. With ``--ras`` it is millimetres to the right, anterior and superior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point

_AXES = "ijk"


def point(text: str, grid: Grid, *, positive: bool, ras: bool) -> Point:
    """A click from ``I,J,K`` (``I,J`` on flat images), or from ``R,A,S`` in mm.

    Raises
    ------
    InputError
    """
    numbers = _numbers(text, grid.ndim, "point", _order(grid, ras))
    index = _index_of_ras(numbers, grid) if ras else np.array(numbers[::-1])
    clicked = Point(tuple(index), positive)
    if not grid.box.contains(clicked.index):
        where = f" (voxel {_ijk(index)})" if ras else ""
        raise InputError(f"The point {text}{where} lies outside the image: {_sizes(grid)}, counted from 0.")
    return clicked


def box(text: str, grid: Grid, *, ras: bool) -> Box:
    """A box from its two corners, half-open: the second is one past the last voxel.

    In mm (``--ras``) the corners may be any two opposite ones, and both lie inside the box.

    Raises
    ------
    InputError
    """
    order = _order(grid, ras)
    numbers = _numbers(text, 2 * grid.ndim, "box", ",".join(f"{c}{n}" for n in (0, 1) for c in order.split(",")))
    first, second = numbers[: grid.ndim], numbers[grid.ndim :]
    if ras:
        return Box.around(np.stack([_index_of_ras(first, grid), _index_of_ras(second, grid)]))
    if any(value != int(value) for value in numbers):
        raise InputError(f"The corners of the box {text} are whole numbers of voxels.")
    if any(b <= a for a, b in zip(first, second, strict=True)):
        raise InputError(
            f"The box {text} is empty or reversed: each number of the second corner must exceed that of the first "
            "(the second corner is one past the last voxel)."
        )
    drawn = Box(tuple(int(v) for v in first[::-1]), tuple(int(v) for v in second[::-1]))
    if drawn.intersect(grid.box) is None:
        raise InputError(f"The box {text} lies outside the image: {_sizes(grid)}, counted from 0.")
    return drawn


def array_axis(letter: str | None, grid: Grid) -> int | None:
    """The array axis that i, j or k names; None stays None."""
    if letter is None:
        return None
    if letter.lower() not in _AXES[: grid.ndim]:
        raise InputError(f"There is no axis {letter!r}: choose one of {', '.join(_AXES[: grid.ndim])}.")
    return grid.ndim - 1 - _AXES.index(letter.lower())


def _order(grid: Grid, ras: bool) -> str:
    if ras and grid.ndim == 2:
        raise InputError("A flat image has no place in the patient: leave out --ras and give column,row.")
    return "R,A,S" if ras else ",".join(_AXES[: grid.ndim].upper())


def _numbers(text: str, count: int, what: str, order: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"The {what} {text!r} is not {order}: this image takes {count} numbers with commas between.")
    return numbers


def _index_of_ras(ras: Sequence[float], grid: Grid) -> np.ndarray:
    return grid.to_index(np.array(ras) * (-1, -1, 1))  # LPS


def _ijk(index: np.ndarray) -> str:
    return ",".join(f"{value:.1f}" for value in index[::-1])


def _sizes(grid: Grid) -> str:
    return "it has " + " x ".join(map(str, grid.shape[::-1])) + " voxels"
