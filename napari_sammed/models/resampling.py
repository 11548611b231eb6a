"""Values of an image at the points of another grid whose axes run along the image's own. Imports no torch.

Such grids (other spacing, other order and direction of the axes, any offset) are all that volumetric networks need:
interpolation then goes axis by axis, reads only the part of the image that the grid covers, and copies nothing else.
"""

from __future__ import annotations

import numpy as np

from napari_sammed.geometry import Box, Grid

_PARALLEL = 1e-3  # how much of a step along one axis may go along the others; headers are that exact
_AT_ONCE = 1 << 24  # values interpolated at once: answers about whole bodies are large


def resample(array: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Linear interpolation, 0 outside of the image; no filter before making it coarser.

    As the linear resampler of SimpleITK does: an image reaches half a voxel beyond the centres of its outermost voxels,
    and in that rim has the value of the nearest one.

    Parameters
    ----------
    array : ndarray
        Of shape ``source.shape``, any real dtype.
    source, target : Grid
        Each axis of one is parallel to an axis of the other.

    Returns
    -------
    ndarray
        Of shape ``target.shape``; float32 for float32 and float16, else float64, in which whole numbers stay exact.

    Raises
    ------
    ValueError
        For grids that are tilted against each other.
    """
    axes, lines = _lines(source, target)
    values = array.transpose(axes)
    dtype = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    result = np.zeros(target.shape, dtype)
    inside = tuple(_inside(line, size) for line, size in zip(lines, values.shape, strict=True))
    if any(part.start == part.stop for part in inside):
        return result
    wanted = [np.clip(line[part], 0, n - 1) for line, part, n in zip(lines, inside, values.shape, strict=True)]
    first = [int(line.min()) for line in wanted]
    values = values[tuple(slice(a, int(line.max()) + 2) for a, line in zip(first, wanted, strict=True))]
    filled = result[inside]
    rows = max(_AT_ONCE * len(filled) // filled.size, 1)
    for start in range(0, len(filled), rows):
        slab = values
        for axis, line in enumerate([wanted[0][start : start + rows], *wanted[1:]]):
            slab = _interpolate(slab, axis, line - first[axis], result.dtype)
        filled[start : start + rows] = slab
    return result


def coverage(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Which share of each voxel of the target is covered by a mask.

    Parameters
    ----------
    mask : ndarray of bool
        Of shape ``source.shape``; there is nothing outside of it.
    source, target : Grid
        Each axis of one is parallel to an axis of the other.

    Returns
    -------
    ndarray of float32
        Of shape ``target.shape``, 0 to 1.

    Raises
    ------
    ValueError
        For grids that are tilted against each other.
    """
    axes, lines = _lines(source, target)
    turned = mask.transpose(axes)
    first, *others = (
        _overlaps(line, step / source.spacing[own], size)
        for line, step, own, size in zip(lines, target.spacing, axes, turned.shape, strict=True)
    )
    shares = np.zeros((len(first), *turned.shape[1:]), np.float32)
    for row, weights in zip(shares, first, strict=True):  # one at a time, as the mask in floats may be large
        touched = np.flatnonzero(weights)
        row += np.tensordot(weights[touched], turned[touched].astype(np.float32), 1)
    for axis, weights in enumerate(others, start=1):
        shares = np.moveaxis(np.tensordot(weights, shares, (1, axis)), 0, axis)
    return np.ascontiguousarray(shares.clip(0, 1))


def _overlaps(centres: np.ndarray, length: float, size: int) -> np.ndarray:
    """Share of each of some intervals around centres that lies on each voxel of a line: (intervals, size)."""
    voxels = np.arange(size)
    ends = np.minimum(centres[:, None] + length / 2, voxels + 0.5)
    starts = np.maximum(centres[:, None] - length / 2, voxels - 0.5)
    return ((ends - starts).clip(0) / length).astype(np.float32)


def covered(image: Grid, grid: Grid) -> Box | None:
    """The voxels of an image whose centres lie in a grid parallel to it (half a sample beyond the outermost centres
    included); None if there are none."""
    axes, lines = _lines(grid, image)
    inside = [_inside(line, grid.shape[axis]) for axis, line in zip(axes, lines, strict=True)]
    if any(part.start == part.stop for part in inside):
        return None
    return Box(tuple(part.start for part in inside), tuple(part.stop for part in inside))


def _lines(source: Grid, target: Grid) -> tuple[tuple[int, ...], list[np.ndarray]]:
    """For each axis of the target: the axis of the source that it runs along, and the source's indices on it."""
    steps = np.linalg.solve(source.matrix, target.matrix)  # column: one step along an axis of the target
    axes = tuple(int(axis) for axis in np.abs(steps).argmax(axis=0))
    along = steps[axes, range(target.ndim)]
    across = steps.copy()
    across[axes, range(target.ndim)] = 0
    if sorted(axes) != list(range(source.ndim)) or np.abs(across).max() > _PARALLEL * np.abs(along).min():
        raise ValueError("the two grids are tilted against each other")
    first = source.to_index(target.origin)
    sizes = target.shape
    return axes, [first[a] + step * np.arange(n) for a, step, n in zip(axes, along, sizes, strict=True)]


def _inside(line: np.ndarray, size: int) -> slice:
    """The part of ascending or descending indices that lies in an axis of `size` voxels."""
    hits = np.flatnonzero((line >= -0.5) & (line < size - 0.5))
    return slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0)


def _interpolate(values: np.ndarray, axis: int, line: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values at fractional indices along one axis; in place where possible, as volumes are large."""
    before = np.minimum(line.astype(int), max(values.shape[axis] - 2, 0))
    after = np.minimum(before + 1, values.shape[axis] - 1)
    share = (line - before).astype(dtype).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    result = values.take(before, axis).astype(dtype, copy=False)
    difference = values.take(after, axis).astype(dtype, copy=False)
    difference -= result
    difference *= share
    result += difference
    return result
