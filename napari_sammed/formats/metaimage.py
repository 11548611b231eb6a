"""The headers of MetaImage files, looked at before ITK is: its reader believes them, and what is wrong can crash it."""

from __future__ import annotations

import math
import re
from pathlib import Path

from napari_sammed.errors import InputError

ENDINGS = (".mha", ".mhd")
_LONGEST = 1 << 16  # bytes of a header that a person or a program would write
_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "FLOAT": 4, "DOUBLE": 8, "LONG_LONG": 8, "ULONG_LONG": 8}
_BYTES |= {"INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4}
_PER_AXIS = ("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_PACKED = 1100  # how much longer deflate can make a file, and some more


def check_metaimage(path: Path) -> None:
    """Refuse a file whose header contradicts itself, or tells of more voxels than the file can hold.

    Raises
    ------
    InputError
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST)
        size = path.stat().st_size
    except OSError:
        return  # the reader says why
    found = {
        match[1].decode(): match[2].decode("latin-1").strip()
        for match in re.finditer(rb"^[ \t]*([A-Za-z]\w*)[ \t]*=([^\r\n]*)", _header(start), re.MULTILINE)
    }
    axes = _numbers(found.get("NDims", ""))
    shape = _numbers(found.get("DimSize", ""))
    channels = _numbers(found.get("ElementNumberOfChannels", "1"))
    if not axes or len(axes) > 1 or axes[0] not in (2, 3, 4) or len(shape) != axes[0] or channels[:1] < [1]:
        raise _damaged(path)
    if any(n < 1 or n != int(n) for n in shape):
        raise _damaged(path)
    n = int(axes[0])
    lengths = {key: n for key in _PER_AXIS} | {key: n * n for key in _MATRICES}
    for key, length in lengths.items():
        if key in found and len(_numbers(found[key])) != length:
            raise _damaged(path)
    voxel = _BYTES.get(found.get("ElementType", "").upper().removeprefix("MET_").removesuffix("_ARRAY"), 1)
    claimed = math.prod(int(n) for n in shape) * int(channels[0]) * voxel
    packed = found.get("CompressedData", "").lower().startswith("t")
    if found.get("ElementDataFile", "").upper() == "LOCAL" and claimed > size * (_PACKED if packed else 1):
        raise _damaged(path)


def _header(start: bytes) -> bytes:
    """The lines up to the one after which the voxels come."""
    end = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[^\r\n]*", start, re.MULTILINE)
    return start[: end.end()] if end else start


def _numbers(text: str) -> list[float]:
    """The finite numbers in a text; none if there is anything else in it."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} cannot be read: its MetaImage header is damaged, or the file is incomplete.")
