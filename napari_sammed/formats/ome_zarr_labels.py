"""Labels as OME-Zarr (NGFF 0.5): only chunks with labels in them are stored, so that huge images have small files."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.ome_zarr import is_zarr
from napari_sammed.geometry import Box, Grid

_CHUNK = {2: (512, 512), 3: (16, 256, 256)}
_SMALLEST = 512  # rows or columns of the coarsest level, at most


Part: TypeAlias = Callable[[Box, Sequence[int]], np.ndarray]
"""Gives every so many-th label along each axis inside a box of the image, uint16."""


def write(
    part: Part,
    where: Box | None,
    grid: Grid,
    path: Path,
    names: Mapping[int, str] | None = None,
) -> None:
    """Write labels in several resolutions. The folder appears whole or not at all.

    Parameters
    ----------
    part : callable
        See `Part`.
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
    _write([(part, where)], None, grid, path, names or {}, 1.0)


def write_series(
    frames: Iterable[tuple[Part, Box | None]],
    count: int,
    grid: Grid,
    path: Path,
    names: Mapping[int, str] | None = None,
    step: float = 1.0,
) -> None:
    """Write the labels of `count` frames, along an axis t before those of the image; frames are asked for in order.

    Parameters are those of `write`, and the step from frame to frame.
    """
    _write(frames, count, grid, path, names or {}, step)


def _write(
    frames: Iterable[tuple[Part, Box | None]],
    count: int | None,
    grid: Grid,
    path: Path,
    names: Mapping[int, str],
    step: float,
) -> None:
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
        before = () if count is None else (count,)
        levels = []
        for number, every in enumerate(steps):
            shape = [max((size - s // 2 + s - 1) // s, 1) for size, s in zip(grid.shape, every, strict=True)]
            chunk = tuple(map(min, _CHUNK[grid.ndim], shape))
            sizes = {"shape": (*before, *shape), "chunks": (*(1 for _ in before), *chunk)}
            array = group.create_array(str(number), **sizes, dtype="uint16", fill_value=0)
            levels.append((array, every, shape, chunk))
        for index, (part, where) in enumerate(frames):
            at = () if count is None else (index,)
            for array, every, shape, chunk in levels:
                for box in _blocks(where, every, shape, chunk):
                    labels = part(_in_image(box, every, grid), every)
                    if labels.any():
                        array[(*at, *box.slices)] = labels
        group.attrs["ome"] = _about(grid, steps, names, None if count is None else step)
        _exchange(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(finished: Path, path: Path) -> None:
    """Give a finished folder its name; the one of before goes only when that is done."""
    before = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        os.replace(path, before)
    try:
        os.replace(finished, path)
    except OSError as error:
        if before.exists():
            try:
                os.replace(before, path)
            except OSError:
                raise OSError(error.errno, f"{error.strerror}; what was there is now called {before.name}") from None
        raise
    shutil.rmtree(before, ignore_errors=True)


def _in_image(box: Box, every: Sequence[int], grid: Grid) -> Box:
    """The part of the image that a part of a level shows."""
    low = [min(a * s + s // 2, n - 1) for a, s, n in zip(box.low, every, grid.shape, strict=True)]
    high = [min((b - 1) * s + s // 2, n - 1) + 1 for b, s, n in zip(box.high, every, grid.shape, strict=True)]
    return Box(tuple(low), tuple(high))


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


def _about(
    grid: Grid, steps: Sequence[Sequence[int]], names: Mapping[int, str], time: float | None
) -> dict[str, object]:
    """The group's metadata; `time` from frame to frame, where there are frames."""
    before = [] if time is None else [float(time)]
    origin = np.array(grid.origin)[::-1]
    datasets = []
    for number, step in enumerate(steps):
        moved = (np.array([s // 2 for s in step]) if number else np.zeros(grid.ndim)) * grid.spacing
        datasets.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {
                        "type": "scale",
                        "scale": before + [float(a * s) for a, s in zip(grid.spacing, step, strict=True)],
                    },
                    {"type": "translation", "translation": [0.0] * len(before) + (origin + moved).tolist()},
                ],
            }
        )
    axes = [{"name": "t", "type": "time"}] * len(before)
    axes += [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"[-grid.ndim :]]
    properties = [{"label-value": label, "name": name} for label, name in names.items()]
    about: dict[str, object] = {
        "version": "0.5",
        "multiscales": [{"name": "labels", "axes": axes, "datasets": datasets}],
    }
    return about | ({"image-label": {"properties": properties}} if properties else {})
