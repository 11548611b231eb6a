"""An image as the package knows it: voxels and the grid they lie on. Reading and writing it are at the end.

Supported files, and how they are understood, are described in `napari_sammed.formats`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from napari_sammed import formats, segments
from napari_sammed.errors import InputError
from napari_sammed.formats import ome_zarr
from napari_sammed.formats.common import ImageWarning, drop_opacity
from napari_sammed.geometry import Box, Grid

__all__ = ["ImageWarning", "Volume", "read_volume", "resample_labels", "write_mask", "write_names", "write_volume"]

_CHUNK = 1 << 24  # bytes hashed by one thread at a time
_COLOUR_SIDE = 30  # sides that make an array with 3 or 4 last entries a colour image, not a thin volume


@dataclass(frozen=True, eq=False)
class Volume:
    """A flat image or a volume, grey or colour.

    Parameters
    ----------
    array : ndarray
        Voxels of any real dtype, of shape ``grid.shape`` (grey) or ``grid.shape + (3,)`` (red, green, blue). A boolean
        array becomes 0 and 1. Held as a read-only view without a copy (other byte orders are converted), so whoever
        made the array must not change it afterwards: the hash would no longer fit.
    grid : Grid
        Where the voxels lie.
    name : str
        For messages and file names.
    modality : str or None
        DICOM's word for it (CT, MR, US, DX, ...), where it is known.
    files : tuple of Path or None
        The DICOM files that it was read from, one a slice along the first axis (None for one that was missing and
        filled in), or one of all slices; empty for images from elsewhere. DICOM segmentations refer to them.

    Raises
    ------
    InputError
        For arrays that are no image: complex or object dtypes, no voxels, more axes than the grid.
    """

    array: np.ndarray
    grid: Grid
    name: str = ""
    modality: str | None = None
    files: tuple[Path | None, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.dtype == bool:
            array = array.view(np.uint8)
        if array.dtype.kind not in "iuf":
            raise InputError(f"An image has integer or floating-point voxels, not {array.dtype}.")
        if array.size == 0:
            raise InputError(f"The image is empty: its shape is {array.shape}.")
        if array.shape not in (self.grid.shape, (*self.grid.shape, 3)):
            raise InputError(f"An array of shape {array.shape} does not lie on a grid of shape {self.grid.shape}.")
        array = array.astype(array.dtype.newbyteorder("="), copy=False).view()
        array.setflags(write=False)
        object.__setattr__(self, "array", array)

    @classmethod
    def from_array(cls, array: np.ndarray, spacing: Sequence[float] | None = None, rgb: bool | None = None) -> Volume:
        """The image of an array that has no place in the world.

        Parameters
        ----------
        array : ndarray
            ``(y, x)`` or ``(z, y, x)``, with a last axis of 3 or 4 (red, green, blue, opacity) for colour.
        spacing : sequence of float, optional
            mm along each image axis; 1 if not given.
        rgb : bool, optional
            Whether the last axis is colour; if not given it is where it has 3 or 4 entries behind two axes longer
            than 30, as in napari.

        Raises
        ------
        InputError
        """
        array = np.asarray(array)
        if rgb is None:
            rgb = array.ndim > 2 and array.shape[-1] in (3, 4) and min(array.shape[-3:-1]) > _COLOUR_SIDE
        if rgb:
            if array.ndim < 3 or array.shape[-1] not in (3, 4):
                raise InputError(f"A colour image has 3 or 4 entries along its last axis, not shape {array.shape}.")
            array = drop_opacity(array)
        shape = array.shape[:-1] if rgb else array.shape
        if len(shape) not in (2, 3):
            raise InputError(f"An image has 2 or 3 axes, not {len(shape)} (shape {array.shape}): pick one frame first.")
        return cls(array, Grid.plain(shape, spacing))

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 3 if self.array.ndim > self.grid.ndim else 1

    @property
    def dtype(self) -> np.dtype:
        """Of the voxels."""
        return self.array.dtype

    @property
    def in_memory(self) -> bool:
        """Whether looking at all voxels is cheap; see `napari_sammed.lazy.LazyVolume` for images where it is not."""
        return True

    @property
    def nbytes(self) -> int:
        """Memory that its voxels take."""
        return self.array.nbytes

    @property
    def sample(self) -> np.ndarray:
        """The voxels that statistics of the whole image are taken of: here all of them."""
        return self.array

    def part(self, box: Box, samples: Sequence[int] | None = None) -> np.ndarray:
        """The voxels inside a box of the image, of shape ``box.shape`` (and 3 for colour).

        Parameters
        ----------
        box : Box
            Inside the image.
        samples : sequence of int, optional
            As many as will be made of the voxels along each axis, where fewer than all would do. An image that is read
            by region may then give fewer voxels (but no fewer than these), from a coarser level of its own.
        """
        return self.array[box.slices]

    def around(self, box: Box, samples: Sequence[int]) -> tuple[np.ndarray, Grid]:
        """Voxels that cover at least a box of the image, and the grid they lie on; `samples` as for `part`."""
        return self.array, self.grid

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Lowest and highest voxel; NaN if there is one."""
        return float(self.array.min()), float(self.array.max())

    @cached_property
    def hash(self) -> str:
        """Fingerprint of voxels, dtype and grid (64 hexadecimal digits); names and files do not count.

        BLAKE2b of the BLAKE2b digests of 16 MiB pieces, so that all cores can help.
        """
        data = np.ascontiguousarray(self.array.astype(self.array.dtype.newbyteorder("<"), copy=False))
        view = memoryview(data).cast("B")
        pieces = [view[start : start + _CHUNK] for start in range(0, len(view), _CHUNK)]
        result = hashlib.blake2b(digest_size=32)
        result.update(f"{data.dtype.str} {data.shape} {self.grid.shape} {self.grid.affine.tolist()}".encode())
        with ThreadPoolExecutor(min(len(pieces), os.cpu_count() or 1)) as pool:
            for digest in pool.map(lambda piece: hashlib.blake2b(piece, digest_size=32).digest(), pieces):
                result.update(digest)
        return result.hexdigest()

    def check_usable(self) -> None:
        """Refuse images that no network can say anything about.

        Raises
        ------
        InputError
            If voxels are NaN or infinite (one of them poisons every network's answer), or would be as float32, in which
            networks compute; or if all are equal.
        """
        low, high = self.extremes
        what = f"The image {self.name}".rstrip()
        if not np.isfinite([low, high]).all():
            bad = sum(int(part.size - np.isfinite(part).sum()) for part in self.array)
            raise InputError(
                f"{what} has {bad} voxels that are NaN or infinite: replace them, for instance with "
                "numpy.nan_to_num, before segmenting."
            )
        if max(-low, high) > float(np.finfo(np.float32).max):
            raise InputError(
                f"{what} has values from {low:g} to {high:g}, beyond the 3.4e38 of single precision: divide them by a "
                "constant before segmenting."
            )
        if low == high:
            raise InputError(f"{what} has the same value {low:g} everywhere: there is nothing to segment.")


