"""Volumes turned so that their slices are axial, as networks of axial slices were trained on, and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from napari_sammed.geometry import Box, Grid


@dataclass(frozen=True)
class AxialView:
    """Which array axes are slices, rows and columns of axial slices, and which of them run the other way.

    Parameters
    ----------
    axes : tuple of int
        Array axes of slices, rows and columns; of rows and columns for a flat image.
    backwards : tuple of bool
        Whether the array runs against the wanted direction along them.
    """

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]

    @classmethod
    def of(cls, grid: Grid, rows: str, columns: str) -> AxialView:
        """The view of a grid: each array axis stands for the axis of the patient that it is nearest to.

        Parameters
        ----------
        grid : Grid
            One without a place in the world has axial slices with the patient's front up and left side on the right,
            as viewers show them.
        rows : {"A", "P"}
            Whether rows go to anterior or to posterior.
        columns : {"L", "R"}
            Whether columns go to the patient's left or right.
        """
        direction = np.array(grid.direction)[::-1]  # rows now z, y, x: the order of slices, rows, columns
        axes = max(
            itertools.permutations(range(grid.ndim)),
            key=lambda order: sum(abs(direction[world, axis]) for world, axis in enumerate(order)),
        )
        wanted = (1, *(1 if letter in "LP" else -1 for letter in (rows, columns)))[-grid.ndim :]  # signs in LPS
        signs = [direction[world, axis] * sign for world, (axis, sign) in enumerate(zip(axes, wanted, strict=True))]
        return cls(axes, tuple(bool(sign < 0) for sign in signs))

    def turn(self, array: np.ndarray) -> np.ndarray:
        """A view, without a copy: (slices, rows, columns) of an array of the grid, or of a box of it.

        Channels stay last; a flat image becomes one slice.
        """
        n = len(self.axes)
        turned = array.transpose(*self.axes, *range(n, array.ndim))
        turned = turned[tuple(slice(None, None, -1 if back else 1) for back in self.backwards)]
        return turned if n == 3 else turned[None]

    def turn_box(self, box: Box, grid: Grid) -> tuple[slice, slice, slice]:
        """Where a box of the grid lies in the turned array."""
        part = [
            slice(grid.shape[axis] - box.high[axis], grid.shape[axis] - box.low[axis])
            if back
            else slice(box.low[axis], box.high[axis])
            for axis, back in zip(self.axes, self.backwards, strict=True)
        ]
        slices, rows, columns = part if len(part) == 3 else (slice(0, 1), *part)
        return slices, rows, columns
