"""Saves napari layers as medical image files, on the grid that their reader found or that their transform says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.plugin.image.coordinates import grid_of
from napari_sammed.plugin.image.images import NAMES_KEY, files_of, volume_of
from napari_sammed.volume import Volume, write_mask, write_volume


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one image layer; napari's writer protocol.

    Raises
    ------
    RuntimeError
        If the layer is no flat image or volume, or its format cannot hold it; napari shows the sentence.
    """
    from napari.layers import Image

    with _told():
        write_volume(volume_of(Image(data, **meta)), path)
    return [path]


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one label layer, with the names of its labels where the reader of a DICOM Segmentation left them.

    A DICOM Segmentation (.dcm) needs to know the DICOM files of the image: labels that this plugin made do.

    Raises
    ------
    RuntimeError
        As for `write_image`.
    """
    from napari.layers import Labels

    layer = Labels(data, **meta)
    labels = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    names = layer.metadata.get(NAMES_KEY)
    with _told():
        if labels.ndim not in (2, 3):
            raise InputError(
                f"{layer.name} has {labels.ndim} axes; label layers of 2 or 3 can be saved: take a frame out."
            )
        image = Volume(labels, grid_of(layer, labels.shape), layer.name, files=files_of(layer, labels.shape))
        write_mask(labels, image.grid, path, names if isinstance(names, dict) else None, image=image)
    return [path]


@contextmanager
def _told() -> Iterator[None]:
    """Let napari show what is wrong: it takes a ValueError, such as InputError, for "no writer was found"."""
    try:
        yield
    except InputError as error:
        raise RuntimeError(str(error)) from None
