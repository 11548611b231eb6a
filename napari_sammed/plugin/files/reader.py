"""Opens medical image files in napari, at the right scale, with the file's grid kept for saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.errors import ChoiceError, InputError
from napari_sammed.formats import ome_zarr
from napari_sammed.formats.common import warn
from napari_sammed.formats.dicom_headers import is_segmentation
from napari_sammed.geometry import Grid
from napari_sammed.plugin.files import zarr_reader
from napari_sammed.plugin.image.coordinates import GRID_KEY, placement
from napari_sammed.plugin.image.images import FILES_KEY, MEMORY_LIMIT, MODALITY_KEY, NAMES_KEY, READ_KEY
from napari_sammed.segments import Segment, read_segments
from napari_sammed.volume import Volume, read_volume

if TYPE_CHECKING:
    from napari.types import LayerData

MOST_LAYERS = 32
"""Layers that one file or folder is opened as at most."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """napari's question whether this package reads a path; None for lists of files, which napari stacks itself."""
    if isinstance(path, list):
        return None
    return read


def read(path: str | list[str]) -> list[LayerData]:
    """The image layer of a file, or of a folder with a DICOM series; label layers of a DICOM Segmentation.

    OME-Zarr images are opened without reading them: see `napari_sammed.plugin.files.zarr_reader`.

    Frames (time points, channels) and the series of a folder with several become layers of their own, all but the
    first hidden: each of them is an image that can be segmented.

    Raises
    ------
    InputError
        If the file cannot be read; napari shows the sentence.
    """
    path = Path(str(path))
    if ome_zarr.is_zarr(path):
        return zarr_reader.layers(path)
    if path.is_file() and is_segmentation(path):
        return label_layers(*read_segments(path), path.name)
    layers = [image_layer(*found) for found in _images(path, path.name)]
    for _, options, _ in layers[1:]:
        options["visible"] = False
    return layers


def _images(path: Path, name: str, **chosen: Any) -> list[tuple[Volume, str, dict[str, Any]]]:
    """Every image of a file or folder, its name, and what chose it, as far as they fit into memory.

    `chosen` goes to `read_volume`.
    """
    try:
        return [(read_volume(path, **chosen), name, chosen)]
    except ChoiceError as error:
        option, choices = error.option, error.choices
    found: list[tuple[Volume, str, dict[str, Any]]] = []
    for number, choice in enumerate(choices):
        title = f"{name} [{option} {number if option == 'frame' else number + 1}]"
        try:
            found += _images(path, title, **chosen, **{option: choice})
        except InputError as error:
            if option == "frame":
                raise
            warn(f"{title} was left out: {error}")  # a localizer, a report
        size = sum(volume.array.nbytes for volume, _, _ in found)
        if number + 1 < len(choices) and (size > MEMORY_LIMIT or len(found) >= MOST_LAYERS):
            warn(f"{name}: {option} {number + 1} and what follows were left out; {len(found)} layers were opened.")
            break
    if not found:
        raise InputError(f"None of the {len(choices)} series of {path} makes an image; see the warnings.")
    return found


def image_layer(volume: Volume, name: str, chosen: dict[str, Any] | None = None) -> LayerData:
    """A volume as napari layer data: in mm, axes in array order, the grid in the metadata; see `placement`.

    `chosen` says which frame or series of the file it is.
    """
    options: dict[str, Any] = {
        "name": name,
        **placement(volume.grid),
        "metadata": {
            GRID_KEY: volume.grid,
            MODALITY_KEY: volume.modality,
            FILES_KEY: volume.files,
            READ_KEY: chosen or {},
        },
        "rgb": volume.channels == 3,
    }
    return volume.array, options, "image"


def label_layers(segments: list[Segment], grid: Grid, name: str) -> list[LayerData]:
    """Segments as napari layer data: one label layer, or one for each segment if they overlap."""
    labels = np.zeros(grid.shape, np.uint16)
    for label, segment in enumerate(segments, 1):
        part = labels[segment.box.slices]
        if part[segment.mask].any():
            return [label_layers([one], grid, f"{name} {one.name}")[0] for one in segments]
        part[segment.mask] = label
    names = {label: segment.name for label, segment in enumerate(segments, 1)}
    metadata = {GRID_KEY: grid, NAMES_KEY: names}
    return [(labels, {"name": name, **placement(grid), "metadata": metadata}, "labels")]
