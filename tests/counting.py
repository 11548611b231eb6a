"""An array elsewhere that counts what is read of it."""

from __future__ import annotations

from typing import Any

import numpy as np


class Counting:
    """Slices like NumPy, and fails where more is read than allowed.

    Parameters
    ----------
    array : ndarray
    limit : int, optional
        Bytes that may be read of it.
    """

    def __init__(self, array: np.ndarray, limit: int | None = None) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.size, self.nbytes = array.size, array.nbytes
        self.limit = limit
        self.read = 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self._array[key]
        self._count(part.nbytes)
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._count(self.nbytes)
        return np.array(self._array, dtype)

    def _count(self, nbytes: int) -> None:
        self.read += nbytes
        assert self.limit is None or self.read <= self.limit, f"read {self.read} bytes, only {self.limit} were allowed"
