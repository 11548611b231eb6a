"""Labels of a series of images in one file, written frame by frame: NIfTI, TIFF; NRRD and MetaImage as a whole.

The frames run along the last axis of the file's own order (t, after x, y and z), as all these formats have it.
"""

from __future__ import annotations

import gzip
import itertools
import math
import os
import struct
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats import itk
from napari_sammed.formats.common import quiet
from napari_sammed.geometry import Grid

MOST_HELD = 1 << 30
"""Bytes of labels that are held at once."""

_ONE_BY_ONE = (".nii.gz", ".nii", ".tif", ".tiff")
_HEADER = 352  # bytes before the voxels of a NIfTI-1 file
_LONGEST = 32767  # what its header has room for
_DIM, _PIXDIM = 40, 76


def check(count: int, grid: Grid, path: Path, dtype: np.dtype) -> None:
    """Refuse, before any work is done, what cannot be written; see `write`.

    Raises
    ------
    InputError
    """
    suffix = itk.writable(path, grid)
    if suffix == ".png":
        raise InputError(f"{path.name}: a PNG holds no series of frames; choose .nii.gz or .tif, or a file a frame.")
    size = math.prod(grid.shape) * np.dtype(dtype).itemsize * (1 if suffix in _ONE_BY_ONE else count)
    if size > MOST_HELD:
        others = ".ome.zarr" if suffix in _ONE_BY_ONE else ".nii.gz, .tif or .ome.zarr"
        raise InputError(
            f"{path.name}: {size / 2**30:.1f} GiB of labels would have to be held at once; choose {others}, or a "
            "file a frame."
        )
    if suffix in (".nii", ".nii.gz") and max(count, *grid.shape) > _LONGEST:
        raise InputError(
            f"{path.name}: a NIfTI file has no axis of more than {_LONGEST} entries; choose .tif or .ome.zarr."
        )


def check_frame(grid: Grid, path: Path, dtype: np.dtype) -> None:
    """Refuse a label image of one frame that is too large to be held; InputError."""
    size = math.prod(grid.shape) * np.dtype(dtype).itemsize
    if size > MOST_HELD:
        raise InputError(f"{path.name}: its labels take {size / 2**30:.1f} GiB; choose .ome.zarr.")


def write(
    frame: Callable[[int], np.ndarray], count: int, grid: Grid, path: Path, dtype: np.dtype, step: float = 1.0
) -> None:
    """Write the labels of all frames. The file appears whole or not at all.

    Parameters
    ----------
    frame : callable
        Gives the labels of a frame, of shape ``grid.shape``; called once for each, in order.
    count : int
        Frames.
    grid : Grid
        Of each.
    path : Path
        .nii, .nii.gz, .tif, .tiff; .nrrd and .mha, for which all frames are held at once.
    dtype : dtype
        uint8 or uint16.
    step : float
        From frame to frame, as the layer has it; seconds where a format asks for them.

    Raises
    ------
    InputError
        See `check`; and for a folder that cannot be written to, a full disk.
    """
    check(count, grid, path, dtype)
    dtype, suffix = np.dtype(dtype), itk.writable(path, grid)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    frames = (frame(index).astype(dtype, copy=False) for index in range(count))
    try:
        if suffix in (".nii", ".nii.gz"):
            _write_nifti(frames, count, grid, temporary, dtype, step)
        elif suffix in (".tif", ".tiff"):
            _write_tiff(frames, count, grid, temporary, dtype, step)
        else:
            _write_itk(frames, count, grid, temporary, dtype, step)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None
    except RuntimeError:
        raise InputError(f"{path} cannot be written as {suffix}: the disk may be full.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_nifti(
    frames: Iterator[np.ndarray], count: int, grid: Grid, path: Path, dtype: np.dtype, step: float
) -> None:
    header = _nifti_header(count, grid, dtype, step)
    with path.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", 4, raw, mtime=0) if path.name.endswith(".gz") else None
        out = raw if packed is None else packed
        out.write(header)
        little = dtype.newbyteorder("<")
        for labels in frames:
            out.write(memoryview(np.ascontiguousarray(labels, little)).cast("B"))
        if packed is not None:
            packed.close()
        raw.flush()
        os.fsync(raw.fileno())


def _nifti_header(count: int, grid: Grid, dtype: np.dtype, step: float) -> bytes:
    """That of ITK for an image of one voxel at this place, so that series lie where single frames lie."""
    import SimpleITK as sitk

    one = itk.to_itk(np.zeros((1,) * grid.ndim, dtype), grid)
    with tempfile.TemporaryDirectory() as folder, quiet():
        place = Path(folder) / "one.nii"
        sitk.WriteImage(one, str(place))
        header = bytearray(place.read_bytes()[:_HEADER])
    sizes = (*grid.shape[::-1], 1)[:3]
    struct.pack_into("<8h", header, _DIM, 4, *sizes, count, 1, 1, 1)
    struct.pack_into("<f", header, _PIXDIM + 4 * 4, step)
    return bytes(header)


def _write_tiff(frames: Iterator[np.ndarray], count: int, grid: Grid, path: Path, dtype: np.dtype, step: float) -> None:
    import tifffile

    axes = "ZYX"[-grid.ndim :]
    about: dict[str, object] = {"axes": f"T{axes}", "TimeIncrement": step}
    for axis, spacing in zip(axes, grid.spacing, strict=True):
        about |= {f"PhysicalSize{axis}": float(spacing), f"PhysicalSize{axis}Unit": "mm"}
    pages = itertools.chain.from_iterable(labels if grid.ndim == 3 else labels[None] for labels in frames)
    shape = (count, *grid.shape)
    with path.open("wb") as file:
        tifffile.imwrite(
            file,
            pages,
            shape=shape,
            dtype=dtype,
            ome=True,
            metadata=about,
            photometric="minisblack",
            compression="zlib",
            bigtiff=math.prod(shape) * dtype.itemsize > 3 << 30,
        )
        file.flush()
        os.fsync(file.fileno())


def _write_itk(frames: Iterator[np.ndarray], count: int, grid: Grid, path: Path, dtype: np.dtype, step: float) -> None:
    import SimpleITK as sitk

    array = np.empty((count, *grid.shape), dtype)
    for index, labels in enumerate(frames):
        array[index] = labels
    image = sitk.GetImageFromArray(array, isVector=False)
    n = grid.ndim
    direction = np.eye(n + 1)
    direction[:n, :n] = np.reshape(grid.itk_direction, (n, n))
    image.SetSpacing((*grid.spacing[::-1], step))
    image.SetOrigin((*grid.origin, 0.0))
    image.SetDirection(direction.ravel().tolist())
    with quiet():
        sitk.WriteImage(image, str(path), useCompression=True)
    itk.check_written(path, array)
