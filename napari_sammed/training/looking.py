"""A light look at a folder before anything is decoded: what it is, and how often each structure is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.session.journal_files import objects_in
from napari_sammed.training.choosing import alike
from napari_sammed.training.problems import Problem
from napari_sammed.training.recognising import recognise
from napari_sammed.training.session_cases import is_session
from napari_sammed.training.sources import Source
from napari_sammed.training.splits import patients


@dataclass(frozen=True)
class Look:
    """What a folder seems to have.

    Parameters
    ----------
    kind : str
        As of `napari_sammed.training.sources.Found`.
    cases, patients : int
    structures : mapping of str to int
        Names to the cases that have them; 0 where only decoding tells how many.
    problems : tuple of Problem
        Those that show without decoding.
    remarks : tuple of str
    """

    kind: str
    cases: int
    patients: int
    structures: Mapping[str, int]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()


def look(folder: Path, *, progress: Progress | None = None, cancel: Cancel | None = None) -> Look:
    """Look at a folder that may be learnt from; of session files the lists of objects are read, of images nothing.

    Parameters
    ----------
    folder : Path
        See `napari_sammed.training.recognising.recognise`.
    progress, cancel : optional

    Raises
    ------
    InputError
        If the folder is none of the known ones, or cannot be read.
    Cancelled
    """
    folder = Path(folder)
    found = recognise(folder, progress=progress, cancel=cancel)
    counts: Counter[str] = Counter()
    spelt: dict[str, str] = {}
    problems = list(found.problems)
    for number, case in enumerate(found.cases):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"looking at {case.name} ({number + 1} of {len(found.cases)})", number / len(found.cases))
        try:
            names, counted = _structures(case)
        except InputError as error:
            problems.append(Problem("unreadable labels", case.labels, f"it cannot be read ({error})"))
            continue
        for name in names:
            spelt.setdefault(alike(name), name)
        counts.update({alike(name) for name in names} if counted else ())
    known = {case.name: case.patient for case in found.cases if case.patient}
    whose = patients([case.name for case in found.cases], folder, None, known)
    ordered = sorted(spelt, key=lambda key: (-counts[key], key))
    structures = {spelt[key]: counts[key] for key in ordered}
    return Look(found.kind, len(found.cases), len(set(whose.values())), structures, tuple(problems), found.remarks)


def _structures(case: Source) -> tuple[set[str], bool]:
    """Names in a case, and whether all of them are in it for sure."""
    if is_session(case.labels):
        _, objects = objects_in(case.labels)
        return {one.kind or one.name for one in objects}, True
    return {name for value, name in case.names.items() if value and value not in case.ignored}, False