def read_volume(path: str | os.PathLike[str], *, frame: int | None = None, series: str | None = None) -> Volume:
    """Read an image file, or a folder with a DICOM series.

    Parameters
    ----------
    path : path
        NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG, TIFF, BMP; a folder with DICOM files, or one of its files, which
        stands for the whole series; a folder with an OME-Zarr image, of which large ones are read by region.
    frame : int, optional
        Which frame (0-based) of a file that has time points or channels.
    series : str, optional
        Which DICOM series of a folder with several: its number, its UID or the beginning of it.

    Returns
    -------
    Volume
        Volumes of one slice keep their three axes; pictures (PNG, JPEG, TIFF of one page) have two.

    Raises
    ------
    InputError
        If the file cannot be read or its geometry cannot be trusted.

    Warns
    -----
    ImageWarning
        If two statements in a file contradict each other, or missing slices were filled in.
    """
    path = Path(path)
    if ome_zarr.is_zarr(path):
        from napari_sammed.lazy import read_pyramid

        return read_pyramid(path, frame)
    image = formats.read(path, frame=frame, series=series)
    name = path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem
    return Volume(image.array, image.grid, name=name, modality=image.modality, files=image.files)


def write_mask(
    mask: np.ndarray,
    grid: Grid,
    path: str | os.PathLike[str],
    names: Mapping[int, str] | None = None,
    *,
    image: Volume | None = None,
    colours: Mapping[int, str] | None = None,
) -> None:
    """Write labels so that they lie on the image they belong to.

    The file appears whole or not at all.

    Parameters
    ----------
    mask : ndarray of bool or int
        Of shape ``grid.shape``; 0 is background. Stored with 8 bits, or 16 if a label exceeds 255.
    grid : Grid
        Of the image.
    path : path
        The name decides the format: .nii, .nii.gz, .nrrd, .mha, .zarr, .tif; .png for flat images; .dcm for a DICOM
        Segmentation. Pictures (.tif, .png) keep no spacing.
    names : mapping of int to str, optional
        Names of labels. NRRD and MetaImage files take them in, under the keys of 3D Slicer's segmentations
        (``Segment0_Name``, ``Segment0_LabelValue``); beside the other formats ``<file name>.json`` is written:
        ``{"labels": {"1": "liver"}}``.
    image : Volume, optional
        The image itself, for .dcm only, which refers to the DICOM files that it was read from. More than a label
        image can say (overlaps, who made it) is written by `napari_sammed.segments.write_segments`.
    colours : mapping of int to str, optional
        ``#rrggbb`` by label, for the formats that take names in.

    Raises
    ------
    InputError
        For labels that do not fit, an unknown format, a folder that cannot be written to, a full disk.
    """
    mask = np.asarray(mask)
    if mask.shape != grid.shape:
        raise InputError(f"A mask of shape {mask.shape} does not lie on an image of shape {grid.shape}.")
    if mask.dtype.kind not in "biu":
        raise InputError(f"Labels are whole numbers, not {mask.dtype}.")
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > 65535:
        raise InputError(f"Labels lie between 0 and 65535, not between {low} and {high}.")
    path = Path(path)
    if path.name.lower().endswith(ome_zarr.SUFFIX):
        from napari_sammed.formats import ome_zarr_labels

        def every(part: Box, steps: Sequence[int]) -> np.ndarray:
            return mask[part.slices][tuple(slice(None, None, step) for step in steps)].astype(np.uint16)

        ome_zarr_labels.write(every, Box.of_mask(mask > 0), grid, path, names)
        return
    if segments.is_segmentation_name(path):
        if image is None:
            raise InputError(f"{path.name}: a DICOM segmentation needs the image, read from DICOM, that it is of.")
        segments.write_segments(segments.of_labels(mask, names), image, path)
        return
    from napari_sammed.formats import itk

    inside = path.name.lower().endswith(itk.WITH_METADATA)
    metadata = _segments(names, colours or {}, grid) if names and inside else None
    itk.write(mask.astype(np.uint16 if high > 255 else np.uint8), grid, path, metadata)
    if names and not inside:
        write_names(names, path.with_name(f"{path.name}.json"))


