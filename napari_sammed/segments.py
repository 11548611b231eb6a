"""Named masks that may overlap, as DICOM Segmentation files hold them; to and from such files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid

if TYPE_CHECKING:
    from napari_sammed.volume import Volume

SUFFIX = ".dcm"
"""How the names of the files end; ``.seg.dcm`` too."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One thing on an image.

    Parameters
    ----------
    name : str
        Decides its codes; see `napari_sammed.formats.segment_codes`.
    mask : ndarray of bool
        Inside `box`.
    box : Box
        Where the mask lies in the image.
    algorithm, weights_hash : str
        What made it; no algorithm means a human hand.
    automatic : bool
        Whether nobody prompted the algorithm.
    """

    name: str
    mask: np.ndarray
    box: Box
    algorithm: str = ""
    weights_hash: str = ""
    automatic: bool = False


def of_labels(
    labels: np.ndarray, names: Mapping[int, str] | None = None, *, algorithm: str = "", weights_hash: str = ""
) -> list[Segment]:
    """The segments of a label image, by rising label: those that occur; where none does, those that are named.

    Parameters
    ----------
    labels : ndarray of bool or int
    names : mapping of int to str, optional
        "Segment 3" without.
    algorithm, weights_hash : str
        What made them, without anybody's prompts.
    """
    names = names or {}
    segments = []
    occurring = [int(label) for label in np.unique(labels) if label]
    for label in occurring or sorted(names):
        mask = labels == label
        box = Box.of_mask(mask) or Box((0,) * labels.ndim, (1,) * labels.ndim)
        name = names.get(label) or f"Segment {label}"
        segments.append(Segment(name, mask[box.slices].copy(), box, algorithm, weights_hash, bool(algorithm)))
    return segments


def is_segmentation_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file to be written is a DICOM Segmentation by its name."""
    return Path(path).name.lower().endswith(SUFFIX)


def check_writable(image: Volume) -> None:
    """Refuse, before any work is done, images that no DICOM Segmentation can refer to.

    Raises
    ------
    InputError
        If the image was not read from DICOM files that are still there and say where they lie, or if highdicom is
        not installed.
    """
    _check_origin(image)
    from napari_sammed.formats.seg_writing import read_sources

    read_sources(image.files)


def write_segments(segments: Sequence[Segment], image: Volume, path: str | os.PathLike[str]) -> None:
    """Write a DICOM Segmentation (binary, deflated) that refers to the DICOM images that `image` was read from.

    Overlapping segments keep all their voxels. What DICOM demands to know of patient and study is copied from the
    images. The file appears whole or not at all.

    Raises
    ------
    InputError
        See `check_writable`; and without segments, for a folder that cannot be written to, a full disk.
    """
    if not segments:
        raise InputError("There is nothing to save: a DICOM segmentation needs at least one object.")
    _check_origin(image)
    from napari_sammed.formats import seg_writing

    seg_writing.write(segments, image.grid, image.files, Path(path))


def read_segments(path: str | os.PathLike[str]) -> tuple[list[Segment], Grid]:
    """The segments of a DICOM Segmentation, and the grid that they lie on.

    The grid reaches over the slices that the file holds, which are often fewer than those of the image.

    Raises
    ------
    InputError
        If the file is none, is damaged, or its frames make no volume.
    """
    from napari_sammed.formats import seg_reading

    return seg_reading.read(Path(path))


def _check_origin(image: Volume) -> None:
    if not image.files:
        raise InputError(
            f"A DICOM segmentation refers to the DICOM images that it was made on, but the image {image.name} was not "
            "read from DICOM: open the DICOM folder itself, or save as .nii.gz, .nrrd or .mha."
        )
    if importlib.util.find_spec("highdicom") is None:
        raise InputError(
            "DICOM segmentations are written with highdicom, which is not installed: run "
            "pip install 'napari-sammed[dicom]', or save as .nii.gz, .nrrd or .mha."
        )
