"""OME-Zarr pyramids on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def write_pyramid(
    path: Path,
    levels: Sequence[np.ndarray],
    axes: str = "zyx",
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    version: str = "0.5",
    omero: dict[str, Any] | None = None,
) -> Path:
    """Write arrays as the levels of an image; `scale` and `translation` are those of the first."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for number, level in enumerate(levels):
        array = group.create_array(
            str(number), shape=level.shape, chunks=tuple(min(n, 64) for n in level.shape), dtype=level.dtype
        )
        array[...] = level
        factors = np.array(levels[0].shape) / level.shape
        steps = [{"type": "scale", "scale": (np.array(scale or np.ones(level.ndim)) * factors).tolist()}]
        if translation is not None:
            steps.append({"type": "translation", "translation": list(map(float, translation))})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    kinds = {"t": "time", "c": "channel"}
    named = [
        {"name": axis, "type": kinds.get(axis, "space")} | ({"unit": UNITS[axis]} if axis in UNITS else {})
        for axis in axes
    ]
    about: dict[str, Any] = {"multiscales": [{"axes": named, "datasets": datasets, "version": version}]}
    if omero:
        about["omero"] = omero
    group.attrs.update({"ome": {"version": version, **about}} if version == "0.5" else about)
    return path
