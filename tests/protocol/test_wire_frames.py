"""Frames: everything comes back as it was, and bytes that are none give a ProtocolError, whatever they say."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import zlib

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sammed.backend.protocol.frames import MOST_HEADER, Frame, FrameReader, read_frames, read_frames_async
from napari_sammed.errors import ProtocolError

LIMIT = 1 << 24
DTYPES = ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", ">i2", ">f8")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
headers = st.dictionaries(st.text().filter(lambda key: key != "arrays"), anything, max_size=4)
some_arrays = st.lists(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    ),
    max_size=4,
)


def assert_same(found: Frame, expected: Frame) -> None:
    assert found.header == expected.header
    assert len(found.arrays) == len(expected.arrays)
    for array, other in zip(found.arrays, expected.arrays, strict=True):
        assert array.dtype == other.dtype.newbyteorder("<") and array.shape == other.shape
        assert array.tobytes() == other.astype(other.dtype.newbyteorder("<")).tobytes()  # NaN as well, to the bit


@settings(max_examples=150, deadline=None)
@given(headers, some_arrays)
def test_frames_come_back_as_they_were(header, arrays):
    frame = Frame(header, tuple(arrays))
    assert_same(Frame.decode(frame.encode(), LIMIT), frame)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(headers, some_arrays), max_size=4), st.integers(1, 50))
def test_a_stream_may_be_cut_anywhere(contents, step):
    sent = [Frame(header, tuple(arrays)) for header, arrays in contents]
    data = b"".join(frame.encode() for frame in sent)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    for found in (list(read_frames(pieces, LIMIT)), asyncio.run(collect(pieces))):
        assert len(found) == len(sent)
        for one, other in zip(found, sent, strict=True):
            assert_same(one, other)


async def collect(pieces):
    async def arriving():
        for piece in pieces:
            yield piece

    return [frame async for frame in read_frames_async(arriving(), LIMIT)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_arrays_come_back_as_they_were(dtype):
    noise = np.random.default_rng(0).integers(0, 3, (60, 70, 41)).astype(dtype)
    smooth = np.broadcast_to(np.arange(90).reshape(1, 90, 1) > 40, (50, 90, 80)).astype(dtype)
    frame = Frame({"a": 1}, (noise, smooth, noise[::2, ::-1], smooth.T))
    assert_same(Frame.decode(frame.encode(), 1 << 26), frame)


def test_masks_travel_as_few_bytes():
    mask = np.zeros((64, 256, 256), bool)
    mask[20:40, 60:120, 70:150] = True
    assert len(Frame({}, (mask,)).encode()) < mask.size / 200


EXAMPLE = Frame(
    {"kind": "predict", "arguments": {"window": None, "scores": [0.5, 1]}},
    (np.eye(40, dtype=bool), np.arange(90, dtype="<f4").reshape(9, 10), np.arange(99, dtype="u1"), np.zeros(3, "<i8")),
).encode()


def assert_frames_or_protocol_error(data: bytes) -> None:
    try:
        for frame in read_frames([data], 1 << 16):
            assert sum(array.nbytes for array in frame.arrays) <= 1 << 16
    except ProtocolError as error:
        assert 10 < len(str(error)) < 400


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_give_nothing_but_protocol_errors(changes):
    data = bytearray(EXAMPLE)
    for place, value in changes:
        data[place] = value
    assert_frames_or_protocol_error(bytes(data))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(EXAMPLE)), st.integers(0, len(EXAMPLE)), st.binary(max_size=20))
def test_bytes_cut_out_or_put_in_give_nothing_but_protocol_errors(start, end, inserted):
    assert_frames_or_protocol_error(EXAMPLE[:start] + inserted + EXAMPLE[end:])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), anything)
def test_bytes_from_anywhere_give_nothing_but_protocol_errors(data, listed):
    assert_frames_or_protocol_error(data)
    assert_frames_or_protocol_error(raw(json.dumps({"arrays": listed}).encode(), data))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["|b1", "<f4", "<i8", "O", "|O", "<U4", "<c8", "<f16", "V8", 7, None]),
    st.lists(st.integers(-2, 1 << 70) | st.integers(0, 9) | st.floats() | st.none() | st.booleans(), max_size=10),
    st.sampled_from(["raw", "zlib", "bits+zlib", "shuffle+zlib", "pickle", None, []]),
    st.integers(-1, 1 << 70) | st.integers(0, 99) | st.none() | st.booleans(),
    st.binary(max_size=60),
)
def test_lying_headers_give_nothing_but_protocol_errors(dtype, shape, encoding, length, payload):
    shape = [size if size == size and abs(size or 0) < float("inf") else 0.5 for size in (s or 0 for s in shape)]
    entry = {"dtype": dtype, "shape": shape, "encoding": encoding, "bytes": length}
    assert_frames_or_protocol_error(raw(json.dumps({"arrays": [entry]}).encode(), payload))


def raw(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<4sI", b"NSF1", len(header)) + header + payload


def entry(payload: bytes, shape, dtype="|u1", encoding="zlib", length=None) -> bytes:
    item = {"dtype": dtype, "shape": shape, "encoding": encoding, "bytes": len(payload) if length is None else length}
    return raw(json.dumps({"arrays": [item]}).encode(), payload)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1", "begins with b'GET '"),
        (b"NSF1\xff\xff\xff\xff", "has 2 to"),
        (raw(b"{}" * 2), "not JSON"),
        (raw(b"[1]"), "JSON object"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b'{"a":NaN}'), "NaN is not allowed"),
        (raw(b'{"a":"\xff"}'), "not JSON"),
        (raw(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON"),
        (EXAMPLE[:-1], "in the middle"),
        (entry(b"\x02", [1], "|b1", "raw"), "other than 0 and 1"),
        (entry(zlib.compress(b"ab") + b"x", [2]), "followed"),
        (entry(zlib.compress(b"abc"), [2]), "goes on after"),
        (entry(zlib.compress(b"a"), [2]), "ends after 1 of 2"),
        (entry(zlib.compress(b"abcd" * 9)[:-5], [36]), "cut off"),
        (entry(b"x" * 9, [2]), "damaged"),
        (entry(b"x" * 4, [1], "|O", "raw"), "describe an array"),
        (entry(b"x" * 4, [1] * 9, "|u1", "raw"), "no array of shape"),
        (entry(b"x" * 4, [4], "|u1", "bits+zlib"), "not encoded"),
        (entry(b"", [1 << 40, 0]), "more than the"),
    ],
)
def test_what_was_wrong_is_said(data, words):
    with pytest.raises(ProtocolError, match=words):
        Frame.decode(data, LIMIT)


def test_frames_that_cannot_be_made():
    with pytest.raises(ProtocolError, match="do not travel"):
        Frame({}, (np.array([1j]),)).encode()
    with pytest.raises(ProtocolError, match="do not travel"):
        Frame({}, (np.array([object()]),)).encode()
    with pytest.raises(ProtocolError, match="header of a frame has"):
        Frame({"a": "x" * MOST_HEADER}).encode()
    with pytest.raises(ProtocolError, match="0 came"):
        Frame.decode(b"", LIMIT)


def test_a_frame_over_the_limit_is_refused_before_its_arrays_come():
    data = Frame({}, (np.random.default_rng(0).bytes(1),) and (np.arange(5000, dtype="<u2"),)).encode()
    reader = FrameReader(9_999)
    with pytest.raises(ProtocolError, match="10000 bytes, more than the 9999"):
        list(reader.feed(data[:200]))
    assert list(FrameReader(10_000).feed(data))


BOMBS = """
import json, resource, struct, sys, time, zlib
import numpy as np
from napari_sammed.backend.protocol.frames import read_frames
from napari_sammed.errors import ProtocolError

