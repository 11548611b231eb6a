"""What the commands that work on images share: checks before the work, a backend, sizes for people."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.loading import Files
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.intensity import Window
from napari_sammed.measures import diameters
from napari_sammed.prompts import MaskPrompt
from napari_sammed.segments import SUFFIX, check_writable, is_segmentation_name
from napari_sammed.session import Session
from napari_sammed.volume import Volume


def check_output(path: Path) -> None:
    """Refuse what cannot be written before, not after, minutes of computing."""
    from napari_sammed.formats import ome_zarr
    from napari_sammed.formats.itk import WRITABLE

    endings = (*WRITABLE, ome_zarr.SUFFIX, SUFFIX)
    if not path.name.lower().endswith(endings):
        raise InputError(f"{path.name} has no format to write: choose one of {', '.join(endings)}.")
    check_folder(path.parent)


def check_source(path: Path, image: Volume) -> None:
    """Refuse, once the image is read, a DICOM Segmentation that has no DICOM images to refer to."""
    if is_segmentation_name(path):
        check_writable(image)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is absent or cannot be written to."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written to: {error.strerror}.") from None


def parse_window(text: str) -> Window:
    """A preset's name, or ``level,width``."""
    if "," not in text:
        return Window.preset(text)
    try:
        level, width = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"The window {text!r} is neither level,width nor one of {', '.join(Window.presets())}."
        ) from None
    return Window.custom(level, width)


def amount(voxels: int, grid: Grid) -> dict[str, Any]:
    """How large so many voxels are: a volume in ml, or an area in mm² for flat images."""
    size = voxels * grid.voxel_volume
    if grid.ndim == 2:
        return {"voxels": voxels, "volume_ml": None, "area_mm2": round(size, 3)}
    return {"voxels": voxels, "volume_ml": round(size / 1000, 6)}


def extent(mask: np.ndarray, grid: Grid) -> dict[str, Any]:
    """Longest diameter in a slice and its perpendicular, mm; None of an empty mask (boolean, of a part of the grid)."""
    if not mask.any():
        return {"diameter_mm": None, "perpendicular_mm": None}
    found = diameters(MaskPrompt(mask, (0,) * grid.ndim), grid)
    return {"diameter_mm": round(found.longest, 3), "perpendicular_mm": round(found.perpendicular, 3)}


@contextmanager
def local_backend(device: str, weights: Mapping[str, Files], precision: str = "auto") -> Iterator[LocalBackend]:
    """A backend on this machine that ends with the block."""
    backend = LocalBackend(device, precision=precision, weights=weights)
    try:
        yield backend
    finally:
        backend.shutdown()


@contextmanager
def ended(session: Session) -> Iterator[None]:
    """Close the session at the end, whatever it is; on Ctrl-C stop what is running first."""
    try:
        yield
    except KeyboardInterrupt:
        session.cancel()
        raise
    finally:
        session.close()