def _segments(names: Mapping[int, str], colours: Mapping[int, str], grid: Grid) -> dict[str, str]:
    """Names and colours of labels as 3D Slicer writes those of segmentations into NRRD files."""
    fields = {"Segmentation_ReferenceImageExtentOffset": "0 0 0"}
    extent = " ".join(f"0 {size - 1}" for size in (*grid.shape[::-1], 1)[:3])
    for number, (label, name) in enumerate(names.items()):
        start = f"Segment{number}_"
        fields |= {f"{start}ID": f"Segment_{label}", f"{start}Name": name, f"{start}LabelValue": str(label)}
        fields |= {f"{start}Layer": "0", f"{start}Extent": extent}
        if label in colours:
            channels = bytes.fromhex(colours[label].removeprefix("#"))
            fields[f"{start}Color"] = " ".join(f"{channel / 255:.6f}" for channel in channels)
    return fields


def write_names(names: Mapping[int, str], path: Path) -> None:
    """Write names of labels as JSON: ``{"labels": {"1": "liver"}}``; InputError if that is not possible."""
    text = json.dumps({"labels": {str(label): name for label, name in names.items()}}, indent=2, ensure_ascii=False)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None


def write_volume(volume: Volume, path: str | os.PathLike[str]) -> None:
    """Write an image; formats and errors as in `write_mask`."""
    from napari_sammed.formats import itk

    itk.write(volume.array, volume.grid, Path(path))


def resample_labels(labels: Volume, grid: Grid) -> np.ndarray:
    """Labels at the voxel centres of another grid: the nearest voxel's, 0 outside.

    Parameters
    ----------
    labels : Volume
        Grey, whole numbers.
    grid : Grid
        Of as many axes.

    Returns
    -------
    ndarray
        Of shape ``grid.shape`` and the labels' dtype.
    """
    if labels.grid.same_place(grid):
        return labels.array
    import SimpleITK as sitk

    from napari_sammed.formats.itk import to_itk

    image = to_itk(labels.array, labels.grid)
    target = (grid.shape[::-1], sitk.Transform(grid.ndim, sitk.sitkIdentity), sitk.sitkNearestNeighbor)
    result = sitk.Resample(image, *target, grid.origin, grid.spacing[::-1], grid.itk_direction)
    return sitk.GetArrayFromImage(result)
