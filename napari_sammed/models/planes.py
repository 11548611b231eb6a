"""Which slice a 2D network looks at, its own two axes and its size in samples. For every model of flat images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.windows import covering
from napari_sammed.prompts import Point, Prompts, Stroke

_SAME_SPACING = 0.01  # relative; headers round the spacing of square pixels


@dataclass(frozen=True)
class Plane:
    """A slice of a grid, or a flat image.

    Parameters
    ----------
    axes : tuple of int
        Array axes of rows and columns.
    low : tuple of int
        Index of the first row and column.
    shape : tuple of int
        Rows and columns.
    spacing : tuple of float
        Their distances in mm; exactly equal where the pixels are square within one percent.
    """

    axes: tuple[int, int]
    low: tuple[int, int]
    shape: tuple[int, int]
    spacing: tuple[float, float]

    def corners(self, box: Box) -> tuple[int, int, int, int]:
        """A box of the image, in the slice: first row and column, and one past the last; may lie outside."""
        rows, columns = self.axes
        return (
            box.low[rows] - self.low[0],
            box.low[columns] - self.low[1],
            box.high[rows] - self.low[0],
            box.high[columns] - self.low[1],
        )


def plane_axes(box: Box) -> tuple[int, int]:
    """Array axes of the rows and columns of a slice box; the first thin axis is the one across the slice.

    Raises
    ------
    InputError
        If a box of a volume is more than one voxel thick along every axis.
    """
    if box.ndim == 2:
        return (0, 1)
    if not box.thin_axes:
        raise InputError(f"A slice is one voxel thick along one axis; the box from {box.low} to {box.high} is not.")
    first, second = (axis for axis in range(3) if axis != box.thin_axes[0])
    return first, second


def flat(voxels: np.ndarray, box: Box) -> np.ndarray:
    """The voxels of a slice box of a volume, or of a box of a flat image, as (rows, columns) or (rows, columns, 3)."""
    rows, columns = plane_axes(box)
    return voxels if box.ndim == 2 else voxels.take(0, axis=3 - rows - columns)


def plane_of(grid: Grid, box: Box) -> Plane:
    """The plane of a slice box of a volume, or of a box of a flat image."""
    rows, columns = plane_axes(box)
    spacing = (grid.spacing[rows], grid.spacing[columns])
    if abs(spacing[0] / spacing[1] - 1) < _SAME_SPACING:
        spacing = (spacing[0], spacing[0])
    return Plane((rows, columns), (box.low[rows], box.low[columns]), (box.shape[rows], box.shape[columns]), spacing)


def square_ratios(plane: Plane) -> tuple[float, float]:
    """Samples a row and a column for samples square in mm, as fine as the finer axis; 1 for square pixels."""
    pixel = min(plane.spacing)
    return plane.spacing[0] / pixel, plane.spacing[1] / pixel


def fitted_scales(plane: Plane, side: int) -> tuple[float, float]:
    """Samples a row and a column: the longer side in mm fills `side` samples, and samples are square in mm."""
    ratios = square_ratios(plane)
    longest = max(size * ratio for size, ratio in zip(plane.shape, ratios, strict=True))
    return side / longest * ratios[0], side / longest * ratios[1]


def fitted_shape(plane: Plane, side: int) -> tuple[int, int]:
    """Rows and columns of the slice resized to `fitted_scales`, rounded, at least one."""
    scales = fitted_scales(plane, side)
    rows, columns = (max(int(size * scale + 0.5), 1) for size, scale in zip(plane.shape, scales, strict=True))
    return rows, columns


def slice_axis(grid: Grid, prompts: Prompts) -> int:
    """The axis across the slices of a volume: that of the last flat prompt, else the one of the largest spacing.

    Clicks have no direction, and the plane in which a scan was taken, with its smallest pixels, is the one to
    look at. Among equal spacings it is axis 0.
    """
    usual = max(range(grid.ndim), key=lambda axis: (round(grid.spacing[axis] / min(grid.spacing), 2), -axis))
    for item in reversed(prompts.items):
        if isinstance(item, Stroke) and item.axis is not None:
            return item.axis
        thin = () if isinstance(item, Point) else (item if isinstance(item, Box) else item.extent).thin_axes
        if thin:
            return usual if usual in thin else thin[0]
    return usual


def slice_to_look_at(grid: Grid, prompts: Prompts, within: Box | None) -> Box:
    """The slice that a 2D network should see.

    Parameters
    ----------
    grid : Grid
        Of the image, flat or a volume.
    prompts : Prompts
        The last one decides about the slice: its own, or the middle one of a thick box or mask.
    within : Box or None
        Stay inside; one voxel thick along an axis of a volume, it is the slice.

    Returns
    -------
    Box
        The whole image or `within` if it is flat, else one slice of it.
    """
    whole = grid.box if within is None else within.intersect(grid.box)
    if whole is None:
        raise InputError(f"The region from {within.low} to {within.high} lies outside the image of shape {grid.shape}.")
    if grid.ndim == 2 or (within is not None and within.thin_axes):
        return whole
    if not prompts:
        raise InputError("A 2D model needs a prompt, or a slice, to know where to look in a volume.")
    axis = slice_axis(grid, prompts)
    last = prompts.items[-1]
    extent = (last if isinstance(last, Box) else last.extent).intersect(whole)
    if extent is None:
        raise InputError("The last prompt lies outside the region to look at.")
    middle = extent.low[axis] + (extent.shape[axis] - 1) // 2
    low, high = list(whole.low), list(whole.high)
    low[axis], high[axis] = middle, middle + 1
    return Box(tuple(low), tuple(high))


def tiles(grid: Grid, part: Box, side: int) -> list[Box]:
    """Parts of a slice that a network can see without making them coarser, half overlapping; the slice if it is one.

    Parameters
    ----------
    grid : Grid
        Of the image.
    part : Box
        A slice of a volume, or a part of one, or of a flat image.
    side : int
        Samples that the network sees along each axis, square in mm: as fine as the finer axis of the slice.
    """
    plane = plane_of(grid, part)
    shape, limit = list(part.shape), list(zip(part.low, part.high, strict=True))
    for axis, ratio in zip(plane.axes, square_ratios(plane), strict=True):
        shape[axis] = max(int(side / ratio), 1)
        limit[axis] = (0, grid.shape[axis])
    if all(size <= most for size, most in zip(part.shape, shape, strict=True)):
        return [part]
    return covering(part, shape, Box(tuple(low for low, _ in limit), tuple(high for _, high in limit)))


def square_around(target: Box, length: float, grid: Grid, limit: Box) -> Box:
    """A square of `length` mm around a part of a slice, at least as large, moved and cut to lie inside a limit.

    Parameters
    ----------
    target : Box
        Inside `limit`.
    length : float
        mm.
    grid : Grid
        Of the image.
    limit : Box
        A slice, or a part of one, or of a flat image.
    """
    low, high = list(limit.low), list(limit.high)
    for axis in plane_axes(limit):
        size = min(max(round(length / grid.spacing[axis]), target.shape[axis]), limit.shape[axis])
        first = (target.low[axis] + target.high[axis] - size) // 2
        low[axis] = min(max(first, limit.low[axis]), limit.high[axis] - size)
        high[axis] = low[axis] + size
    return Box(tuple(low), tuple(high))
