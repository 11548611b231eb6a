"""What can be wrong with data that are to be learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_sammed.errors import InputError


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a case.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    file : Path
    message : str
        What is wrong with which value, and what to do.
    """

    kind: str
    file: Path
    message: str

    @property
    def fatal(self) -> bool:
        """Whether nothing can be learnt from the case as it is."""
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


KINDS = {
    "no labels": False,
    "unreadable image": True,
    "unreadable labels": True,
    "image missing": True,
    "other image": True,
    "not finished": True,
    "object without mask": False,
    "object without name": False,
    "overlapping segments": False,
    "NaN": True,
    "constant image": True,
    "huge values": True,
    "colour labels": True,
    "fractional labels": True,
    "negative labels": True,
    "high labels": True,
    "grey values as labels": True,
    "empty labels": True,
    "no wanted label": True,
    "unknown label": False,
    "nothing left": True,
    "other axes": True,
    "other shape": True,
    "other grid": False,
    "elsewhere": True,
    "odd spacing": False,
    "image twice": False,
    "image in both parts": True,
    "patient in both parts": True,
}
"""Kinds of problems, and whether they keep a case from being learnt from."""

MOST_OUTSIDE = 0.5
"""Of a label's voxels that may lie outside of the image."""

_TOLD = 5


def elsewhere(path: Path, share: float) -> Problem:
    """What to say of labels that lie beside their image."""
    return Problem(
        "elsewhere",
        path,
        f"{share:.0%} of what it labels lies outside of its image: the places in the files do not fit.",
    )


def unreadable(kind: str, path: Path, error: InputError) -> Problem:
    """What to say of a file that cannot be read, with its name once only."""
    said = str(error)
    return Problem(kind, path, f"it{said.removeprefix(str(path))}" if said.startswith(f"{path} ") else said)


def refuse(what: str, problems: Sequence[Problem]) -> InputError:
    """The error that names the first few problems, in one line as all errors."""
    more = [f"And {len(problems) - _TOLD} more."] if len(problems) > _TOLD else []
    return InputError(" ".join([what, *map(str, problems[:_TOLD]), *more]))
