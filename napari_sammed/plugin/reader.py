"""Opens medical image files in napari, at the right scale, with the file's grid kept for saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.formats.dicom_headers import is_segmentation
from napari_sammed.geometry import Grid
from napari_sammed.plugin.coordinates import GRID_KEY, placement
from napari_sammed.plugin.images import FILES_KEY, MODALITY_KEY, NAMES_KEY
from napari_sammed.segments import Segment, read_segments
from napari_sammed.volume import Volume, read_volume

if TYPE_CHECKING:
    from napari.types import LayerData


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """napari's question whether this package reads a path; None for lists of files, which napari stacks itself."""
    if isinstance(path, list):
        return None
    return read


def read(path: str | list[str]) -> list[LayerData]:
    """One image layer of a file, or of a folder with a DICOM series; label layers of a DICOM Segmentation.

    Raises
    ------
    InputError
        If the file cannot be read; napari shows the sentence.
    """
    path = Path(str(path))
    if path.is_file() and is_segmentation(path):
        return label_layers(*read_segments(path), path.name)
    return [image_layer(read_volume(path), path.name)]


def image_layer(volume: Volume, name: str) -> LayerData:
    """A volume as napari layer data: in mm, axes in array order, the grid in the metadata; see `placement`."""
    options: dict[str, Any] = {
        "name": name,
        **placement(volume.grid),
        "metadata": {GRID_KEY: volume.grid, MODALITY_KEY: volume.modality, FILES_KEY: volume.files},
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
