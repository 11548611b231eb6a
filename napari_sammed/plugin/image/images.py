"""Which image layers can be segmented, and what the package makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import drop_opacity
from napari_sammed.geometry import Grid
from napari_sammed.lazy import READ_WHOLE, LazyVolume
from napari_sammed.plugin.image.coordinates import GRID_KEY, grid_of
from napari_sammed.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_sammed.plugin.image.image_view import ImageView

MODALITY_KEY = "modality"
"""Where a layer's metadata may hold DICOM's word for how the image was made (CT, MR, ...)."""

FILES_KEY = "dicom_files"
"""Where it may hold the DICOM files that the image was read from; see `napari_sammed.volume.Volume`."""

NAMES_KEY = "label_names"
"""Where a label layer's metadata may hold names by label."""

JOURNAL_KEY = "sammed_journal"
"""Where it may hold the `Path` of the journal of a session about it."""

OWN_KEY = "sammed_own"
"""Where an image layer's metadata says that the plugin has made it, so that nobody means to segment it."""

LEFT_KEY = "sammed_left"
"""Where the metadata of a label layer that was left to the user name its image layer and itself."""

READ_KEY = "read_with"
"""Where it may hold which frame or series of a file the image is: keyword arguments of `read_volume`."""

MEMORY_LIMIT = 4 << 30
"""Bytes of frames and series of one file that are opened together."""


def check(layer: ImageView | Image) -> None:
    """Refuse, without reading a voxel, layers that cannot be segmented.

    Raises
    ------
    InputError
    """
    if layer.ndim not in (2, 3):
        raise InputError(f"{layer.name} has {layer.ndim} axes; flat images and volumes have 2 or 3: take a frame out.")
    if getattr(layer, "mixes_axes", False):
        raise InputError(
            f"The transform of {layer.name} turns or shears its frames into one another, so that they have no place of "
            "their own: take that out of it (layer.affine), or save the frames as files."
        )


def by_region(layer: ImageView | Image) -> bool:
    """Whether an image is on disk or computed on demand, and so large that it is only ever read in parts."""
    return _bytes_elsewhere(layer) > READ_WHOLE


def bytes_to_read(layer: ImageView | Image) -> int:
    """How much of a layer has to be read from disk or computed before it can be segmented; 0 if it is in memory.

    Memory maps are read too, but stay on disk. Of images that are read by region nothing is read before.
    """
    size = _bytes_elsewhere(layer)
    return 0 if size > READ_WHOLE else size


def _bytes_elsewhere(layer: ImageView | Image) -> int:
    """Size of an image that is not in memory; 0 for one that is."""
    data = _full_resolution(layer)
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        return 0
    return int(np.prod(data.shape, dtype=np.int64)) * np.dtype(data.dtype).itemsize


def volume_of(layer: ImageView | Image) -> Volume:
    """The image of a layer or a frame of it; reads it into memory if it is not there, so not for the GUI thread.

    One that is large is read by region.

    Raises
    ------
    InputError
    """
    check(layer)
    shape = spatial_shape(layer)
    modality = layer.metadata.get(MODALITY_KEY)
    modality = modality if isinstance(modality, str) else None
    name = getattr(layer, "title", layer.name)
    about = (grid_of(layer, shape), name, modality, files_of(layer, shape))
    if by_region(layer):
        return LazyVolume(_levels(layer), *about)
    array = np.asarray(_full_resolution(layer))
    return Volume(drop_opacity(array) if layer.rgb else array, *about)


def files_of(layer: ImageView | Layer, shape: tuple[int, ...]) -> tuple[Path | None, ...]:
    """The DICOM files that the voxels of a layer were read from or drawn on; none if it was cropped since."""
    files = layer.metadata.get(FILES_KEY, ())
    grid = layer.metadata.get(GRID_KEY)
    return files if isinstance(files, tuple) and isinstance(grid, Grid) and grid.shape == shape else ()


def origin_of(image: ImageView) -> dict[str, Any]:
    """What the labels of an image have to know of where it came from: metadata of their layer."""
    return {key: image.metadata[key] for key in (GRID_KEY, FILES_KEY) if key in image.metadata}


def source_of(image: ImageView) -> dict[str, Any]:
    """How the image of a layer can be read again, for its journal; empty if it is from no file."""
    chosen = image.metadata.get(READ_KEY)
    chosen = chosen if isinstance(chosen, dict) else {}
    path = image.source.path or chosen.get("path")
    if not path:
        return {}
    source = {"name": image.title, **chosen, "path": str(path)}
    if len(image.at) == 1:
        source["frame"] = image.at[0]
    return source


def journal_path(image: ImageView) -> Path | None:
    """Where the journal of an image of a series is kept; None for other images, whose hash says so."""
    path = image.metadata.get(JOURNAL_KEY)
    return path if isinstance(path, Path) and not image.at else None


def spatial_shape(layer: ImageView | Image) -> tuple[int, ...]:
    """Voxels along each axis, at full resolution, without colours."""
    return tuple(map(int, _full_resolution(layer).shape[: layer.ndim]))


def _levels(layer: ImageView | Image) -> list[Any]:
    """The voxels at each level of resolution; of an `ImageView` of its frame."""
    if hasattr(layer, "levels"):
        return layer.levels
    return list(layer.data) if layer.multiscale else [layer.data]


def _full_resolution(layer: ImageView | Image) -> Any:
    return layer.data[0] if layer.multiscale else layer.data
