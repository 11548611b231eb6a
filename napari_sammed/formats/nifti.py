"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz).

Read here and not through ITK, which reads a truncated file as zeros without a word, ignores checksums, and refuses
or overrides an sform that it cannot represent.

Which of the two transforms counts: the sform where its code is positive, else the qform, as in nibabel and FSL; a
warning says where they disagree. (ITK, and with it Slicer, follows the qform for some such files.)
Source: NIfTI-1 and NIfTI-2 headers, nifti.nimh.nih.gov.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import RawImage, choose_frame, drop_opacity, naming, place, warn
from napari_sammed.geometry import Grid

_FIELDS = {  # name: (format and offset in NIfTI-1, the same in NIfTI-2)
    "size": (("i4", 0), ("i4", 0)),
    "dim": (("8i2", 40), ("8i8", 16)),
    "datatype": (("i2", 70), ("i2", 12)),
    "pixdim": (("8f4", 76), ("8f8", 104)),
    "offset": (("f4", 108), ("i8", 168)),
    "slope": (("f4", 112), ("f8", 176)),
    "intercept": (("f4", 116), ("f8", 184)),
    "units": (("u1", 123), ("i4", 500)),
    "qform_code": (("i2", 252), ("i4", 344)),
    "sform_code": (("i2", 254), ("i4", 348)),
    "quaternion": (("3f4", 256), ("3f8", 352)),
    "qoffset": (("3f4", 268), ("3f8", 376)),
    "sform": (("(3,4)f4", 280), ("(3,4)f8", 400)),
    "magic": (("S4", 344), ("S8", 4)),
}
_SIZES = {348: 0, 540: 1}  # bytes of the header: column in _FIELDS
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
    128: "3u1", 2304: "4u1",
}  # fmt: skip
_BYTES = 2  # the type of 8-bit voxels
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # metres, micrometres; everything else is taken for millimetres
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GZIP_LIMIT = 1032  # no DEFLATE stream holds more than this times its size
_DISAGREE = 0.1  # voxels


def read_nifti(path: Path, frame: int | None = None) -> RawImage:
    """Read a NIfTI file.

    Raises
    ------
    InputError
        If it is no NIfTI file, incomplete, complex-valued, or lies nowhere.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    opener = gzip.open if packed else open
    limit = path.stat().st_size * (_GZIP_LIMIT if packed else 1)
    with opener(path, "rb") as stream, naming(path):
        try:
            header = _header(stream, path)
            shape = _shape(header, path)
            if shape[3:] in ((1, 3), (1, 4)) and header["datatype"] == _BYTES:  # colour, as ITK writes it
                choose_frame(frame, 1, path)
                planes = _voxels(stream, header, (*shape[:3], shape[4]), 0, limit, path)
                array = drop_opacity(np.moveaxis(planes, 0, -1))
            else:
                chosen = choose_frame(frame, math.prod(shape[3:]), path)
                array = _voxels(stream, header, shape[:3], chosen, limit, path)
            while stream.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
        except InputError:
            raise
        except (EOFError, ValueError, OverflowError, zlib.error, gzip.BadGzipFile):
            raise InputError(f"{path} is damaged or incomplete: fetch or copy it again.") from None
        affine = _affine(header, shape[:3], path)
        ndim = min(len(shape), 3)
        if ndim == 2:
            return RawImage(array, _flat(affine, shape[:2]))
        order = [2, 1, 0, 3]  # array axes run z, y, x
        return RawImage(array, place(Grid.from_affine(shape[2::-1], affine[:, order]), path))


def _header(stream: BinaryIO, path: Path) -> np.void:
    data = stream.read(540)
    for byteorder in "<>":
        column = _SIZES.get(int(np.frombuffer(data[:4].ljust(4), byteorder + "i4")[0]))
        if column is None:
            continue
        size = (348, 540)[column]
        layout = np.dtype(
            {
                "names": list(_FIELDS),
                "formats": [pair[column][0] for pair in _FIELDS.values()],
                "offsets": [pair[column][1] for pair in _FIELDS.values()],
                "itemsize": size,
            }
        ).newbyteorder(byteorder)
        if len(data) < size:
            raise InputError(f"{path} is incomplete: it ends within its header.")
        header = np.frombuffer(data[:size], layout)[0]
        if header["magic"][:3] in (b"n+1", b"n+2"):
            return header
    raise InputError(f"{path} is not a NIfTI file, whatever its name says.")


def _shape(header: np.void, path: Path) -> tuple[int, ...]:
    """Sizes in the file's order, x first, without trailing ones beyond the third."""
    count = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : count + 1])
    if not 2 <= count <= 7 or min(shape) < 1:
        raise InputError(f"{path} is not an image of 2 or more axes: its sizes are {shape}.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _voxels(
    stream: BinaryIO, header: np.void, shape: tuple[int, ...], frame: int, limit: int, path: Path
) -> np.ndarray:
    """One frame, (z, y, x) or (y, x), colour last, scaled as the header says."""
    code = int(header["datatype"])
    if code not in _TYPES:
        raise InputError(f"{path} has voxels of NIfTI type {code} (complex or bits), which are no grey values.")
    kind = np.dtype(_TYPES[code]).newbyteorder(header.dtype["size"].byteorder)
    size = kind.itemsize * math.prod(shape)
    if size * (frame + 1) > limit:
        raise InputError(f"{path} is incomplete: its header announces {size * (frame + 1)} bytes of voxels.")
    start = int(header["offset"]) or header.itemsize + 4  # 0 stands for "right after the header"
    if start < header.itemsize:
        raise InputError(f"{path} is damaged: its header places the voxels at byte {start}.")
    stream.seek(start + size * frame)
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size and (got := stream.readinto(view[filled:])):  # type: ignore[attr-defined]
        filled += got
    if filled < size:
        raise InputError(f"{path} is incomplete: {filled} of {size} bytes of voxels are there.")
    array = np.frombuffer(data, kind).reshape(shape[::-1] + kind.shape)
    if kind.subdtype:
        return drop_opacity(np.frombuffer(data, np.uint8).reshape(shape[::-1] + kind.shape))
    return _scaled(array.astype(kind.newbyteorder("="), copy=False), float(header["slope"]), float(header["intercept"]))


