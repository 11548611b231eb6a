"""From a folder to what is learnt from: found, checked, split by patient, cleaned, on the grid of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.training.array_cache import ArrayCache
from napari_sammed.training.choosing import check_known, common_values
from napari_sammed.training.cleaning import Rules
from napari_sammed.training.data_summary import summarise
from napari_sammed.training.decoding import Decoded, check, decode, values_in, with_values
from napari_sammed.training.leaks import between
from napari_sammed.training.material import Example, Material
from napari_sammed.training.problems import Problem, refuse
from napari_sammed.training.recognising import recognise
from napari_sammed.training.sources import Found
from napari_sammed.training.splits import draw_split, patients, read_split


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
    found = recognise(folder, progress=_share(progress, 0, 0.1), cancel=cancel)
    if found.cases and all(case.names for case in found.cases):
        check_known(options.structures, [case.names for case in found.cases])  # before anything is decoded
    kept = ArrayCache(cache)
    with kept.alone(cancel):
        good, problems = _decoded(found, options, kept, _share(progress, 0.1, 0.9), cancel)
        whose = _patients(found, good, folder, options.patient_pattern)
        split = read_split(folder, list(whose)) if folder.is_dir() else None
        if split is None:
            split = draw_split({one.case.name: whose[one.case.name] for one in good}, options.held_out, options.seed)
        leaks = list(between([one.case for one in good], split, whose, {o.case.name: o.image_hash for o in good}))
        problems += leaks
        fatal = [problem for problem in problems if problem.fatal]
        if fatal and options.strict:
            raise refuse("Not all cases can be learnt from.", fatal)
        check_known(options.structures, [one.known for one in good])
        leaking = {problem.file for problem in leaks if problem.fatal}
        parts = {
            "train": [one for one in good if split.part(one.case.name) == "train"],
            "held_out": [
                one for one in good if split.part(one.case.name) == "held_out" and one.case.image not in leaking
            ],
        }
        used = [one for one in good if one in parts["train"] or one in parts["held_out"]]
        common = common_values([one.structures for one in used], options.structures)
        examples: dict[str, Example] = {}
        for number, one in enumerate(used):
            check(cancel)
            if progress is not None:
                progress("Giving labels the same values in all cases", 0.9 + 0.1 * number / len(used))
            examples[one.case.name] = _example(one, whose[one.case.name], common, kept)
    train, held_out = (tuple(examples[one.case.name] for one in parts[part]) for part in ("train", "held_out"))
    material = Material(train, held_out, common)
    spare = sum(split.part(one.case.name) is None for one in good)
    remarks = (
        f"The folder is read as {found.kind}: {len(found.cases)} cases.",
        *found.remarks,
        *([f"Cases in neither part of the split, which are not used: {spare}."] if spare else []),
        *(remark for one in used for remark in one.remarks),
    )
    voxels = Counter[str]()
    for one in used:
        voxels.update({common[new]: one.voxels[own] for own, new in values_in(one, common).items()})
    summary = summarise(material, found.kind, len(found.cases) - len(used), voxels)
    return Prepared(material, tuple(problems), remarks, summary)


def _share(progress: Progress | None, low: float, high: float) -> Progress | None:
    """The same progress for one part of the work."""
    return None if progress is None else lambda text, share: progress(text, low + (high - low) * share)


def _decoded(
    found: Found, options: Options, cache: ArrayCache, progress: Progress | None, cancel: Cancel | None
) -> tuple[list[Decoded], list[Problem]]:
    """All cases that can be learnt from, and what is wrong with these and the others."""
    good: list[Decoded] = []
    problems = list(found.problems)
    for number, case in enumerate(found.cases):
        check(cancel)
        if progress is not None:
            progress(f"Preparing {case.name} ({number + 1} of {len(found.cases)})", number / len(found.cases))
        one = decode(case, options.structures, options.cleaning, cache, cancel)
        if isinstance(one, Decoded):
            good.append(one)
            problems += one.problems
        else:
            problems += one
    if not good:
        raise refuse("There is nothing to learn from:", [problem for problem in problems if problem.fatal] or problems)
    return good, problems


def _patients(found: Found, good: Sequence[Decoded], folder: Path, pattern: str | None) -> dict[str, str]:
    """Whose image each case is; the same file, or the same voxels, are of one patient."""
    known = {case.name: case.patient for case in found.cases if case.patient}
    first: dict[Path, str] = {}
    for case in found.cases:
        known.setdefault(case.name, first.setdefault(case.image, case.name))
    whose = patients([case.name for case in found.cases], folder, pattern, known)
    same = {patient: patient for patient in whose.values()}
    owner: dict[str, str] = {}
    for one in good:
        patient = whose[one.case.name]
        mine, other = same[patient], same[owner.setdefault(one.image_hash, patient)]
        same = {name: other if now == mine else now for name, now in same.items()}
    return {case: same[patient] for case, patient in whose.items()}


def _example(one: Decoded, patient: str, common: Mapping[int, str], cache: ArrayCache) -> Example:
    labels, values = with_values(one, common, cache)
    places = {values[own]: there for own, there in one.places.items()}
    names = {new: common[new] for new in sorted(values.values())}
    return Example(one.case.name, patient, one.image, labels, names, places)
