"""A frame of an array, without reading the array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def part_of(array: Any, at: Sequence[int | None]) -> Any:
    """The part of an array at some place along its first axes.

    Parameters
    ----------
    array : array-like
        Of any kind that napari shows: in memory, on disk, computed on demand.
    at : sequence of int or None
        Index along each of the first axes; None for one of them, which goes to the end, as colours.

    Returns
    -------
    array-like
        Of the same kind where indexing that kind reads nothing, else one that reads what it is indexed with.
    """
    if not at:
        return array
    if not isinstance(array, np.ndarray) and not hasattr(array, "compute"):
        return Part(array, at)
    part = array[tuple(slice(None) if index is None else index for index in at)]
    return np.moveaxis(part, 0, -1) if None in at else part


class Part:
    """A part of an array on disk (zarr, HDF5) or of another that reads when it is indexed; see `part_of`.

    Attributes
    ----------
    shape, ndim, dtype
        As those of arrays.
    """

    def __init__(self, array: Any, at: Sequence[int | None]) -> None:
        self._array = array
        self._at = tuple(at)
        rest = tuple(map(int, array.shape[len(self._at) :]))
        colours = tuple(int(array.shape[axis]) for axis, index in enumerate(self._at) if index is None)
        self.shape = rest + colours
        self.ndim = len(self.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            keys[place : place + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        rest = len(self.shape) - self._at.count(None)
        colours = iter(keys[rest:])
        first = tuple(next(colours) if index is None else index for index in self._at)
        part = np.asarray(self._array[(*first, *keys[:rest])])
        if None in self._at and isinstance(keys[-1], slice):
            part = np.moveaxis(part, 0, -1)
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)
