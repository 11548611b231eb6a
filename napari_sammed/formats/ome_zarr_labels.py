"""Labels as OME-Zarr (NGFF 0.5): only chunks with labels in them are stored, so that huge images have small files."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.ome_zarr import is_zarr
from napari_sammed.geometry import Box, Grid

_CHUNK = {2: (512, 512), 3: (16, 256, 256)}
_SMALLEST = 512  # rows or columns of the coarsest level, at most


def write(
    part: Callable[[Box, Sequence[int]], np.ndarray],
    where: Box | None,
    grid: Grid,
    path: Path,
    names: Mapping[int, str] | None = None,
) -> None:
    """Write labels in several resolutions. The folder appears whole or not at all.

    Parameters
    ----------
    part : callable
        Gives every so many-th label along each axis inside a box of the image, uint16.
    where : Box or None
        There are no labels outside of it; None if there are none at all.
    grid : Grid
        Of the image. Its directions have no place in such files.
    path : Path
        One that is there and is zarr is replaced.
    names : mapping of int to str, optional

    Raises
    ------
    InputError
        If zarr is not installed, something else lies there, or it cannot be written.
    """
    try:
        import zarr
    except ImportError:
        raise InputError(
            f"{path.name} is written with zarr, which is not installed: run pip install 'napari-sammed[zarr]'."
        ) from None
    if path.exists() and not is_zarr(path):
        raise InputError(f"{path} is there already and is no zarr folder: choose another name.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        group = zarr.open_group(temporary, mode="w")
        steps = _steps(grid)
        for number, step in enumerate(steps):
            shape = [max((size - s // 2 + s - 1) // s, 1) for size, s in zip(grid.shape, step, strict=True)]
            chunk = tuple(map(min, _CHUNK[grid.ndim], shape))
            array = group.create_array(str(number), shape=shape, chunks=chunk, dtype="uint16", fill_value=0)
            for box in _blocks(where, step, shape, chunk):
                low = [min(a * s + s // 2, n - 1) for a, s, n in zip(box.low, step, grid.shape, strict=True)]
                high = [
                    min((b - 1) * s + s // 2, n - 1) + 1 for b, s, n in zip(box.high, step, grid.shape, strict=True)
                ]
                labels = part(Box(tuple(low), tuple(high)), step)
                if labels.any():
                    array[box.slices] = labels
        group.attrs["ome"] = _about(grid, steps, names or {})
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _steps(grid: Grid) -> list[tuple[int, ...]]:
    """Image voxels to a voxel of each level: coarser in the slices only."""
    steps = [(1,) * grid.ndim]
    while max(grid.shape[-2:]) / steps[-1][-1] > _SMALLEST:
        steps.append((*steps[-1][:-2], 2 * steps[-1][-2], 2 * steps[-1][-1]))
    return steps


def _blocks(where: Box | None, step: Sequence[int], shape: Sequence[int], chunk: Sequence[int]) -> list[Box]:
    """The chunks of a level that reach into a box of the image."""
    if where is None:
        return []
    lines = []
    for low, high, s, size, side in zip(where.low, where.high, step, shape, chunk, strict=True):
        first, last = low // s // side, min((high - 1) // s, size - 1) // side
        lines.append([(n * side, min((n + 1) * side, size)) for n in range(first, last + 1)])
    return [Box(tuple(a for a, _ in ends), tuple(b for _, b in ends)) for ends in itertools.product(*lines)]


def _about(grid: Grid, steps: Sequence[Sequence[int]], names: Mapping[int, str]) -> dict[str, object]:
    """The group's metadata."""
    origin = np.array(grid.origin)[::-1]
    datasets = []
    for number, step in enumerate(steps):
        moved = (np.array([s // 2 for s in step]) if number else np.zeros(grid.ndim)) * grid.spacing
        datasets.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [float(a * s) for a, s in zip(grid.spacing, step, strict=True)]},
                    {"type": "translation", "translation": (origin + moved).tolist()},
                ],
            }
        )
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"[-grid.ndim :]]
    properties = [{"label-value": label, "name": name} for label, name in names.items()]
    about: dict[str, object] = {
        "version": "0.5",
        "multiscales": [{"name": "labels", "axes": axes, "datasets": datasets}],
    }
    return about | ({"image-label": {"properties": properties}} if properties else {})
