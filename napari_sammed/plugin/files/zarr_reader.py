"""Opens OME-Zarr images in napari without reading them: one layer a channel, in all its resolutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.formats import ome_zarr
from napari_sammed.formats.lazy_array import LazyArray

if TYPE_CHECKING:
    from napari.types import LayerData

_COLOURS = ("gray", "green", "magenta", "cyan", "yellow", "red", "blue")
_LOOKED_AT = 1 << 24  # voxels of a coarse level from which the contrast is taken


def layers(path: Path) -> list[LayerData]:
    """The image layers of a zarr folder; time points are an axis of them.

    Raises
    ------
    InputError
        See `napari_sammed.formats.ome_zarr.read`.
    """
    pyramid = ome_zarr.read(path)
    kept = [number for number, axis in enumerate(pyramid.axes) if axis != "c"]
    units = [pyramid.units[number] for number in kept]
    about: dict[str, Any] = {
        "scale": [pyramid.scale[number] for number in kept],
        "translate": [pyramid.translation[number] for number in kept],
        "axis_labels": [pyramid.axes[number] for number in kept],
        "units": [unit or "pixel" for unit in units],
        "multiscale": len(pyramid.levels) > 1,
        "cache": False,
    }
    found: list[LayerData] = []
    channels = pyramid.levels[0].shape[pyramid.axes.index("c")] if "c" in pyramid.axes else 1
    for number in range(channels):
        levels = pyramid.channel(number) if "c" in pyramid.axes else list(pyramid.levels)
        title = pyramid.channels[number] if number < len(pyramid.channels) else ""
        options = {
            **about,
            "name": f"{path.name} {title or f'channel {number}'}" if channels > 1 else path.name,
            "contrast_limits": pyramid.limits[number] if number < len(pyramid.limits) else _contrast(levels[-1]),
        }
        if channels > 1:
            options |= {"colormap": _COLOURS[number % len(_COLOURS)], "blending": "additive"}
        found.append((levels if len(levels) > 1 else levels[0], options, "image"))
    return found


def _contrast(level: LazyArray) -> tuple[float, float]:
    """Darkest and brightest voxel of a level, or of some of its slices if it is large itself."""
    while level.size > _LOOKED_AT and level.shape[0] > 1:
        level = level[:: max(min(level.size // _LOOKED_AT, level.shape[0]), 2)]
    values = np.asarray(level)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1)
