"""NRRD, MetaImage and whatever else ITK reads; arrays to SimpleITK images and onto the disk."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import RawImage, choose_frame, drop_opacity, naming, place, put_in_place, quiet
from napari_sammed.formats.metaimage import ENDINGS, check_metaimage
from napari_sammed.geometry import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".tif", ".tiff", ".png")
WITH_METADATA = (".nrrd", ".mha")
_SKEWABLE = (".nrrd", ".mha")


def read_itk(path: Path, frame: int | None = None) -> RawImage:
    """Read a file of any format that SimpleITK knows.

    Raises
    ------
    InputError
        If SimpleITK cannot read it, or it is no image of 2 or 3 axes and 1, 3 or 4 channels or frames.
    """
    import SimpleITK as sitk

    if path.name.lower().endswith(ENDINGS):
        check_metaimage(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet():
            reader.ReadImageInformation()
            image = reader.Execute()
    except RuntimeError as error:
        if "spacing" in str(error):
            raise InputError(f"{path} cannot be read: its spacing is zero or negative.") from None
        raise InputError(
            f"{path} cannot be read: it is damaged, incomplete, or of no known format (NIfTI, NRRD, MetaImage, DICOM, "
            "PNG, JPEG, BMP, TIFF)."
        ) from None
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path} has complex voxels, which are no grey values.")
    n, channels = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    array = sitk.GetArrayFromImage(image)
    if n not in (2, 3, 4):
        raise InputError(f"{path} has {n} axes; images have 2 or 3, and a fourth for frames.")
    if channels in (3, 4) and array.dtype == np.uint8:
        array = drop_opacity(array)
    elif channels > 1:
        if n == 4:
            raise InputError(f"{path} has 4 axes and {channels} channels: keep one time point and one channel of it.")
        array = array[..., choose_frame(frame, channels, path)]
    if n == 4:
        array = array[choose_frame(frame, array.shape[0], path)]
    elif channels == 1:
        choose_frame(frame, 1, path)
    m = min(n, 3)
    direction = np.reshape(image.GetDirection(), (n, n))[:m, :m]
    with naming(path):
        grid = Grid.from_itk(image.GetSize()[:m], image.GetSpacing()[:m], image.GetOrigin()[:m], direction.ravel())
        return RawImage(array, place(grid, path))


def to_itk(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image of an array (colour last) on its grid."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array, isVector=array.ndim > grid.ndim)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.itk_direction)
    return image


def writable(path: Path, grid: Grid) -> str:
    """The ending of a file's name, which decides its format.

    Raises
    ------
    InputError
        If there is no such format, or it cannot hold an image on this grid.
    """
    suffix = next((s for s in WRITABLE if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise InputError(f"{path.name} has no format to write: choose one of {', '.join(WRITABLE)}.")
    if suffix == ".png" and grid.ndim == 3:
        raise InputError(
            f"{path.name}: a PNG holds a flat image, not one of shape {grid.shape}; choose .nii.gz or .nrrd."
        )
    if not grid.is_orthogonal and suffix not in _SKEWABLE:
        raise InputError(
            f"{path.name}: the axes of the image are not perpendicular, which {suffix} cannot express; "
            f"choose {' or '.join(_SKEWABLE)}."
        )
    return suffix


def write(array: np.ndarray, grid: Grid, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write an array under another name, check it, and move it to its own, so that no half-written file is ever seen.

    Metadata are kept by the formats of `WITH_METADATA` only.

    Raises
    ------
    InputError
    """
    import SimpleITK as sitk

    suffix = writable(path, grid)
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        if not path.parent.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
        temporary.touch(exist_ok=False)  # says why a folder cannot be written to; ITK does not
        image = to_itk(array, grid)
        for key, value in (metadata or {}).items():
            image.SetMetaData(key, value)
        with quiet():
            sitk.WriteImage(image, str(temporary), useCompression=True)
        check_written(temporary, array)
        put_in_place(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None
    except RuntimeError:
        raise InputError(
            f"{path} cannot be written as {suffix}: the disk may be full, or {array.dtype} voxels do not fit it."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_written(path: Path, array: np.ndarray) -> None:
    """Read a file back: some of ITK's writers take a full disk for success."""
    import SimpleITK as sitk

    with quiet():
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        if not np.array_equal(written, array, equal_nan=array.dtype.kind == "f"):
            raise RuntimeError("written voxels differ")
