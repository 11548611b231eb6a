"""Which DICOM files lie in a folder, what their headers say, and which series they form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sammed.errors import ChoiceError, InputError
from napari_sammed.formats.common import quiet

_SERIES, _DESCRIPTION, _MODALITY, _NUMBER = "0020|000e", "0008|103e", "0008|0060", "0020|0013"
_POSITION, _DISTANCE, _THICKNESS = "0020|0032", "0018|0088", "0018|0050"
_STORAGE = "1.2.840.10008.5.1.4.1.1."  # root of the storage classes
_SEGMENTATIONS = ("66.4", "66.7")
_NO_IMAGES = ("9.", "11.", "66", "67", "68", "88.", "104.", "481.3", "481.4", "481.5", "481.8", "481.9")


@dataclass(frozen=True)
class Slice:
    """What the header of one file says; directions and spacings in the order x, y, z."""

    path: Path
    series: str
    description: str
    modality: str | None
    number: int
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: np.ndarray
    direction: np.ndarray
    placed: bool
    distance: float | None

    @property
    def frames(self) -> int:
        return self.size[2]


def is_dicom(path: Path) -> bool:
    """Whether a file says of itself that it is DICOM."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom", ".ima")


def scan(folder: Path) -> list[Slice]:
    """The headers of all images in a folder, by name; InputError if one is damaged or none is there."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    slices = []
    for file in files:
        if is_dicom(file) and not _storage(file).startswith(_NO_IMAGES):
            header = read_header(file)
            if header is not None:
                slices.append(header)
            elif _storage(file):  # an image by its own word; left out, it would pass for a missing slice
                raise InputError(
                    f"{file} is damaged, incomplete, or compressed in an unknown way: fetch it again, "
                    "or move it out of the folder if it belongs to another series."
                )
    if not slices:
        raise InputError(f"The folder {folder} holds no DICOM images.")
    return slices


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM Segmentation."""
    return _storage(path) in _SEGMENTATIONS


def _storage(path: Path) -> str:
    """The storage class in a file's preamble, without the root of all; empty if there is none."""
    with path.open("rb") as file:
        start = file.read(1024)
    found = re.search(rb"\x02\x00\x02\x00UI..(" + re.escape(_STORAGE.encode()) + rb"[0-9.]+)", start, re.DOTALL)
    return "" if found is None else found[1].decode()[len(_STORAGE) :]


def read_header(path: Path) -> Slice | None:
    """What a file says, or None if it holds no image."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError:
        return None
    keys = set(reader.GetMetaDataKeys())

    def tag(key: str) -> str:
        text = reader.GetMetaData(key) if key in keys else ""
        # other character sets arrive as lone surrogates, which cannot be printed
        return text.encode("utf-8", "replace").decode("utf-8").strip(" \0")

    numbers = [_number(tag(key)) for key in (_NUMBER, _DISTANCE, _THICKNESS)]
    return Slice(
        path=path,
        series=tag(_SERIES),
        description=tag(_DESCRIPTION),
        modality=tag(_MODALITY) or None,
        number=int(numbers[0] or 0),
        size=reader.GetSize(),
        spacing=reader.GetSpacing(),
        origin=np.array(reader.GetOrigin()),
        direction=np.reshape(reader.GetDirection(), (3, 3)),
        placed=_POSITION in keys,
        distance=numbers[1] or numbers[2],
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def choose_series(slices: list[Slice], wanted: str | None, folder: Path) -> list[Slice]:
    """The slices of the series that is wanted (number, UID or its beginning), or of the only one."""
    groups: dict[str, list[Slice]] = {}
    for item in slices:
        groups.setdefault(item.series, []).append(item)
    if wanted is None:
        if len(groups) == 1:
            return slices
        raise ChoiceError(
            f"{folder} holds several DICOM series, choose one with the option 'series': {_listing(groups)}.",
            "series",
            tuple(groups),
        )
    found = [uid for number, uid in enumerate(groups, 1) if wanted == str(number)]
    found = found or [uid for uid in groups if uid == wanted] or [uid for uid in groups if uid.startswith(wanted)]
    if len(found) != 1:
        few = "no series" if not found else "more than one series"
        raise InputError(f"{folder} holds {few} {wanted!r}; there are: {_listing(groups)}.")
    return groups[found[0]]


def _listing(groups: dict[str, list[Slice]]) -> str:
    return "; ".join(
        f"{number} = {group[0].modality or 'unknown'} {group[0].description!r}, {len(group)} files ({uid})"
        for number, (uid, group) in enumerate(groups.items(), 1)
    )
