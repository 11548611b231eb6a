"""What cases come from, whatever their labels are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_sammed.evaluation.cases import Case
from napari_sammed.training.problems import Problem


@dataclass(frozen=True)
class Source(Case):
    """A case whose labels are a label image, a session file, or DICOM Segmentations.

    Parameters
    ----------
    name, image, labels, names, modality, ignored
        See `napari_sammed.evaluation.cases.Case`.
    more : tuple of Path
        Further DICOM Segmentations of the same image.
    frame, series : int or str, optional
        Which image of a file or folder with several; see `napari_sammed.volume.read_volume`.
    image_hash : str
        Of the image that a session was about; empty for other labels.
    patient : str
        A hash of the PatientID, or the study, in the image's DICOM headers; empty if there are none.
    """

    more: tuple[Path, ...] = ()
    frame: int | None = None
    series: str | None = None
    image_hash: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Found:
    """What a folder was recognised as.

    Parameters
    ----------
    kind : str
        "nnU-Net raw data", "images with labels", "sessions" or "DICOM with segmentations".
    cases : tuple of Source
        By name.
    problems : tuple of Problem
        Of what is no case, and why.
    remarks : tuple of str
    """

    kind: str
    cases: tuple[Source, ...]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
