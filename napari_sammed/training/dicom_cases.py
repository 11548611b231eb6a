"""DICOM series with the DICOM Segmentations that refer to them, wherever they lie in a folder.

A PatientID, or else the study, says which cases are of one patient. It is neither stored nor shown: only a hash of it
is kept in memory.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.formats.dicom_headers import is_dicom, is_segmentation
from napari_sammed.geometry import Grid
from napari_sammed.segments import read_segments
from napari_sammed.training.problems import MOST_OUTSIDE, Problem, elsewhere
from napari_sammed.training.sources import Found, Source
from napari_sammed.volume import Volume, resample_labels

KIND = "DICOM with segmentations"

_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "Modality", "Rows",
    "ReferencedSeriesSequence",
]  # fmt: skip
_EVERY = 50  # files between two words of progress
_ALIGNED = 0.01  # voxels that a segmentation's grid may be off its image's


@dataclass
class _Series:
    uid: str
    study: str
    place: str
    patient: str
    modality: str
    folder: Path
    segmentations: list[Path] = field(default_factory=list)


def find(folder: Path, *, progress: Progress | None = None, cancel: Cancel | None = None) -> Found | None:
    """The series in a folder and in folders inside that DICOM Segmentations refer to; None without a segmentation.

    Raises
    ------
    InputError
        If pydicom is missing.
    OSError
        If the folder cannot be read.
    Cancelled
    """
    files = [path for path in _walk(folder) if _readable(path)]
    if not any(map(is_segmentation, files)):
        return None
    try:
        import pydicom
    except ImportError:
        raise InputError(
            f"{folder} holds DICOM segmentations; reading them needs pydicom: pip install 'napari-sammed[dicom]'."
        ) from None
    series: dict[str, _Series] = {}
    segmentations: list[tuple[Path, list[str], str, str]] = []
    problems: list[Problem] = []
    for number, path in enumerate(files):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None and number % _EVERY == 0:
            progress(f"Looking at DICOM file {number + 1} of {len(files)}", number / len(files))
        segmentation = is_segmentation(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's quote headers
                data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            study, place = str(data.get("StudyInstanceUID", "")), str(data.get("FrameOfReferenceUID", ""))
            if segmentation:
                of = [str(item.SeriesInstanceUID) for item in data.get("ReferencedSeriesSequence") or ()]
                segmentations.append((path, of, study, place))
            elif "Rows" in data:
                uid = str(data.get("SeriesInstanceUID", ""))
                about = (study, place, _hashed(str(data.get("PatientID") or ""), study), str(data.get("Modality", "")))
                series.setdefault(uid, _Series(uid, *about, path.parent))
        except Exception as error:  # pydicom raises all kinds; their texts may quote headers
            if segmentation:
                problems.append(Problem("unreadable labels", path, f"it is damaged ({type(error).__name__})."))
    for path, of, study, place in segmentations:
        image = _image_of(series, of, study, place)
        if image is None:
            problems.append(
                Problem("image missing", path, "the series that it refers to is not in the folder: put it there.")
            )
        else:
            image.segmentations.append(path)
    problems += [
        Problem("no labels", one.folder, f"no segmentation refers to its {one.modality or 'unknown'} series.")
        for one in series.values()
        if not one.segmentations
    ]
    return Found(KIND, tuple(_cases(folder, list(series.values()))), tuple(problems))


def patient_of(path: Path, series: str | None = None) -> str:
    """A hash of the PatientID, or the study, in a DICOM image's header; empty for other images."""
    import SimpleITK as sitk

    from napari_sammed.formats.common import quiet

    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if not _readable(file) or is_segmentation(file):
            continue
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            with quiet():
                reader.ReadImageInformation()
        except RuntimeError:
            continue
        keys = set(reader.GetMetaDataKeys())
        if series is not None and not ("0020|000e" in keys and reader.GetMetaData("0020|000e").startswith(series)):
            continue
        return _hashed(*(reader.GetMetaData(tag) if tag in keys else "" for tag in ("0010|0020", "0020|000d")))
    return ""


def read_all(case: Source, grid: Grid) -> tuple[np.ndarray, dict[int, str], list[Problem]]:
    """The segments of a case on its image's grid.

    Parameters
    ----------
    case : Source
    grid : Grid
        Of the image.

    Returns
    -------
    labels : ndarray of uint16
        Segments by number, over all files; the later one shows where they overlap.
    names : dict of int to str
        Of those that have voxels.
    problems : list of Problem

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    labels = np.zeros(grid.shape, np.uint16)
    names: dict[int, str] = {}
    problems: list[Problem] = []
    number = 0
    for path in (case.labels, *case.more):
        segments, own = read_segments(path)
        empty = [segment.name for segment in segments if not segment.mask.any()]
        if empty:
            problems.append(Problem("object without mask", path, f"nothing is marked as {', '.join(empty)}."))
        if not _aligned(own, grid):
            problems.append(Problem("other grid", path, "its grid is not that of its image: its labels are resampled."))
        marked, outside, hidden = 0.0, 0.0, 0
        for segment in segments:
            if not segment.mask.any():
                continue
            number += 1
            there = resample_labels(Volume(segment.mask, own.crop(segment.box)), grid) != 0
            inside = int(there.sum()) * grid.voxel_volume
            whole = int(segment.mask.sum()) * own.voxel_volume
            marked += whole
            outside += max(0.0, whole - inside)
            hidden += int(np.count_nonzero(labels[there]))
            labels[there] = number
            names[number] = segment.name
        if outside > MOST_OUTSIDE * marked:
            problems.append(elsewhere(path, outside / marked))
        if hidden:
            problems.append(
                Problem(
                    "overlapping segments",
                    path,
                    f"its segments overlap others in {hidden} voxels, which count to the later one only.",
                )
            )
    return labels, names, problems


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def _readable(path: Path) -> bool:
    """Whether a file is DICOM; one that cannot be read is told about when its case is, if it belongs to one."""
    try:
        return is_dicom(path)
    except OSError:
        return False


def _image_of(series: dict[str, _Series], of: list[str], study: str, place: str) -> _Series | None:
    """The series that a segmentation refers to; without a reference, the only one of its study in its place."""
    named = [series[uid] for uid in of if uid in series]
    if named or of:
        return named[0] if named else None
    alike = [one for one in series.values() if one.study == study and one.place == place]
    return alike[0] if len(alike) == 1 else None


def _cases(folder: Path, series: list[_Series]) -> Iterator[Source]:
    here: dict[Path, list[_Series]] = {}
    for one in series:
        here.setdefault(one.folder, []).append(one)
    for place, several in sorted(here.items()):
        name = place.relative_to(folder).as_posix() if place != folder else folder.name
        for number, one in enumerate(several, 1):
            if one.segmentations:
                first, *more = one.segmentations
                own = name if len(several) == 1 else f"{name} {number}"
                about = {"modality": one.modality, "series": one.uid or None, "patient": one.patient}
                yield Source(own, place, first, more=tuple(more), **about)


def _aligned(own: Grid, grid: Grid) -> bool:
    """Whether the voxels of a part of an image are voxels of the image."""
    corners = np.array([np.zeros(3), np.array(own.shape) - 1.0])
    index = grid.to_index(own.to_world(corners))
    even = np.abs(index - np.rint(index)).max() <= _ALIGNED
    return bool(even and np.allclose(index[1] - index[0], corners[1], atol=_ALIGNED))


def _hashed(patient: str, study: str) -> str:
    told = patient.strip(" \0") or study.strip(" \0")
    return hashlib.blake2b(told.encode("utf-8", "replace"), digest_size=6).hexdigest() if told else ""
