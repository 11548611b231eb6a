"""Reads damaged files for `tests.test_fuzzed_files`, in a process of its own, which a crash would end.

An order is a line ``KIND SEED COUNT`` on stdin. The answer: a line ``images refused seconds MiB`` of what was read all
the same, what was refused with an `InputError`, the CPU time of the slowest file, and by how much memory grew at most;
or ``defect`` and what was raised. A line ``.`` a file says that it goes on.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.segments import read_segments
from napari_sammed.session.journal_files import summary
from napari_sammed.volume import Volume, read_volume, write_mask
from tests.dicom_files import write_series, write_slice
from tests.pyramids import write_pyramid
from tests.test_bad_files import write_good

SHAPE = (6, 40, 50)
ROOM = 3 << 30
"""Bytes that the process may have beyond what it begins with."""


def _segments(path: Path) -> None:
    series = path.parent / "series"
    write_series(series, np.random.default_rng(0).integers(0, 99, (3, 16, 20)).astype(np.uint16), range(3))
    image = read_volume(series)
    labels = np.zeros((3, 16, 20), np.uint8)
    labels[1, 4:9, 5:12] = 1
    write_mask(labels, image.grid, path, {1: "liver"}, image=image)


def _journal(path: Path) -> None:
    from napari_sammed.backend.local import LocalBackend
    from napari_sammed.prompts import MaskPrompt
    from napari_sammed.session import Session

    backend = LocalBackend("cpu", models={})
    image = Volume(np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.uint8), Grid.plain(SHAPE))
    with Session(image, backend, journal=path) as session:
        for name in ("liver", "spleen"):
            session.take(MaskPrompt(np.ones((2, 3, 4), bool), (1, 2, 3)), name)
        session.undo()
    backend.shutdown()


def _frames(path: Path) -> None:
    write_slice(path, np.random.default_rng(0).integers(0, 99, (4, 16, 20)).astype(np.uint16))


def _packed(path: Path) -> None:
    """A series of scanned pages, as others write it: compressed, several to a file."""
    import tifffile

    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 99, (4, 16, 20)).astype(np.uint8), compression="zlib")


def _zarr(path: Path) -> None:
    write_pyramid(path, [np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.uint8)])


KINDS: dict[str, tuple[Callable[[Path], object] | None, str, Callable[[Path], object]]] = {
    **{end: (None, end, read_volume) for end in (".nii", ".nii.gz", ".nrrd", ".mha", ".tif")},
    **{end: (None, end, read_volume) for end in (".png", ".jpg", ".bmp", ".lzw.tif", ".dcm")},
    "frames.dcm": (_frames, ".dcm", lambda path: read_volume(path, frame=0)),
    "packed.tif": (_packed, ".tif", lambda path: read_volume(path, frame=0)),
    "segments.dcm": (_segments, ".dcm", read_segments),
    ".ome.zarr": (_zarr, ".ome.zarr", read_volume),
    ".jsonl": (_journal, ".jsonl", summary),
}
"""How a good file is made (None: as in `write_good`), what its name ends with, and how it is read."""

_ODD = [0, 1, -1, 2, 7, 255, 256, 65535, 32767, -32768, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1]
_WORDS = [
    b"nan",
    b"-1",
    b"0",
    b"1e999",
    b"999999999999",
    b"2147483648",
    b"-0.0",
    b"",
    b"raw",
    b"gzip",
    b"\x00",
    b"\xff",
]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file with something wrong with it, mostly in its header."""
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        header = min(len(found), rng.choice([64, 400, 400, 2000, len(found)]))
        if not header:
            break
        place = rng.randrange(header)
        match rng.randrange(7):
            case 0 | 1:
                found[place] = rng.randrange(256)
            case 2:
                kind = rng.choice(["<H", "<I", "<Q", ">H", ">I", "<f", "<d"])
                value = rng.choice(_ODD)
                if kind[1] in "fd":
                    number = struct.pack(kind, rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30]))
                else:
                    number = struct.pack(kind, value % (1 << 8 * struct.calcsize(kind)))
                found[place : place + len(number)] = number
            case 3:
                del found[place : place + rng.choice([1, 2, 4, 16])]
            case 4:
                found[place:place] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 2, 4, 64])))
            case 5:
                words = list(re.finditer(rb"-?\d+(\.\d+)?|[A-Za-z_]{3,}", bytes(found[:header])))
                if words:
                    word = rng.choice(words)
                    found[word.start() : word.end()] = rng.choice(_WORDS)
            case 6:
                found = found[: rng.randrange(len(found))]
    return bytes(found)


def spoil(good: Path, path: Path, rng: random.Random) -> None:
    """Put a damaged copy of a good file, or folder, to a path."""
    if good.is_file():
        content = good.read_bytes()
        if good.suffix == ".gz" and rng.random() < 0.8:  # else the sum of the packed bytes would be all that is tested
            path.write_bytes(gzip.compress(damaged(gzip.decompress(content), rng), 1))
        else:
            path.write_bytes(damaged(content, rng))
        return
    if path.exists():
        shutil.rmtree(path)
    shutil.copytree(good, path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    headers = [file for file in files if file.name == "zarr.json"]
    file = rng.choice(headers if rng.random() < 0.8 else files)
    file.write_bytes(damaged(file.read_bytes(), rng))


def _own_time() -> float:
    """CPU seconds without the system's: with DICOM they go into memory that GDCM believes in, which is bounded."""
    return os.times().user


def batch(kind: str, seed: int, count: int, folder: Path) -> str:
    """Read so many damaged files of a kind."""
    make, ending, read = KINDS[kind]
    (folder / "good").mkdir()
    good = folder / "good" / f"image{ending}"
    good = write_good(folder / "good", kind) if make is None else (make(good), good)[1]
    read(good)
    rng = random.Random(f"{kind} {seed}")
    images, refused, slowest, path = 0, 0, 0.0, folder / f"image{ending}"
    clock = _own_time if kind.endswith("dcm") else time.process_time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        spoil(good, path, rng)
        start = clock()
        try:
            read(path)
            images += 1
        except InputError as error:
            if "\n" in str(error):
                return f"defect file {number}: more than one line: {str(error)!r}"
            refused += 1
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"fuzzed-{number}{ending}"
            if path.is_file():
                shutil.copy(path, kept)
            return f"defect file {number}, kept as {kept}: {json.dumps(traceback.format_exc()[-1500:])}"
        slowest = max(slowest, clock() - start)
        print(".", flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return f"{images} {refused} {slowest:.3f} {grown}"


def main() -> None:
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM,) * 2)
    print("up", flush=True)
    for order in sys.stdin:
        kind, seed, count = order.split()
        with tempfile.TemporaryDirectory() as folder:
            print(batch(kind, int(seed), int(count), Path(folder)), flush=True)


if __name__ == "__main__":
    main()
