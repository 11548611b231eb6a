"""Files with the objects of all frames of a series: one file, or a file a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.backend.masks import span_of
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.formats import itk, label_series, ome_zarr, ome_zarr_labels
from napari_sammed.geometry import Box, Grid
from napari_sammed.segments import is_segmentation_name
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.frames import Frame, Values
from napari_sammed.session.roster import painted
from napari_sammed.session.separate_files import stem_and_ending
from napari_sammed.volume import write_mask, write_names


def save_together(
    frames: Sequence[Frame],
    count: int,
    grid: Grid,
    path: Path,
    values: Values,
    *,
    step: float = 1.0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Write the objects of all frames to one file, and their names beside it, see `names_file`.

    Parameters
    ----------
    frames : sequence of Frame
        Those with objects; the others stay empty.
    count : int
        All frames.
    grid : Grid
        Of each.
    path : Path
        See `napari_sammed.formats.label_series.write`; .ome.zarr too.
    values : Values
    step : float
        From frame to frame.
    progress, cancel : optional

    Raises
    ------
    InputError
        If the format has no room for frames, or the file cannot be written.
    Cancelled
        Nothing was written then.
    """
    check_together(count, grid, path, values)
    by_index = {frame.index: frame for frame in frames}

    def stack(index: int) -> list[ObjectState]:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"writing {path.name}, frame {index + 1} of {count}", index / count)
        frame = by_index.get(index)
        return [] if frame is None else _relabelled(frame, values)

    if path.name.lower().endswith(ome_zarr.SUFFIX):
        parts = (_part(stack(index)) for index in range(count))
        ome_zarr_labels.write_series(parts, count, grid, path, values.names, step)
        return
    label_series.write(lambda index: painted(stack(index), grid.box), count, grid, path, _dtype(values), step)
    names_path = names_file(path, together=True)
    if names_path is not None:
        write_names(values.names, names_path)


def check_together(count: int, grid: Grid, path: Path, values: Values) -> None:
    """Refuse, before any work is done, what `save_together` cannot write; InputError."""
    if is_segmentation_name(path):
        raise InputError(
            f"{path.name}: a DICOM segmentation holds no series of frames; choose .nii.gz, .tif or .ome.zarr."
        )
    if not path.name.lower().endswith(ome_zarr.SUFFIX):
        label_series.check(count, grid, path, _dtype(values))


def check_apart(grid: Grid, path: Path) -> None:
    """Refuse, before any work is done, what `save_apart` cannot write; InputError."""
    if is_segmentation_name(path):
        raise InputError(
            f"{path.name}: a DICOM segmentation refers to one image, not to frames of a layer; choose .nii.gz."
        )
    if not path.name.lower().endswith(ome_zarr.SUFFIX):
        itk.writable(path, grid)


def names_file(path: Path, *, together: bool) -> Path | None:
    """Where the names go that are saved beside a file, or beside those of all frames; None if they are inside."""
    inside = (ome_zarr.SUFFIX,) if together else (ome_zarr.SUFFIX, *itk.WITH_METADATA)
    return None if path.name.lower().endswith(inside) else path.with_name(f"{path.name}.json")


def frame_file(path: Path, frame: Frame) -> Path:
    """The file of one frame: ``ct.nii.gz`` gives ``ct_t003.nii.gz``."""
    stem, ending = stem_and_ending(path)
    return path.with_name(f"{stem}_{frame.tag}{ending}" if stem else f"{frame.tag}{ending}")


def save_apart(
    frames: Sequence[Frame],
    grid: Grid,
    path: Path,
    values: Values,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> list[Path]:
    """Write the objects of every frame that has some to a file of its own, see `frame_file`.

    Files that were written stay if a later one fails, and the error says how many.

    Raises
    ------
    InputError
        If a file cannot be written.
    Cancelled
        Between two files.
    """
    check_apart(grid, path)
    written: list[Path] = []
    for frame in frames:
        file = frame_file(path, frame)
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"writing {file.name}", len(written) / len(frames))
        stack = _relabelled(frame, values)
        here = {state.label for state in stack}
        if not here:
            continue
        names = {value: name for value, name in values.names.items() if value in here}
        inside = names if names_file(file, together=False) is None else None
        try:
            if file.name.lower().endswith(ome_zarr.SUFFIX):
                ome_zarr_labels.write(*_part(stack), grid, file, names)
            else:
                label_series.check_frame(grid, file, _dtype(values))
                write_mask(painted(stack, grid.box), grid, file, inside, colours=values.colours)
        except InputError as error:
            raise InputError(f"{error} {len(written)} of {len(frames)} files were written.") from None
        written.append(file)
    names_path = names_file(path, together=False)
    if names_path is not None:
        write_names(values.names, names_path)
    return written


def _relabelled(frame: Frame, values: Values) -> list[ObjectState]:
    """The objects of a frame with their values; those that came after the values were given are left out."""
    of = values.of[frame.index]
    return [replace(state, label=of[state.label]) for state in frame.read() if state.label in of]


def _part(stack: Sequence[ObjectState]) -> tuple[ome_zarr_labels.Part, Box | None]:
    return partial(painted, stack), span_of(state.mask for state in stack)


def _dtype(values: Values) -> np.dtype:
    return np.dtype(np.uint16 if max(values.names, default=0) > 255 else np.uint8)
