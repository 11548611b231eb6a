"""Image files and what they mean, through SimpleITK."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".tif", ".tiff", ".png")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class ImageWarning(UserWarning):
    """An image was read, but its file says something that the user should know."""


@dataclass(frozen=True)
class RawImage:
    """What a file holds: voxels (colour channels last, no opacity) and their grid."""

    array: np.ndarray
    grid: Grid
    name: str
    modality: str | None = None


def read(path: Path, *, frame: int | None = None, series: str | None = None) -> RawImage:
    """Read any supported file or DICOM folder; see `napari_sammed.volume.read_volume`."""
    import SimpleITK as sitk

    if not path.exists():
        raise InputError(f"There is no file {path}.")
    with quiet_itk():
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError:
            raise InputError(f"{path} cannot be read.") from None
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = drop_opacity(array)
    grid = Grid.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return RawImage(array, grid, name=stem(path))


def write(array: np.ndarray, grid: Grid, path: Path) -> None:
    """Write an array beside its final name, then move it there, so that no half-written file is ever seen."""
    import SimpleITK as sitk

    suffix = next((s for s in WRITABLE if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise InputError(f"{path.name} has no known format: choose one of {', '.join(WRITABLE)}.")
    temporary = path.with_name(f".{uuid.uuid4().hex}{suffix}")
    try:
        with quiet_itk():
            sitk.WriteImage(to_itk(array, grid), str(temporary), useCompression=True)
        os.replace(temporary, path)
    except (RuntimeError, OSError):
        raise InputError(f"{path} cannot be written.") from None
    finally:
        temporary.unlink(missing_ok=True)


def to_itk(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image of an array on its grid."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array, isVector=array.ndim > grid.ndim)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.itk_direction)
    return image


def drop_opacity(array: np.ndarray) -> np.ndarray:
    """Colour or grey without its opacity channel, laid over black where it is not opaque (as napari shows it)."""
    if array.shape[-1] not in (2, 4):
        return array
    colours, opacity = array[..., :-1], array[..., -1:]
    full = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1.0
    if not (opacity == full).all():
        colours = colours * (opacity / full)
        colours = (np.rint(colours) if array.dtype.kind in "iu" else colours).astype(array.dtype)
    return colours if array.shape[-1] == 4 else colours[..., 0]


def stem(path: Path) -> str:
    """The file's name without its format."""
    return path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; errors still raise."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
