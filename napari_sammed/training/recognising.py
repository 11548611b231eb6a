"""What a folder is: images with labels, sessions of this program, or DICOM with segmentations."""

from __future__ import annotations

from pathlib import Path

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import InputError
from napari_sammed.evaluation.cases import NoCasesError, find_cases, unpaired
from napari_sammed.series.state import FOLDER
from napari_sammed.training import dicom_cases, session_cases
from napari_sammed.training.problems import Problem
from napari_sammed.training.sources import Found, Source


def recognise(folder: Path, *, progress: Progress | None = None, cancel: Cancel | None = None) -> Found:
    """Say what a folder is, and find its cases.

    nnU-Net's layout comes first; then sessions of this program, since who corrected labels here wants to learn from
    the corrections; then images with labels; then DICOM with segmentations.

    Parameters
    ----------
    folder : Path
        Or a single session file.
    progress, cancel : optional

    Returns
    -------
    Found

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, or is none of these.
    Cancelled
    """
    folder = Path(folder)
    try:
        if (folder / "labelsTr").is_dir():
            return _labelled("nnU-Net raw data", folder)
        sessions = session_cases.find(folder)
        if sessions is not None and sessions.cases:
            return sessions
        try:
            return _labelled("images with labels", folder)
        except NoCasesError as error:
            if sessions is not None:  # none of which can be learnt from
                return sessions
            found = dicom_cases.find(folder, progress=progress, cancel=cancel)
            if found is None:
                raise InputError(
                    f"{error} So are folders with session files of this program (or with its {FOLDER}), "
                    "and folders with DICOM series and the DICOM segmentations of them."
                ) from None
            return found
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from None


def _labelled(kind: str, folder: Path) -> Found:
    cases = find_cases(folder)
    missing = tuple(
        Problem("no labels", path, "there are no labels beside it: it is left out.") for path in unpaired(folder, cases)
    )
    channels = any((folder / "imagesTr").glob("*_0001.*"))
    remarks = ("Of images with several channels, the first one is learnt from.",) if channels else ()
    sources = tuple(Source(**vars(case), patient=dicom_cases.patient_of(case.image)) for case in cases)
    return Found(kind, sources, missing, remarks)
