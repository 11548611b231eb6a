"""Results of runs, and the file that they are kept in: JSON Lines, one for a structure and a method."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from napari_sammed.errors import InputError

FILE = "results.jsonl"

Key = tuple[str, int, str, str, int]
"""Case, label, method, protocol, seed."""


@dataclass(frozen=True)
class Result:
    """How one structure went with one method.

    Parameters
    ----------
    case, method, protocol : str
    label : int
    name : str
        Of the label.
    modality : str
    voxels : int
        Of the structure, on the slice that is looked at if the protocol is flat.
    volume : float
        ml; mm2 on flat images and slices.
    slice : int or None
        Which slice was looked at, if the protocol is flat and the image a volume.
    dice, surface_dice, hausdorff_95, seconds : list of float
        After each prompt. A user whose mask is right stops: the lists of metrics then go on with their last value,
        those of seconds end.
    processor_seconds : list of float
        As `seconds`, but of all of the process's threads together, whatever else the machine did; without those of a
        GPU.
    prompts : list of dict
        As `napari_sammed.prompts.prompt_to_json` gives them.
    seed : int
    weights : str
        sha256 of the method's weights; empty if it has none.
    error : str
        Why there is no result; empty if there is one.
    """

    case: str
    method: str
    protocol: str
    label: int
    name: str
    modality: str
    voxels: int
    volume: float
    slice: int | None
    dice: list[float] = field(default_factory=list)
    surface_dice: list[float] = field(default_factory=list)
    hausdorff_95: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    seed: int = 0
    weights: str = ""
    error: str = ""

    @property
    def key(self) -> Key:
        """What makes it the same question."""
        return (self.case, self.label, self.method, self.protocol, self.seed)


class Keep(Protocol):
    """Writes one result down."""

    def __call__(self, result: Result) -> None: ...


@contextmanager
def keeping(folder: Path) -> Iterator[Keep]:
    """Append results to the file of a folder; each is on disk when the call returns.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from None

    def keep(result: Result) -> None:
        try:
            file.write(json.dumps(asdict(result), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{folder / FILE} cannot be written: {error.strerror}.") from None

    with file:
        yield keep


def read_results(folder: Path) -> list[Result]:
    """What a folder holds; a last line that was torn by a killed process is left out.

    Raises
    ------
    InputError
        If a line is no result.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return []
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    if torn:  # else it would swallow the next result
        with path.open("r+b") as file:
            file.truncate(len(whole) + 1 if whole else 0)
    found: dict[Key, Result] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            result = Result(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise InputError(f"Line {number} of {path} is not a result: {error}.") from None
        found[result.key] = result  # a later one counts: it was an error at first
    return list(found.values())