def frame(header, payload=b""):
    header = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<4sI", b"NSF1", len(header)) + header + payload

def array(payload, shape, dtype="|u1", encoding="zlib"):
    item = {"dtype": dtype, "shape": shape, "encoding": encoding, "bytes": len(payload)}
    return frame({"arrays": [item]}, payload)

packer = zlib.compressobj(9)
zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 8)) + packer.flush()  # 256 MiB in 256 kB
twice = zlib.compress(zeros, 9)  # 256 MiB in a few hundred bytes
tiny = zlib.compress(b"")
limit = 1 << 28
bombs = {
    "more than is allowed": array(zeros, [limit + 1]),
    "256 MiB where 100 bytes are announced": array(zeros, [100]),
    "256 MiB where 16 MiB are announced": array(zeros, [1 << 24]),
    "twice compressed zeros": array(twice, [1 << 28]),
    "bits of 2 GiB": array(zeros, [1 << 31], "|b1", "bits+zlib"),
    "an exabyte": array(tiny, [1 << 60]),
    "an overflow": array(tiny, [1 << 32, 1 << 32, 16], "<f8", "shuffle+zlib"),
    "256 MiB in 8 bytes": array(tiny, [1 << 28]),
    "a million axes": array(tiny, [1] * 300_000),
    "arrays that are small, but many": frame(
        {"arrays": [{"dtype": "|u1", "shape": [1 << 20], "encoding": "zlib", "bytes": 1100}] * 10_000}, zeros),
    "brackets": frame(b"[" * (1 << 20)),
    "a header of 4 GiB": b"NSF1" + b"\\xff" * 4,
}
del zeros
reached = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
worst = 0
for what, data in bombs.items():
    start = time.perf_counter()
    try:
        list(read_frames([data], limit))
    except ProtocolError as error:
        pass
    else:
        sys.exit(f"{what} was taken")
    worst = max(worst, time.perf_counter() - start)
print(json.dumps({"grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - reached) << 10, "seconds": worst}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of a process")
def test_bombs_are_refused_without_the_memory_that_they_want():
    done = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["grown"] < 64 << 20
