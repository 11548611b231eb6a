"""Frames: a JSON object and some arrays as bytes, and back, from bytes that nobody vouches for.

    "NSF1", length of the header (uint32, little endian), header (UTF-8 JSON, an object), payloads

The header lists the payloads under "arrays": each with dtype, shape, encoding and length in bytes. A stream is one
frame after the other. Readers count: whatever the bytes say, no more memory is taken than a few times the reader's
limit, and what is not a frame is a `ProtocolError` that says what was wrong.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sammed.errors import ProtocolError

MAGIC = b"NSF1"
MOST_HEADER = 1 << 20
"""Bytes of the longest header."""

_PREFIX = struct.Struct("<4sI")
_DTYPES = {
    np.dtype(name).str: np.dtype(name) for name in ("|b1", "|i1", "|u1", *(f"<{k}{n}" for k in "iu" for n in (2, 4, 8)))
} | {name: np.dtype(name) for name in ("<f2", "<f4", "<f8")}
_MOST_AXES = 8
_SMALL = 64  # bytes that are not worth compressing
_DEFLATE = 1032  # what deflate can make of a byte at most
_PIECE = 1 << 18  # bytes inflated at a time


@dataclass(frozen=True)
class Frame:
    """Some JSON and some arrays.

    Parameters
    ----------
    header : dict
        Of what JSON knows, NaN and infinity excepted; without the key "arrays".
    arrays : tuple of ndarray
        Of real dtypes (boolean, integers, floats); read-only when they come from bytes.
    """

    header: dict[str, Any]
    arrays: tuple[np.ndarray, ...] = ()

    def encode(self) -> bytes:
        """The frame as bytes; masks as bits, all but small arrays compressed.

        Raises
        ------
        ProtocolError
            For dtypes that do not travel, and for headers over `MOST_HEADER`.
        """
        packed = [_packed(np.asarray(array)) for array in self.arrays]
        listed = {"arrays": [entry for entry, _ in packed]} if packed else {}
        header = json.dumps({**self.header, **listed}, separators=(",", ":"), allow_nan=False).encode()
        if len(header) > MOST_HEADER:
            raise ProtocolError(f"The header of a frame has {len(header)} bytes, more than {MOST_HEADER}.")
        return b"".join((_PREFIX.pack(MAGIC, len(header)), header, *(payload for _, payload in packed)))

    @classmethod
    def decode(cls, data: bytes, limit: int) -> Frame:
        """The inverse of `encode`: exactly one frame; `limit` as for `FrameReader`."""
        found = list(read_frames([data], limit))
        if len(found) != 1:
            raise ProtocolError(f"One frame was expected, and {len(found)} came.")
        return found[0]


class FrameReader:
    """Makes frames of the bytes of a stream, however they are cut.

    Parameters
    ----------
    limit : int
        Most bytes of the arrays of one frame, as they are in memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._header: dict[str, Any] | None = None
        self._entries: list[_Entry] = []

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole with these bytes, one by one: go through all of them before feeding more.

        Raises
        ------
        ProtocolError
        """
        rest = memoryview(data)
        while True:
            need = self._need()
            taken = rest[: need - len(self._buffer)]
            self._buffer += taken
            rest = rest[len(taken) :]
            if len(self._buffer) < need:
                return
            if self._header is not None:
                yield self._frame()
            elif need > _PREFIX.size:
                self._header, self._entries = _parsed(bytes(self._buffer[_PREFIX.size :]), self._limit)
                self._buffer.clear()

    def end(self) -> None:
        """Call when no more bytes come.

        Raises
        ------
        ProtocolError
            If a frame is cut off.
        """
        if self._buffer or self._header is not None:
            raise ProtocolError("The data ends in the middle of a frame.")

    def _need(self) -> int:
        """Length that the buffer has at the end of the present part: the prefix; with the header; all payloads."""
        if self._header is not None:
            return sum(entry.length for entry in self._entries)
        if len(self._buffer) < _PREFIX.size:
            return _PREFIX.size
        magic, length = _PREFIX.unpack_from(self._buffer)
        if magic != MAGIC:
            raise ProtocolError(f"This is not a frame: it begins with {bytes(magic)!r}, not {MAGIC!r}.")
        if not 2 <= length <= MOST_HEADER:
            raise ProtocolError(f"The header of a frame has 2 to {MOST_HEADER} bytes, not {length}.")
        return _PREFIX.size + length

    def _frame(self) -> Frame:
        view, arrays, start = memoryview(self._buffer), [], 0
        for entry in self._entries:
            arrays.append(entry.unpacked(view[start : start + entry.length]))
            start += entry.length
        frame = Frame(self._header or {}, tuple(arrays))
        self._buffer, self._header, self._entries = bytearray(), None, []
        return frame


def read_frames(chunks: Iterable[bytes], limit: int) -> Iterator[Frame]:
    """All frames of a stream, each as soon as it is whole; `limit` and errors as for `FrameReader`."""
    reader = FrameReader(limit)
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.end()


async def read_frames_async(chunks: AsyncIterable[bytes], limit: int) -> AsyncIterator[Frame]:
    """As `read_frames`, for bytes that are waited for."""
    reader = FrameReader(limit)
    async for chunk in chunks:
        for frame in reader.feed(chunk):
            yield frame
    reader.end()


@dataclass(frozen=True)
class _Entry:
    """What a header says of one array, checked."""

    dtype: np.dtype
    shape: tuple[int, ...]
    encoding: str
    length: int

    @classmethod
    def of(cls, item: Any) -> _Entry:
        try:
            dtype, shape, encoding, length = (item[key] for key in ("dtype", "shape", "encoding", "bytes"))
            entry = cls(_DTYPES[dtype], tuple(shape), encoding, length)
        except (KeyError, TypeError):
            raise ProtocolError(f"This does not describe an array: {str(item)[:80]}.") from None
        if len(entry.shape) > _MOST_AXES or any(type(size) is not int or size < 0 for size in (*entry.shape, length)):
            raise ProtocolError(f"There is no array of shape {str(shape)[:80]} in {str(length)[:20]} bytes.")
        return entry

    @property
    def extent(self) -> int:
        """Bytes in memory; those of an empty array as if it had no axis of length 0, which NumPy minds as well."""
        return math.prod(max(size, 1) for size in self.shape) * self.dtype.itemsize

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def stored(self) -> tuple[int, int]:
        """What is compressed: so many items of so many bytes."""
        match self.encoding:
            case "raw" | "zlib":
                return self.count * self.dtype.itemsize, 1
            case "shuffle+zlib":
                return self.count, self.dtype.itemsize
            case "bits+zlib" if self.dtype == bool:
                return (self.count + 7) // 8, 1
        raise ProtocolError(f"Arrays of {self.dtype} are not encoded as {str(self.encoding)[:20]!r}.")

    def check(self) -> None:
        """Refuse what the length cannot hold."""
        size = math.prod(self.stored)
        if self.encoding == "raw":
            fits = self.length == size
        else:
            fits = size <= self.length * _DEFLATE and self.length <= size + size // 1000 + 64
        if not fits:
            raise ProtocolError(f"{self.length} bytes ({self.encoding}) are no {self.dtype} array of {self.shape}.")

    def unpacked(self, payload: memoryview) -> np.ndarray:
        raw = self.encoding == "raw"  # copied: aligned, and the buffer is free
        flat = np.frombuffer(payload, np.uint8).copy() if raw else _inflated(payload, *self.stored)
        if self.encoding == "bits+zlib":
            flat = np.unpackbits(flat, count=self.count)
        elif self.dtype == bool and flat.size and flat.max() > 1:
            raise ProtocolError("A boolean array has values other than 0 and 1.")
        array = flat.view(self.dtype).reshape(self.shape)
        array.setflags(write=False)
        return array


def _parsed(data: bytes, limit: int) -> tuple[dict[str, Any], list[_Entry]]:
    """A header, and what it says of its arrays."""
    try:
        header = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"The header of a frame is not JSON: {str(error)[:80]}.") from None
    if not isinstance(header, dict):
        raise ProtocolError(f"The header of a frame is a JSON object, not {str(header)[:80]}.")
    listed = header.pop("arrays", [])
    if not isinstance(listed, list):
        raise ProtocolError(f"The arrays of a frame are a list, not {str(listed)[:80]}.")
    entries = [_Entry.of(item) for item in listed]
    total = sum(entry.extent for entry in entries)
    if total > limit:
        raise ProtocolError(f"The arrays of a frame take {total} bytes, more than the {limit} that are allowed.")
    for entry in entries:
        entry.check()
    return header, entries


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def _packed(array: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """What the header says of an array, and its payload: raw, unless compression makes it smaller."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.str not in _DTYPES or array.ndim > _MOST_AXES:
        raise ProtocolError(f"Arrays of {array.dtype} with {array.ndim} axes do not travel.")
    payload, encoding = array.tobytes(), "raw"
    if array.dtype == bool:
        squeezed, name = np.packbits(array), "bits+zlib"
    elif array.dtype.itemsize > 1:
        squeezed, name = array.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize).T, "shuffle+zlib"
    else:
        squeezed, name = array, "zlib"
    if array.nbytes > _SMALL:
        packer = zlib.compressobj(1, strategy=zlib.Z_RLE if array.dtype == bool else zlib.Z_DEFAULT_STRATEGY)
        smaller = packer.compress(np.ascontiguousarray(squeezed)) + packer.flush()
        if len(smaller) < len(payload):
            payload, encoding = smaller, name
    entry = {"dtype": array.dtype.str, "shape": list(array.shape), "encoding": encoding, "bytes": len(payload)}
    return entry, payload


