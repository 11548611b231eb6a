"""The objects of all frames of a series, and the value that each has in all of them.

Every frame has a session, and with it a journal, of its own. Frames are read one after the other, so that what is held
is one of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.history import History
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import overlap_of, refill

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
