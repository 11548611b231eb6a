"""Opens medical image files in napari, at the right scale, with the file's grid kept for saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.plugin.coordinates import GRID_KEY, placement
from napari_sammed.plugin.images import FILES_KEY, MODALITY_KEY
from napari_sammed.volume import Volume, read_volume

if TYPE_CHECKING:
    from napari.types import LayerData


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """napari's question whether this package reads a path; None for lists of files, which napari stacks itself."""
    if isinstance(path, list):
        return None
    return read


def read(path: str | list[str]) -> list[LayerData]:
    """One image layer of a file, or of a folder with a DICOM series.

    Raises
    ------
    InputError
        If the file cannot be read; napari shows the sentence.
    """
    volume = read_volume(str(path))
    return [image_layer(volume, Path(str(path)).name)]


def image_layer(volume: Volume, name: str) -> LayerData:
    """A volume as napari layer data: in mm, axes in array order, the grid in the metadata; see `placement`."""
    options: dict[str, Any] = {
        "name": name,
        **placement(volume.grid),
        "metadata": {GRID_KEY: volume.grid, MODALITY_KEY: volume.modality, FILES_KEY: volume.files},
        "rgb": volume.channels == 3,
    }
    return volume.array, options, "image"
