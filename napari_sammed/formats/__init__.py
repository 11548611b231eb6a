"""Image files and what they mean: one reader a family of formats, one writer.

A file's name decides who reads it; DICOM is known by its content. The public functions are in `napari_sammed.volume`.
"""

from __future__ import annotations

from pathlib import Path

from napari_sammed.errors import InputError
from napari_sammed.formats.common import RawImage

__all__ = ["read"]


def read(path: Path, *, frame: int | None = None, series: str | None = None) -> RawImage:
    """Read any supported file or DICOM folder; see `napari_sammed.volume.read_volume`."""
    # inside, so that importing the package does not load SimpleITK and Pillow
    from napari_sammed.formats import dicom, dicom_headers, itk, nifti, pictures

    name = path.name.lower()
    try:
        if path.is_dir():
            return dicom.read_dicom(path, frame, series)
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes).")
        if name.endswith((".nii", ".nii.gz")):
            return nifti.read_nifti(path, frame)
        if name.endswith(pictures.SUFFIXES):
            return pictures.read_picture(path, frame)
        if dicom_headers.is_dicom(path):
            return dicom.read_dicom(path, frame, series)
        return itk.read_itk(path, frame)
    except FileNotFoundError:
        raise InputError(f"There is no file or folder {path}.") from None
    except MemoryError:
        raise InputError(f"{path} is too large for the memory of this machine, or is damaged.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
