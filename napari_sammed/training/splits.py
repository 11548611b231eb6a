"""Which cases are learnt from and which are kept to measure with; a patient is never in both."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_sammed.errors import InputError

FILE = "splits.json"
"""In the folder of the data: ``{"train": [...], "held_out": [...]}``, names of cases."""

PATIENTS = "patients.json"
"""In the folder of the data: case to patient, where names do not tell."""


@dataclass(frozen=True)
class Split:
    """Names of cases.

    Parameters
    ----------
    train, held_out : tuple of str
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def part(self, case: str) -> str | None:
        """ "train", "held_out", or None for a case of neither."""
        return "train" if case in self.train else "held_out" if case in self.held_out else None


def patients(
    cases: Sequence[str], folder: Path, pattern: str | None = None, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Whose image a case is: from `PATIENTS`, from the first group of a pattern, as known, or the case itself.

    Parameters
    ----------
    cases : sequence of str
        Names.
    folder : Path
        Of the data.
    pattern : str, optional
        Regular expression with a group, such as ``(p\\d+)_``.
    known : mapping of str to str, optional
        What files themselves say, case by case.

    Returns
    -------
    dict of str to str

    Raises
    ------
    InputError
        For a pattern that is none or fits no name, a file that cannot be read or tells of others.
    """
    path = folder / PATIENTS
    told = _read(path) if path.exists() else {}
    strangers = sorted(set(told) - set(cases))
    if strangers:
        raise InputError(f"{path} tells of {strangers[0]!r}, which is none of the cases.")
    found = {}
    for case in cases:
        match = None if pattern is None else _searched(pattern, case)
        found[case] = str(told.get(case, (known or {}).get(case, case) if match is None else match.group(1)))
    return found


def read_split(folder: Path, cases: Sequence[str]) -> Split | None:
    """The split that a folder comes with, or None.

    Raises
    ------
    InputError
        If the file cannot be read, names a case that is not there, or one twice.
    """
    path = folder / FILE
    if not path.exists():
        return None
    read = _read(path)
    parts = {name: read.get(name, []) for name in ("train", "held_out")}
    if any(not isinstance(part, list) for part in parts.values()) or set(read) - set(parts):
        raise InputError(f'{path} is no split: it looks like {{"train": ["case_1"], "held_out": ["case_2"]}}.')
    for name in [name for part in parts.values() for name in part]:
        if name not in cases:
            raise InputError(f"{path} names {name!r}, which is none of the cases.")
    for name in cases:
        if sum(part.count(name) for part in parts.values()) > 1:
            raise InputError(f"{path} names {name!r} twice: a case is learnt from, or kept to measure with.")
    if not parts["train"]:
        raise InputError(f"{path} leaves nothing to learn from.")
    return Split(tuple(parts["train"]), tuple(parts["held_out"]))


def draw_split(whose: Mapping[str, str], share: float, seed: int) -> Split:
    """Keep some patients to measure with.

    Parameters
    ----------
    whose : mapping of str to str
        Case to patient.
    share : float
        Of the patients, 0 to below 1; at least one is kept unless it is 0, and one is always learnt from.
    seed : int

    Returns
    -------
    Split

    Raises
    ------
    InputError
        If there are too few patients, or for a share that is none.
    """
    if not 0 <= share < 1:
        raise InputError(f"The share that is kept to measure with lies between 0 and 1, not at {share:g}.")
    people = sorted(set(whose.values()))
    if not people:
        raise InputError("There are no cases to learn from.")
    count = 0 if share == 0 else min(max(1, round(share * len(people))), len(people) - 1)
    if share > 0 and count == 0:
        raise InputError("All cases are of one patient: nothing could be kept to measure with. Give a "
                         f"share of 0, or say in {PATIENTS} whose each image is.")  # fmt: skip
    kept = set(random.Random(seed).sample(people, count))
    train = tuple(case for case, patient in whose.items() if patient not in kept)
    return Split(train, tuple(case for case, patient in whose.items() if patient in kept))


def _searched(pattern: str, case: str) -> re.Match[str]:
    try:
        match = re.search(pattern, case)
        if match is not None:
            match.group(1)
    except (re.error, IndexError):
        raise InputError(f"{pattern!r} is no regular expression with a group that says whose image it is.") from None
    if match is None or match.group(1) is None:
        raise InputError(f"The pattern {pattern!r} does not say whose image {case!r} is.")
    return match


def _read(path: Path) -> dict:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    if not isinstance(read, dict):
        raise InputError(f"{path} is a list or a value, not entries by name.")
    return read