def _inflated(payload: memoryview, count: int, itemsize: int) -> np.ndarray:
    """So many items of so many bytes, uint8, from compressed planes: all first bytes, all second ones and so on."""
    result = np.empty((count, itemsize), np.uint8)
    done, size = 0, count * itemsize
    for piece in _pieces(payload):
        if done + len(piece) > size:
            raise ProtocolError(f"Compressed data goes on after the {size} bytes that were announced.")
        while piece:
            plane, start = divmod(done, count)
            some = piece[: count - start]
            result[start : start + len(some), plane] = np.frombuffer(some, np.uint8)
            piece, done = piece[len(some) :], done + len(some)
    if done != size:
        raise ProtocolError(f"Compressed data ends after {done} of {size} bytes.")
    return result.reshape(-1)


def _pieces(payload: memoryview) -> Iterator[memoryview]:
    """What compressed data inflates to, in pieces of bounded size; all of it, and nothing after it."""
    inflater = zlib.decompressobj()
    try:
        for start in range(0, len(payload) + 1, _PIECE):
            waiting = payload[start : start + _PIECE]
            while not inflater.eof:
                piece = inflater.decompress(waiting, _PIECE)
                waiting = inflater.unconsumed_tail
                if piece:
                    yield memoryview(piece)
                elif not waiting:
                    break
            if inflater.eof and (inflater.unused_data or start + _PIECE < len(payload)):
                raise ProtocolError("Compressed data is followed by something else.")
    except zlib.error:
        raise ProtocolError("Compressed data is damaged.") from None
    if not inflater.eof:
        raise ProtocolError("Compressed data is cut off.")


def header_value(header: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """An entry of a header that has to be there, of a certain type (True is no number).

    Raises
    ------
    ProtocolError
    """
    value = header.get(key)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ProtocolError(f"{key!r} is missing or wrong: {str(value)[:80]}.")
    return value
