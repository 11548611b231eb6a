"""How an image travels: a frame that says what it is, then its voxels in slabs, each compressed on its own.

Both sides work with a few slabs at a time, however large the image is. Its id is `napari_sammed.volume.Volume.hash`,
which speaks of voxels, dtype and grid; neither names nor files go with it.
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sammed.backend.protocol import VERSION, values
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.errors import ProtocolError
from napari_sammed.geometry import Grid
from napari_sammed.volume import Volume

SLAB = 4 << 20
"""Bytes of voxels in a slab, as many as fit in whole."""

_THREADS = 4
_DTYPES = {"|u1", "|i1", *(f"<{kind}" for kind in ("u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8"))}


@dataclass(frozen=True)
class ImageHeader:
    """What an image is, before its voxels come.

    Parameters
    ----------
    id : str
        64 hexadecimal digits: see `napari_sammed.volume.Volume.hash`.
    grid : Grid
    dtype : dtype
        Of the voxels, little endian.
    channels : int
        1 for grey, 3 for colour.
    """

    id: str
    grid: Grid
    dtype: np.dtype
    channels: int = 1

    @classmethod
    def of(cls, image: Volume) -> ImageHeader:
        """ProtocolError for voxels that do not travel, such as those of 80-bit floats."""
        dtype = image.dtype.newbyteorder("<")
        if dtype.str not in _DTYPES:
            raise ProtocolError(f"Images of {image.dtype} cannot be sent: convert the voxels to float64 first.")
        return cls(image.hash, image.grid, dtype, image.channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array of voxels."""
        return self.grid.shape if self.channels == 1 else (*self.grid.shape, self.channels)

    @property
    def nbytes(self) -> int:
        """Of the voxels; to be compared with what is allowed before anything is allocated."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def slabs(self) -> list[tuple[int, int]]:
        """First voxel and end of each slab, of the flattened array."""
        count, step = math.prod(self.shape), max(SLAB // self.dtype.itemsize, 1)
        return [(start, min(start + step, count)) for start in range(0, count, step)]

    def to_frame(self) -> Frame:
        item: dict[str, Any] = {"version": VERSION, "id": self.id, "dtype": self.dtype.str, "channels": self.channels}
        return Frame({"image": item | values.grid_to_json(self.grid)})

    @classmethod
    def from_frame(cls, frame: Frame) -> ImageHeader:
        """The inverse of `to_frame`; ProtocolError, or the InputError of an impossible grid."""
        item = frame.header.get("image")
        if not isinstance(item, dict):
            raise ProtocolError(f"Images begin with what they are, not with {str(frame.header)[:80]}.")
        identity, dtype, channels = (item.get(key) for key in ("id", "dtype", "channels"))
        if not isinstance(dtype, str) or dtype not in _DTYPES or type(channels) is not int or channels not in (1, 3):
            raise ProtocolError(f"There are no images of {str(dtype)[:20]} with {str(channels)[:20]} channels.")
        return cls(check_image_id(identity), values.grid_from_json(item), np.dtype(dtype), channels)


def check_image_id(value: Any) -> str:
    """An id of an image: 64 hexadecimal digits."""
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ProtocolError(f"Not an id of an image: {str(value)[:80]!r}.")
    return value


def image_frames(image: Volume, header: ImageHeader, threads: int | None = None) -> Iterator[tuple[bytes, float]]:
    """An image as encoded frames, its header first, each with the share of it that is then on its way.

    Parameters
    ----------
    image : Volume
    header : ImageHeader
        Of it.
    threads : int, optional
        That compress slabs ahead; default: as many as there are cores, up to 4.
    """
    yield header.to_frame().encode(), 0.0
    flat = np.ascontiguousarray(image.array.astype(header.dtype, copy=False)).reshape(-1)
    slabs = header.slabs
    workers = min(threads or os.cpu_count() or 1, _THREADS, len(slabs))

    def encoded(number: int) -> bytes:
        start, end = slabs[number]
        return Frame({"slab": number}, (flat[start:end],)).encode()

    with ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[Future[bytes]] = collections.deque()
        try:
            for number in range(len(slabs) + workers):
                if number < len(slabs):
                    waiting.append(pool.submit(encoded, number))
                if number >= workers:
                    yield waiting.popleft().result(), (number - workers + 1) / len(slabs)
        finally:  # whoever stops reading does not wait for slabs that nobody wants
            for future in waiting:
                future.cancel()


class ImageWriter:
    """Takes in the frames of an image after its header, in order, into an array that somebody else has made.

    Parameters
    ----------
    header : ImageHeader
    into : ndarray
        Of ``header.shape`` and ``header.dtype``, such as a memory map.
    """

    def __init__(self, header: ImageHeader, into: np.ndarray) -> None:
        self._header = header
        self._flat = into.reshape(-1)
        self._next = 0

    def add(self, frame: Frame) -> None:
        """Write a slab.

        Raises
        ------
        ProtocolError
            If it is not the next one, or of another size or dtype.
        """
        slabs = self._header.slabs
        if frame.header.get("slab") != self._next or self._next >= len(slabs) or len(frame.arrays) != 1:
            raise ProtocolError(f"Slab {self._next} of {len(slabs)} was expected, not {str(frame.header)[:80]}.")
        start, end = slabs[self._next]
        (voxels,) = frame.arrays
        if voxels.dtype != self._header.dtype or voxels.shape != (end - start,):
            raise ProtocolError(f"Slab {self._next} has {end - start} {self._header.dtype}, not {voxels.shape}.")
        self._flat[start:end] = voxels
        self._next += 1

    @property
    def share(self) -> float:
        """The fraction of the image that is there."""
        return self._next / len(self._header.slabs)

    def end(self) -> None:
        """Call when no more frames come; ProtocolError if slabs are missing."""
        if self._next < len(self._header.slabs):
            raise ProtocolError(f"The image ends after {self._next} of {len(self._header.slabs)} slabs.")


def volume_of(header: ImageHeader, array: np.ndarray) -> Volume:
    """The image, once all voxels are there and on the disk.

    Raises
    ------
    ProtocolError
        If it is not the one that its id says.
    """
    volume = Volume(array, header.grid)
    if volume.hash != header.id:
        raise ProtocolError("The image is damaged: its voxels or its grid are not those that its id says.")
    return volume
