"""Sessions of this program as cases: what was corrected in napari or 3D Slicer is learnt from as it stands at the end.

Objects are learnt under their class, or their name where they have none; objects of one class are one structure, as in
the label images of a series. Of a series, only images that the user called done are learnt from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.errors import InputError, SessionDamagedError
from napari_sammed.geometry import Box
from napari_sammed.series.finding import RESULT
from napari_sammed.series.state import FOLDER, NAME, Entry, recorded
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.history import History
from napari_sammed.session.journal import read_journal
from napari_sammed.session.journal_files import read_header
from napari_sammed.session.records import overlap_of, refill
from napari_sammed.training.dicom_cases import patient_of
from napari_sammed.training.problems import Problem, unreadable
from napari_sammed.training.sources import Found, Source

KIND = "sessions"

_ENDINGS = (".sammed.jsonl", ".jsonl")
_LABELS = (".nii.gz", ".png", ".nrrd")  # of a series' results
_UNNAMED = re.compile(r"Object \d+")


def is_session(path: Path) -> bool:
    """Whether a file is a session file, by its name and its first line."""
    if not path.name.lower().endswith(_ENDINGS) or not path.is_file():
        return False
    try:
        read_header(path)
    except InputError:
        return path.name.lower().endswith(_ENDINGS[0])  # a damaged one, which is told about
    return True


def find(folder: Path) -> Found | None:
    """The sessions in a folder, or in the results of a series in it; None if there are none.

    Raises
    ------
    InputError
        If the state file of a series makes no sense.
    OSError
        If the folder cannot be read.
    """
    if folder.is_file():
        files, results = [folder] if is_session(folder) else [], folder.parent
    else:
        results = folder / FOLDER if (folder / FOLDER / NAME).is_file() else folder
        everywhere = (results / NAME).is_file()
        files = sorted(path for path in (results.rglob if everywhere else results.glob)("*.jsonl") if is_session(path))
    images, classes, entries = recorded(results)
    of_series = {results / f"{entry.result}{_ENDINGS[0]}": entry for entry in entries}
    cases: list[Source] = []
    problems: list[Problem] = []
    for path in files:
        case = _case(path, results, images, of_series.get(path), folder.is_file())
        if isinstance(case, Problem):
            problems.append(case)
        else:
            cases.append(case)
    if folder.is_dir():
        names = {one.value: one.name for one in classes}
        for path, entry in of_series.items():
            if entry.state == "done" and path not in files:
                cases += _result(entry, results, images, names)
    if not cases and not problems:
        return None
    unworked = sum(entry.state == "open" and path not in files for path, entry in of_series.items())
    told = unworked and folder.is_dir()
    remarks = (f"Images of the series that have not been worked on yet: {unworked}.",) if told else ()
    return Found(KIND, tuple(sorted(cases, key=lambda case: case.name)), tuple(problems), remarks)


def read_objects(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[int, str], list[Problem]]:
    """The objects of a session as they stand at its end.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Of the image.

    Returns
    -------
    labels : ndarray of uint16
        Of that shape; of overlapping objects the topmost one, as the user saw it.
    names : dict of int to str
        Class or name of the objects that have voxels.
    problems : list of Problem

    Raises
    ------
    InputError
        If the file cannot be read, makes no sense, or is about an image of another shape.
    """
    header, entries = read_journal(path)
    try:
        if tuple(header["shape"]) != tuple(shape):
            raise InputError(f"{path} is about an image of shape {tuple(header['shape'])}, not {tuple(shape)}.")
        history = History(Box.of_shape(shape), overlap_of(header))
        refill(history, entries)
        states = list(history.objects.values())
        labels = history.labels(Box.of_shape(shape))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise SessionDamagedError(f"The session file {path} makes no sense: {error!r}.") from None
    marked = [state for state in states if state.mask is not None and state.mask.mask.any()]
    return labels, {state.label: state.kind or state.name for state in marked}, list(_of_objects(path, states, marked))


def _of_objects(path: Path, states: list[ObjectState], marked: list[ObjectState]) -> Iterator[Problem]:
    empty = [state.name for state in states if state not in marked]
    if empty:
        yield Problem("object without mask", path, f"nothing is marked as {_listed(empty)}: there is nothing to learn.")
    unnamed = [state.name for state in marked if not state.kind and _UNNAMED.fullmatch(state.name)]
    if unnamed:
        yield Problem(
            "object without name",
            path,
            f"{_listed(unnamed)} has neither a class nor a name of its own, and is learnt as a structure of that name: "
            "name it, or give it a class.",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _case(path: Path, results: Path, images: Path, entry: Entry | None, alone: bool) -> Source | Problem:
    """A session file's case, or why it is none; one that the user names alone need not be done."""
    if entry is not None and not (alone or entry.state == "done"):
        was = "skipped in" if entry.state == "skipped" else "not marked as done in"
        return Problem("not finished", path, f"its image was {was} the series: it is left out.")
    try:
        header = read_header(path)
    except InputError as error:
        return unreadable("unreadable labels", path, error)
    source: dict[str, Any] = header.get("source") or {}
    image = next((place for place in _places(path, images, source, entry) if place.exists()), None)
    if image is None:
        where = source.get("path")
        said = f"its image, {where}, is not there" if where else "it does not say where its image is"
        return Problem("image missing", path, f"{said}: put the image beside the session file, under its own name.")
    name = path.relative_to(results).as_posix()
    return Source(
        next(name[: -len(ending)] for ending in _ENDINGS if name.lower().endswith(ending)),
        image,
        path,
        frame=source.get("frame"),
        series=source.get("series"),
        image_hash=str(header["image"]),
        patient=patient_of(image, source.get("series")),
    )


def _places(path: Path, images: Path, source: dict[str, Any], entry: Entry | None) -> Iterator[Path]:
    """Where the image of a session may be: as the series says, as the session says, beside it on another computer."""
    if entry is not None:
        yield images / entry.path
    if source.get("path"):
        said = Path(str(source["path"]))
        yield said
        yield path.parent / said.name
        yield path.parent.parent / said.name


def _result(entry: Entry, results: Path, images: Path, names: dict[int, str]) -> list[Source]:
    """The label image of a series' image whose session file is gone."""
    labels = next((file for end in _LABELS if (file := results / f"{entry.result}{RESULT}{end}").is_file()), None)
    image = images / entry.path
    if labels is None or not image.exists():
        return []
    return [
        Source(entry.result, image, labels, names, series=entry.series, patient=patient_of(image, entry.series)),
    ]
