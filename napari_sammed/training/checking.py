"""Are data good to learn from? Everything that is wrong is named, case by case, before anything is learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation.cases import Case, unpaired
from napari_sammed.formats.dicom_headers import is_dicom, is_segmentation
from napari_sammed.geometry import Box, Grid
from napari_sammed.training import dicom_cases, session_cases
from napari_sammed.training.choosing import chosen, named
from napari_sammed.training.leaks import between
from napari_sammed.training.problems import KINDS, MOST_OUTSIDE, Problem, elsewhere, unreadable
from napari_sammed.training.sources import Source
from napari_sammed.training.splits import Split
from napari_sammed.volume import Volume, read_volume, resample_labels

__all__ = ["KINDS", "Problem", "Read", "check", "read_case"]

_MOST_VALUES = 1024  # different ones in a file of labels; more are grey values
_HIGHEST = 65535
_FINEST, _COARSEST = 1e-3, 50.0  # mm between voxels of any medical image


@dataclass(frozen=True)
class Read:
    """A case as it was read.

    Parameters
    ----------
    image : Volume or None
        None if it cannot be read.
    labels : Volume or None
        Grey, on their own grid; None if they cannot be read.
    structures : mapping of int to str
        Of the label values that are wanted and occur.
    known : mapping of int to str
        All structures that occur.
    problems : tuple of Problem
    """

    image: Volume | None
    labels: Volume | None
    structures: Mapping[int, str]
    known: Mapping[int, str]
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        """Whether it can be learnt from."""
        return not any(problem.fatal for problem in self.problems)


def check(
    folder: Path,
    cases: Sequence[Case],
    split: Split,
    whose: Mapping[str, str],
    wanted: Sequence[int | str] = (),
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> list[Problem]:
    """Look at every case of a folder of images with labels.

    Parameters
    ----------
    folder : Path
    cases : sequence of Case
    split : Split
    whose : mapping of str to str
        Case to patient.
    wanted : sequence of int or str
        Label values, or names, that are to be learnt; empty for all.
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
    hashes: dict[str, str] = {}
    for number, case in enumerate(cases):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"Checking {case.name}", number / len(cases))
        read = read_case(case, wanted)
        found += read.problems
        if read.image is not None:
            hashes[case.name] = read.image.hash
    return found + list(between(cases, split, whose, hashes))


def read_case(case: Case, wanted: Sequence[int | str] = (), cancel: Cancel | None = None) -> Read:
    """Read a case, and say what is wrong with it.

    Parameters
    ----------
    case : Case
        Or a `napari_sammed.training.sources.Source`.
    wanted : sequence of int or str
        See `check`.
    cancel : Event, optional

    Raises
    ------
    Cancelled
    """
    found: list[Problem] = []
    source = case if isinstance(case, Source) else Source(**vars(case))
    image = _image(source, found)
    if cancel is not None and cancel.is_set():
        raise Cancelled
    try:
        labels, names = _labels(source, image, found)
    except InputError as error:
        found.append(unreadable("unreadable labels", case.labels, error))
        labels, names = None, {}
    known: dict[int, str] = {}
    if labels is not None:
        problems, known = _of_labels(source, labels, names, wanted)
        found += problems
        if image is not None:
            found += _of_both(case, image.grid, labels)
    return Read(image, labels, chosen(known, wanted), known, tuple(found))


def _image(case: Source, found: list[Problem]) -> Volume | None:
    try:
        stored = read_volume(case.image, frame=case.frame, series=case.series)
        image = stored if stored.in_memory else Volume(stored.array, stored.grid, stored.name, stored.modality)
    except InputError as error:
        found.append(unreadable("unreadable image", case.image, error))
        return None
    if case.image_hash and stored.hash != case.image_hash:
        found.append(
            Problem(
                "other image",
                case.labels,
                f"it is about another image than {case.image}, or that file has changed since: put back the image that "
                "was worked on.",
            )
        )
        return None
    found += _of_image(case.image, image)
    return image


