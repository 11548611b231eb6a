"""The objects of all frames of a series in one file, or in a file a frame, with the same value for the same object.

Every frame has a session, and with it a journal, of its own. Frames are read one after the other, so that what is held
is one of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
from napari_sammed.session.history import History
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import overlap_of, refill
from napari_sammed.session.roster import painted
from napari_sammed.session.separate_files import stem_and_ending
from napari_sammed.volume import write_mask, write_names

_MOST = 65535  # values that a label image can have


@dataclass(frozen=True)
class Known:
    """What is remembered of an object in a frame.

    Parameters
    ----------
    label : int
        In the session of the frame.
    name, kind, colour : str
    voxels : int
        Of its mask.
    """

    label: int
    name: str
    kind: str
    colour: str
    voxels: int


@dataclass(frozen=True)
class Frame:
    """A frame that has objects.

    Parameters
    ----------
    index : int
        Along the axis of the frames.
    tag : str
        For the name of a file of its own: "t003"; "t003_c1" of frames along two axes.
    read : callable
        Gives its objects, the topmost one last; reads its journal where that is not in memory.
    objects : tuple of Known
        Those with a mask.
    """

    index: int
    tag: str
    read: Callable[[], Sequence[ObjectState]]
    objects: tuple[Known, ...]

    @classmethod
    def of(cls, index: int, tag: str, read: Callable[[], Sequence[ObjectState]]) -> Frame | None:
        """The frame with these objects; None if none of them has a mask."""
        known = tuple(
            Known(state.label, state.name, state.kind, state.colour, int(np.count_nonzero(state.mask.mask)))
            for state in sorted(read(), key=lambda state: state.label)
            if state.mask is not None
        )
        return cls(index, tag, read, known) if known else None


@dataclass(frozen=True)
class Values:
    """Which value each object has in all frames.

    Parameters
    ----------
    names, colours, kinds : dict of int to str
        By value.
    of : dict of int to dict of int to int
        By the index of a frame and the label in its session.
    """

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, str] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    of: dict[int, dict[int, int]] = field(default_factory=dict)

    def only(self, value: int) -> Values:
        """One object alone, with value 1."""
        of = {index: {label: 1 for label, v in by_label.items() if v == value} for index, by_label in self.of.items()}
        return Values({1: self.names[value]}, {1: self.colours[value]}, {1: self.kinds[value]}, of)


def values_of(frames: Sequence[Frame]) -> Values:
    """Give objects of one name one value in all frames: the label that it has first, if no other object has that.

    Of several objects of one name in a frame the first goes on with the first of other frames, and so on.

    Raises
    ------
    InputError
        If there are more objects than values.
    """
    found = Values()
    known: dict[tuple[str, int], int] = {}
    labels = {known.label for frame in frames for known in frame.objects}
    fresh = max(labels, default=0)
    for frame in frames:
        times: dict[str, int] = {}
        of = found.of[frame.index] = {}
        for one in frame.objects:
            times[one.name] = times.get(one.name, 0) + 1
            key = (one.name, times[one.name])
            if key not in known:
                value = one.label
                if value in found.names:
                    fresh += 1
                    value = fresh
                known[key] = value
                found.names[value], found.colours[value], found.kinds[value] = one.name, one.colour, one.kind
            of[one.label] = known[key]
    if fresh > _MOST:
        raise InputError(f"A label image tells at most {_MOST} objects apart, and there are more on these frames.")
    return found


def kept_objects(journal: Path) -> list[ObjectState]:
    """The objects of a session as its file says, the topmost one last; no model and no voxel is read.

    Raises
    ------
    InputError
        If it cannot be read, or makes no sense.
    """
    header, entries = read_journal(journal)
    history = History(Box.of_shape(header["shape"]), overlap_of(header))
    refill(history, entries)
    return history.stack


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
    write_names(values.names, names_file(path))


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


def names_file(path: Path) -> Path | None:
    """Where the names go that are saved beside a file; None if they are inside."""
    return None if path.name.lower().endswith(ome_zarr.SUFFIX) else path.with_name(f"{path.name}.json")


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
        try:
            if file.name.lower().endswith(ome_zarr.SUFFIX):
                ome_zarr_labels.write(*_part(stack), grid, file, names)
            else:
                label_series.check_frame(grid, file, _dtype(values))
                write_mask(painted(stack, grid.box), grid, file, names, colours=values.colours)
        except InputError as error:
            raise InputError(f"{error} {len(written)} of {len(frames)} files were written.") from None
        written.append(file)
    return written


def table(frames: Sequence[Frame], values: Values, grid: Grid) -> str:
    """Which value is which object on which frame, and how large, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    size = math.prod(grid.spacing)
    writer.writerow(["value", "name", "class", "frame", "voxels", "volume mm3" if grid.ndim == 3 else "area mm2"])
    rows = [
        (values.of[frame.index][one.label], frame.index, frame.tag if "_" in frame.tag else frame.index, one)
        for frame in frames
        for one in frame.objects
    ]
    for value, _, frame, one in sorted(rows, key=lambda row: row[:2]):
        writer.writerow([value, one.name, one.kind, frame, one.voxels, f"{one.voxels * size:.6g}"])
    return out.getvalue()


def _relabelled(frame: Frame, values: Values) -> list[ObjectState]:
    """The objects of a frame with their values; those that came after the values were given are left out."""
    of = values.of[frame.index]
    return [replace(state, label=of[state.label]) for state in frame.read() if state.label in of]


def _part(stack: Sequence[ObjectState]) -> tuple[ome_zarr_labels.Part, Box | None]:
    return partial(painted, stack), span_of(state.mask for state in stack)


def _dtype(values: Values) -> np.dtype:
    return np.dtype(np.uint16 if max(values.names, default=0) > 255 else np.uint8)