def _scaled(array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values times slope plus intercept; integers stay integers where that is exact."""
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0 or (slope, intercept) == (1, 0):
        return array
    if array.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        ends = [int(v) * int(slope) + int(intercept) for v in (array.min(), array.max())]
        for kind in (np.int16, np.int32, np.int64):
            if np.iinfo(kind).min <= min(*ends, intercept) and max(*ends, intercept) <= np.iinfo(kind).max:
                return array.astype(kind) * kind(slope) + kind(intercept)
    kind = np.float64 if array.dtype.itemsize > 4 else np.float32
    return array.astype(kind) * kind(slope) + kind(intercept)


def _affine(header: np.void, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Homogeneous 4x4 matrix from (x, y, z) indices to LPS mm."""
    sform = qform = None
    if header["sform_code"] > 0:
        sform = np.vstack([header["sform"], [0, 0, 0, 1]]).astype(float)
        if not np.isfinite(sform).all() or abs(np.linalg.det(sform)) < 1e-12:
            warn(f"{path}: its sform is no valid transform and was ignored.")
            sform = None
    if header["qform_code"] > 0:
        qform = _qform(header)
    if sform is not None and qform is not None:
        corners = np.array([(*c, 1) for c in np.ndindex(2, 2, 2)]) * (*np.subtract((*shape, 1)[:3], 1), 1)
        apart = np.linalg.norm(corners @ (sform - qform).T, axis=1).max()
        if apart > _DISAGREE * np.linalg.norm(sform[:3, :3], axis=0).min():
            warn(
                f"{path}: sform and qform disagree by up to {apart:.1f} mm; the sform was used. "
                "Programs that use the qform show the image elsewhere."
            )
    affine = sform if sform is not None else qform
    if affine is None:
        warn(f"{path} says nothing about its orientation: left and right are a guess.")
        affine = np.diag([*np.abs(header["pixdim"][1:4]).astype(float), 1.0])
        affine[affine == 0] = 0.0
    affine[:3] *= _MILLIMETRES.get(int(header["units"]) & 7, 1.0)
    return _RAS_TO_LPS @ affine


def _qform(header: np.void) -> np.ndarray:
    b, c, d = header["quaternion"].astype(float)
    a = math.sqrt(max(1 - b * b - c * c - d * d, 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    ) / max(a * a + b * b + c * c + d * d, 1e-12)
    pixdim = header["pixdim"].astype(float)
    affine = np.eye(4)
    affine[:3, :3] = rotation * (pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] < 0 else 1))
    affine[:3, 3] = header["qoffset"]
    return affine


def _flat(affine: np.ndarray, shape: tuple[int, ...]) -> Grid:
    """The grid of a file with two axes: its own plane in the world's x and y if it lies there, else without a place."""
    columns = affine[:3, 1::-1]
    spacing = np.linalg.norm(columns, axis=0)
    if np.abs(columns[2]).max() > 1e-3 * spacing.min():
        return Grid.plain(shape[::-1], spacing)
    flat = np.eye(3)
    flat[:2, :2], flat[:2, 2] = columns[:2], affine[:2, 3]
    return Grid.from_affine(shape[::-1], flat)
