"""The images in a folder: files of all readable formats, and DICOM series, each of which is one image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from napari_sammed.errors import InputError
from napari_sammed.formats.dicom_headers import is_dicom, is_segmentation

RESULT = "_sammed"
"""How the names of our label images end, before the format."""

SUFFIXES = (
    ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp",
)  # fmt: skip
_DIGITS = re.compile(r"(\d+)")


def find_images(folder: Path, *, subfolders: bool = True, without: Path | None = None) -> list[tuple[str, str | None]]:
    """The images in a folder, in the order in which people count (``scan2`` before ``scan10``).

    Parameters
    ----------
    folder : Path
    subfolders : bool
        Whether to look into them, too.
    without : Path, optional
        A folder inside that is left out: that of the results.

    Returns
    -------
    list of (str, str or None)
        Path relative to the folder, with forward slashes; and the UID of the series, of DICOM folders with several.
        Our own label images are left out, DICOM Segmentations and hidden files too.

    Raises
    ------
    InputError
        If there is no such folder, or it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    found: list[tuple[str, str | None]] = []
    try:
        for place, names, files in os.walk(folder, onerror=_raise):
            here = Path(place)
            names[:] = [n for n in names if subfolders and not n.startswith(".") and not _same(here / n, without)]
            found += [(path.relative_to(folder).as_posix(), series) for path, series in _images(here, files)]
    except OSError as error:
        raise InputError(f"The folder {error.filename or folder} cannot be read: {error.strerror}.") from None
    return sorted(found, key=lambda image: (natural(image[0]), image[1] or ""))


def natural(text: str) -> list[tuple[int, int | str]]:
    """A key that sorts numbers in names by their value."""
    return [(0, int(part)) if part.isdigit() else (1, part.casefold()) for part in _DIGITS.split(text) if part]


def stem(path: str) -> str:
    """A relative path without its format."""
    ending = max((s for s in SUFFIXES if path.lower().endswith(s)), key=len, default="")
    return path[: len(path) - len(ending)] if ending else path


def _images(folder: Path, files: list[str]) -> Iterator[tuple[Path, str | None]]:
    dicom = False
    for name in files:
        path = folder / name
        if name.startswith(".") or stem(name).endswith(RESULT):
            continue
        if name.lower().endswith(SUFFIXES):
            yield path, None
        elif name.lower().endswith((".dcm", ".ima")) or "." not in name:
            dicom = dicom or (is_dicom(path) and not is_segmentation(path))
    if dicom:
        series = _series(folder)
        yield from ((folder, uid if len(series) > 1 else None) for uid in series or (None,))


def _series(folder: Path) -> tuple[str, ...]:
    import SimpleITK as sitk

    from napari_sammed.formats.common import quiet

    with quiet():
        return tuple(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.samefile(other)


def _raise(error: OSError) -> None:
    raise error
