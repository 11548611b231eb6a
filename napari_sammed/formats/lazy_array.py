"""Arrays that are read when NumPy needs them, and no more of them than was indexed before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_sammed.errors import Cancelled, InputError


class LazyArray:
    """A part of an array elsewhere. Indexing gives a smaller part; making a NumPy array of it reads it.

    Stored arrays (zarr) read as soon as they are indexed, and viewers index one axis after the other.

    Parameters
    ----------
    source : array-like
        Slices like NumPy, with steps.
    places : sequence of range or int, optional
        Which entries, along each axis of the source; default all.

    Attributes
    ----------
    shape, ndim, size, dtype
        As those of arrays.
    """

    def __init__(self, source: Any, places: Sequence[range | int] | None = None) -> None:
        self.source = source
        self.places = tuple(map(range, source.shape)) if places is None else tuple(places)
        self.shape = tuple(len(place) for place in self.places if isinstance(place, range))
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.dtype = np.dtype(source.dtype)

    def __getitem__(self, key: Any) -> LazyArray:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            keys[place : place + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        wanted = iter([*keys, *[slice(None)] * (self.ndim - len(keys))])
        places = [place[_plain(next(wanted))] if isinstance(place, range) else place for place in self.places]
        return LazyArray(self.source, places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not self.size:
            return np.zeros(self.shape, dtype or self.dtype)
        key = tuple(
            slice(place.start, place.stop, place.step) if isinstance(place, range) else place for place in self.places
        )
        try:
            found = np.asarray(self.source[key])
        except (Cancelled, InputError, MemoryError):
            raise
        except Exception as error:  # of a codec, a file system, a network: whatever the array is kept in
            said = " ".join(f"{error}".split())[:200] or type(error).__name__
            raise InputError(f"A part of the image cannot be read, it may be damaged: {said}.") from error
        return found.astype(dtype or self.dtype, copy=False)


def _plain(key: Any) -> Any:
    """Slices with NumPy's numbers are as good as others."""
    if isinstance(key, slice):
        return slice(*(None if value is None else int(value) for value in (key.start, key.stop, key.step)))
    return int(key)