def _labels(case: Source, image: Volume | None, found: list[Problem]) -> tuple[Volume | None, Mapping[int, str]]:
    """Label image and names; of sessions and segmentations only if there is an image to lay them on."""
    if case.labels.is_file() and is_dicom(case.labels) and is_segmentation(case.labels):
        read = None if image is None else dicom_cases.read_all(case, image.grid)
    elif case.image_hash:
        read = None if image is None else session_cases.read_objects(case.labels, image.grid.shape)
    else:
        return read_volume(case.labels), case.names
    if read is None:
        return None, {}
    array, names, problems = read
    found += problems
    return Volume(array, image.grid), names


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


def _of_labels(
    case: Source, labels: Volume, names: Mapping[int, str], wanted: Sequence[int | str]
) -> tuple[list[Problem], dict[int, str]]:
    """What is wrong with labels, and all structures in them."""
    path, array = case.labels, labels.array

    def wrong(kind: str, message: str) -> tuple[list[Problem], dict[int, str]]:
        return [Problem(kind, path, message)], {}

    if labels.channels == 3:
        return wrong("colour labels", "its labels are colours: write one whole number a voxel.")
    if array.dtype.kind == "f":
        odd = array[~np.isfinite(array) | (array != np.floor(array))]
        if odd.size:
            return wrong(
                "fractional labels", f"{odd.size} of its labels are no whole numbers, such as {float(odd[0]):g}."
            )
    values = _values(array)
    if values[0] < 0:
        return wrong("negative labels", f"it has the label {values[0]}: labels are 0 (background) and above.")
    if len(values) > _MOST_VALUES:
        return wrong(
            "grey values as labels", f"it has {len(values)} different labels: is it an image rather than labels?"
        )
    if values[-1] > _HIGHEST:
        return wrong("high labels", f"it has the label {values[-1]}: labels go up to {_HIGHEST}.")
    if values == [0]:
        return wrong("empty labels", "nothing is labelled in it.")
    there = named(values, names, case.ignored)
    if not chosen(there, wanted):
        known = ", ".join(f"{names[v]!r}" if v in names else f"{v}" for v in [v for v in values if v][:6])
        asked = f"the labels {', '.join(map(str, wanted))}" if wanted else "what it should have"
        return wrong("no wanted label", f"it has none of {asked}, only {known}.")
    unknown = [v for v in values if v and v not in names and v not in case.ignored] if names else []
    if unknown:
        return [Problem("unknown label", path, f"nothing says what its labels {_few(unknown)} are.")], there
    return [], there


def _values(array: np.ndarray) -> list[int]:
    """All that occur, in order."""
    if array.dtype not in (np.uint8, np.uint16):
        return [int(value) for value in np.unique(array)]
    seen = np.zeros(np.iinfo(array.dtype).max + 1, bool)  # a tenth of the time that sorting takes
    for part in array:
        seen[part] = True
    return np.flatnonzero(seen).tolist()


def _of_both(case: Case, grid: Grid, labels: Volume) -> Iterator[Problem]:
    other, path = labels.grid, case.labels
    if other.ndim != grid.ndim:
        yield Problem("other axes", path, f"it has {other.ndim} axes, and its image {grid.ndim}.")
    elif grid.ndim == 2 and other.shape != grid.shape:
        yield Problem("other shape", path, f"its shape is {other.shape}, and that of its image {grid.shape}.")
    elif grid.ndim == 3 and not other.same_place(grid) and labels.channels == 1 and labels.array.any():
        inside = _inside(labels, grid)
        if inside < 1 - MOST_OUTSIDE:
            yield elsewhere(path, 1 - inside)
        elif (other.shape, _few(other.spacing)) == (grid.shape, _few(grid.spacing)):
            yield Problem(
                "other grid",
                path,
                "its voxels are in another order, or at another place, than those of its image: its labels are "
                "resampled.",
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


def _few(values) -> str:
    listed = [f"{value:g}" for value in values]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
