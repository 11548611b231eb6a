"""From a folder to what is learnt from: found, checked, split by patient, cleaned, on the grid of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import InputError
from napari_sammed.evaluation.cases import find_cases
from napari_sammed.training.checking import Problem, check
from napari_sammed.training.cleaning import Rules
from napari_sammed.training.material import Example, Material
from napari_sammed.training.splits import draw_split, patients, read_split
from napari_sammed.volume import read_volume, resample_labels


@dataclass(frozen=True)
class Options:
    """What is learnt from a folder.

    Parameters
    ----------
    structures : tuple of str
        Names or label values; empty for all.
    held_out : float
        Share of the patients that is kept to measure with, where the folder comes without a split.
    patient_pattern : str, optional
        See `napari_sammed.training.splits.patients`.
    seed : int
        Of the split.
    cleaning : Rules, optional
        Masks of volumes are cleaned by them; None leaves all as they are.
    strict : bool
        Whether a case that nothing can be learnt from is an error, rather than left out.
    """

    structures: tuple[str, ...] = ()
    held_out: float = 0.2
    patient_pattern: str | None = None
    seed: int = 0
    cleaning: Rules | None = None
    strict: bool = False


@dataclass(frozen=True)
class Prepared:
    """What a folder came to.

    Parameters
    ----------
    material : Material
    problems : tuple of Problem
        All that is wrong with the data; cases with fatal ones are left out.
    remarks : tuple of str
        What was done that a user should know.
    summary : mapping
        Counts for cards and reports, ready for JSON; no names of patients or files.
    """

    material: Material
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]
    summary: Mapping[str, Any]


def prepare(
    folder: Path, options: Options, cache: Path, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> Prepared:
    """Make a folder ready to be learnt from.

    Parameters
    ----------
    folder : Path
        Of images and labels.
    options : Options
    cache : Path
        Folder of the run in which decoded images are kept; made if it is not there.
    progress, cancel : optional

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If the folder is none of the known ones, nothing is left to learn from, or anything is fatal and `strict`.
    Cancelled
    """
    folder = Path(folder)
    cases = find_cases(folder)
    whose = patients([case.name for case in cases], folder, options.patient_pattern)
    split = read_split(folder, list(whose)) or draw_split(whose, options.held_out, options.seed)
    problems = check(folder, cases, split, whose, progress=progress, cancel=cancel)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal and options.strict:
        raise InputError(f"{fatal[0]}" + (f" There are {len(fatal) - 1} more problems." if len(fatal) > 1 else ""))
    bad = {problem.file for problem in fatal}
    parts: dict[str | None, list[Example]] = {"train": [], "held_out": [], None: []}
    for case in cases:
        if case.image not in bad and case.labels not in bad:
            image = read_volume(case.image)
            labels = resample_labels(read_volume(case.labels), image.grid).astype(np.uint16)
            values = [int(value) for value in np.unique(labels) if value and value not in case.ignored]
            names = {value: case.names.get(value, f"label {value}") for value in values}
            places = {value: np.flatnonzero((labels == value).any((1, 2))) for value in values if labels.ndim == 3}
            parts[split.part(case.name)].append(Example(case.name, whose[case.name], image, labels, names, places))
    names = {value: name for part in parts.values() for example in part for value, name in example.names.items()}
    material = Material(tuple(parts["train"]), tuple(parts["held_out"]), names)
    summary = {"cases": {"train": len(material.train), "held_out": len(material.held_out)}}
    return Prepared(material, tuple(problems), (), summary)
