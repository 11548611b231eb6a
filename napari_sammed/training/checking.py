"""Are data good to learn from? Everything that is wrong is named, case by case, before anything is learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation.cases import Case, unpaired
from napari_sammed.geometry import Box, Grid
from napari_sammed.training.splits import Split
from napari_sammed.volume import Volume, read_volume, resample_labels

_MOST_VALUES = 1024  # different ones in a file of labels; more are grey values
_OUTSIDE = 0.5  # of a label's voxels that may lie outside of the image
_FINEST, _COARSEST = 1e-3, 50.0  # mm between voxels of any medical image


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
    "NaN": True,
    "constant image": True,
    "huge values": True,
    "colour labels": True,
    "fractional labels": True,
    "negative labels": True,
    "grey values as labels": True,
    "empty labels": True,
    "no wanted label": True,
    "unknown label": False,
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


def check(
    folder: Path,
    cases: Sequence[Case],
    split: Split,
    whose: Mapping[str, str],
    wanted: Sequence[int] = (),
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> list[Problem]:
    """Look at every case of a folder.

    Parameters
    ----------
    folder : Path
    cases : sequence of Case
    split : Split
    whose : mapping of str to str
        Case to patient.
    wanted : sequence of int
        Label values that are to be learnt; empty for all.
    progress, cancel : optional

    Returns
    -------
    list of Problem
        Those of one case after the other, then those between cases.

    Raises
    ------
    Cancelled
    """
    found = [
        Problem("no labels", path, "there are no labels beside it: it is left out.") for path in unpaired(folder, cases)
    ]
    voxels: dict[str, list[Case]] = {}
    for number, case in enumerate(cases):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"Checking {case.name}", number / len(cases))
        image = _read(case.image, "unreadable image", found)
        labels = _read(case.labels, "unreadable labels", found)
        if image is not None:
            found += _of_image(case.image, image)
            voxels.setdefault(image.hash, []).append(case)
        if labels is not None:
            found += _of_labels(case, labels, wanted)
        if image is not None and labels is not None:
            found += _of_both(case, image.grid, labels)
    return found + list(_between(cases, split, whose, voxels))


def _read(path: Path, kind: str, found: list[Problem]) -> Volume | None:
    try:
        return read_volume(path)
    except InputError as error:
        found.append(Problem(kind, path, f"it cannot be read ({error})"))
        return None


def _of_image(path: Path, image: Volume) -> Iterator[Problem]:
    low, high = image.extremes
    if not np.isfinite([low, high]).all():
        bad = int(image.array.size - np.isfinite(image.array).sum())
        yield Problem("NaN", path, f"{bad} of its voxels are NaN or infinite: replace them.")
    elif low == high:
        yield Problem("constant image", path, f"all of its voxels are {low:g}.")
    elif max(-low, high) > float(np.finfo(np.float32).max):
        yield Problem("huge values", path, f"its values, up to {max(-low, high):g}, are beyond single precision.")
    odd = [step for step in image.grid.spacing if not _FINEST <= step <= _COARSEST]
    if odd:
        yield Problem("odd spacing", path, f"its voxels are {odd[0]:g} mm apart: is that its unit?")


def _of_labels(case: Case, labels: Volume, wanted: Sequence[int]) -> Iterator[Problem]:
    path, array = case.labels, labels.array
    if labels.channels == 3:
        yield Problem("colour labels", path, "its labels are colours: write one whole number a voxel.")
        return
    if array.dtype.kind == "f":
        odd = array[~np.isfinite(array) | (array != np.floor(array))]
        if odd.size:
            yield Problem(
                "fractional labels", path, f"{odd.size} of its labels are no whole numbers, such as {odd[0]:g}."
            )
            return
    values = [int(value) for value in np.unique(array)]
    if values[0] < 0:
        yield Problem("negative labels", path, f"it has the label {values[0]}: labels are 0 (background) and above.")
    elif len(values) > _MOST_VALUES:
        yield Problem(
            "grey values as labels", path, f"it has {len(values)} different labels: is it an image rather than labels?"
        )
    elif values == [0]:
        yield Problem("empty labels", path, "nothing is labelled in it.")
    elif wanted and not set(values) & set(wanted):
        yield Problem(
            "no wanted label",
            path,
            f"it has none of the labels {', '.join(map(str, wanted))}, only {_few(v for v in values if v)}.",
        )
    else:
        unknown = [v for v in values if v and v not in case.names and v not in case.ignored] if case.names else []
        if unknown:
            yield Problem("unknown label", path, f"nothing says what its labels {_few(unknown)} are.")


def _of_both(case: Case, grid: Grid, labels: Volume) -> Iterator[Problem]:
    other, path = labels.grid, case.labels
    if other.ndim != grid.ndim:
        yield Problem("other axes", path, f"it has {other.ndim} axes, and its image {grid.ndim}.")
    elif grid.ndim == 2 and other.shape != grid.shape:
        yield Problem("other shape", path, f"its shape is {other.shape}, and that of its image {grid.shape}.")
    elif not other.same_place(grid) and labels.channels == 1 and labels.array.any():
        inside = _inside(labels, grid)
        if inside < 1 - _OUTSIDE:
            yield Problem(
                "elsewhere",
                path,
                f"{1 - inside:.0%} of what it labels lies outside of its image: the places in the files do not fit.",
            )
        else:
            yield Problem(
                "other grid",
                path,
                f"its grid (shape {other.shape}, spacing {_few(other.spacing)} mm) is not that of its image (shape "
                f"{grid.shape}, spacing {_few(grid.spacing)} mm): its labels are resampled.",
            )


def _inside(labels: Volume, grid: Grid) -> float:
    """Share of the labelled volume that lies in an image."""
    mask = (labels.array != 0).astype(np.uint8)
    box = Box.of_mask(mask)
    assert box is not None
    part = Volume(mask[box.slices], labels.grid.crop(box))
    there = int((resample_labels(part, grid) != 0).sum()) * grid.voxel_volume
    return min(1.0, there / (int(mask.sum()) * labels.grid.voxel_volume))


def _between(
    cases: Sequence[Case], split: Split, whose: Mapping[str, str], voxels: Mapping[str, Sequence[Case]]
) -> Iterator[Problem]:
    for alike in voxels.values():
        first = alike[0]
        for case in alike[1:]:
            parts = {split.part(c.name) for c in (first, case)} - {None}
            if len(parts) == 2:
                yield Problem(
                    "image in both parts",
                    case.image,
                    f"it is the same image as {first.image}, and one of them is learnt from while the other is to "
                    "measure with: measures would be too good.",
                )
            else:
                yield Problem("image twice", case.image, f"it is the same image as {first.image}.")
    parts_of: dict[str, dict[str, Case]] = {}
    for case in cases:
        part = split.part(case.name)
        if part is not None:
            parts_of.setdefault(whose[case.name], {}).setdefault(part, case)
    for patient, parts in parts_of.items():
        if len(parts) == 2:
            yield Problem(
                "patient in both parts",
                parts["held_out"].image,
                f"the patient {patient!r} is also learnt from ({parts['train'].image}): measures would be too good.",
            )


def _few(values) -> str:
    listed = [f"{value:g}" for value in values]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
