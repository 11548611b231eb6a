"""The label image of one image of a series: each class has its own value, the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.series.classes import ClassLabel
from napari_sammed.series.state import Entry, Series
from napari_sammed.volume import write_mask

if TYPE_CHECKING:
    from napari_sammed.session import Session


def class_labels(session: Session, classes: Sequence[ClassLabel]) -> tuple[np.ndarray, list[str]]:
    """The label image (uint16) with the value of its class for every voxel of an object.

    Returns
    -------
    labels : ndarray
    left_out : list of str
        Names of objects with a mask whose class is not in the list; their voxels are 0.
    """
    values = {one.name.casefold(): one.value for one in classes}
    with session.reading:
        states = list(session.objects.values())
        labels = session.labels()
    table = np.zeros(max((state.label for state in states), default=0) + 1, np.uint16)
    left_out = []
    for state in states:
        value = values.get(state.kind.casefold(), 0)
        table[state.label] = value
        if not value and state.mask is not None:
            left_out.append(state.name)
    return table[labels], left_out


def write_result(series: Series, entry: Entry, session: Session) -> tuple[Path | None, list[str]]:
    """Write the label image of an entry beside its session file, and count its objects.

    Flat images become PNG, volumes NIfTI, or NRRD where their axes are not perpendicular.

    Returns
    -------
    path : Path or None
        None if no object has a mask; nothing is written then.
    left_out : list of str
        See `class_labels`.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    entry.objects = sum(state.mask is not None for state in session.objects.values())
    if not entry.objects:
        return None, []
    labels, left_out = class_labels(session, series.classes)
    grid = session.image.grid
    ending = ".png" if grid.ndim == 2 else ".nii.gz" if grid.is_orthogonal else ".nrrd"
    path = series.label_file(entry, ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(labels, grid, path)
    return path, left_out


def make_objects(session: Session, classes: Sequence[ClassLabel]) -> None:
    """An object for each class, the first of them current; nothing in a session that has objects."""
    if session.objects or session.read_only or not classes:
        return
    for one in classes:
        new_of_class(session, one)
    session.select(next(iter(session.objects)))


def new_of_class(session: Session, one: ClassLabel) -> int:
    """Another object of a class, named after it; its label."""
    same = sum(state.kind == one.name for state in session.objects.values())
    label = session.new_object(one.name if not same else f"{one.name} {same + 1}")
    session.classify(label, one.name)
    session.recolour(label, one.colour)
    return label
