"""The objects of a session as one file each, named after them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.prompts import MaskPrompt
from napari_sammed.segments import Segment, is_segmentation_name, write_segments
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.saving import chunk_writer, segments_of
from napari_sammed.volume import Volume, write_mask

if TYPE_CHECKING:
    from napari_sammed.session.session import Session

# Also halves of characters, which cannot be written, and marks that turn the direction in which a name is shown.
_UNSAFE = re.compile(r'[\s<>:"/\\|?*\x00-\x1f\x7f.\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]+')
_LONGEST = 120  # bytes of a name in a file name, of which file systems take 255
_ENDINGS = (".nii.gz", ".seg.nrrd", ".seg.dcm", ".ome.zarr")


def safe_name(text: str, otherwise: str = "") -> str:
    """A text as a part of a file name that every system takes: no separators, no dots, of bounded length.

    Letters of any language stay; what is left of nothing is `otherwise`.
    """
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip("_ ")
    while len(name.encode()) > _LONGEST:
        name = name[:-1]
    return name or otherwise


def stem_and_ending(path: Path) -> tuple[str, str]:
    """A file name without its ending, and the ending, of which some have two parts."""
    lower = path.name.lower()
    ending = next((end for end in _ENDINGS if lower.endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(ending)] if ending else path.name, ending


def object_files(names: Mapping[int, str], path: Path) -> dict[int, Path]:
    """The file of each object.

    Parameters
    ----------
    names : mapping of int to str
        By label.
    path : Path
        Folder, ending and beginning of the files: ``ct.nii.gz`` gives ``ct_liver.nii.gz`` and so on.

    Returns
    -------
    dict of int to Path
        Objects whose names would make one file, also where upper and lower case are the same, have their label added.
    """
    stem, ending = stem_and_ending(path)
    start = f"{stem}_" if stem else ""
    parts = {label: safe_name(name, f"object_{label}") for label, name in names.items()}
    taken: set[str] = set()
    files = {}
    for label, part in parts.items():
        same = [other for other in parts.values() if other.casefold() == part.casefold()]
        chosen = part if len(same) == 1 and part.casefold() not in taken else f"{part}_{label}"
        while chosen.casefold() in taken:
            chosen += "_"
        taken.add(chosen.casefold())
        files[label] = path.with_name(f"{start}{chosen}{ending}")
    return files


def save_each(
    session: Session, path: Path, *, progress: Progress | None = None, cancel: Cancel | None = None
) -> list[Path]:
    """Write every object that has a mask to a file of its own, on the image's own grid.

    Each file holds the whole object, with 1 where it is, also where others lie over it. Each appears whole or not at
    all; those that were written stay if a later one fails, and the error says how many.

    Parameters
    ----------
    session : Session
    path : Path
        See `object_files`.
    progress, cancel : optional

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If there is nothing to save, or a file cannot be written.
    Cancelled
        Between two files.
    """
    path = Path(path)
    segments = dict(zip(*_with_masks(session), strict=True))
    if not segments:
        raise InputError("There is nothing to save: no object has a mask yet.")
    files = object_files({label: segment.name for label, segment in segments.items()}, path)
    written: list[Path] = []
    for label, segment in segments.items():
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"writing {files[label].name}", len(written) / len(files))
        try:
            _writer(segment, session.image, files[label])()
        except InputError as error:
            raise InputError(f"{error} {len(written)} of {len(files)} files were written.") from None
        written.append(files[label])
    return written


def _with_masks(session: Session) -> tuple[list[int], list[Segment]]:
    with session.reading:
        labels = [label for label, state in session.objects.items() if state.mask is not None]
        return labels, segments_of(session.history) if labels else []


def _writer(segment: Segment, image: Volume, path: Path) -> Callable[[], None]:
    def write() -> None:
        if is_segmentation_name(path):
            write_segments([segment], image, path)
            return
        only = ObjectState(1, segment.name, mask=MaskPrompt(segment.mask, segment.box.low))
        in_chunks = chunk_writer([only], image, path)
        if in_chunks is not None:
            in_chunks()
            return
        mask = np.zeros(image.grid.shape, bool)
        mask[segment.box.slices] = segment.mask
        write_mask(mask, image.grid, path)

    return write
