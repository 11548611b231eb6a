"""Images with reference labels in folders: nnU-Net's layout, and three plain ones.

- nnU-Net: ``dataset.json``, ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz`` (and ``imagesTs``, ``labelsTs``).
- Two folders: ``images/NAME`` and ``labels/NAME`` (or ``masks``, ``segmentations``).
- One folder a case: ``CASE/image.*`` or ``CASE/dicom/``, and ``CASE/labels.*``.
- Side by side: ``NAME.nii.gz`` and ``NAME_labels.nii.gz`` (or ``_label``, ``_mask``, ``_seg``).

Names of labels come from ``dataset.json`` or a ``labels.json`` (value to name) in the case's or in the upper folder.
What kind of images they are (CT, MR) comes from ``dataset.json``, from a ``modalities.json`` (case to modality) in the
upper folder, or from the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_sammed.errors import InputError

_ENDINGS = (
    ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm",
)  # fmt: skip
_LABEL_FOLDERS = ("labels", "masks", "segmentations")
_LABEL_SUFFIXES = ("_labels", "_label", "_masks", "_mask", "_segmentation", "_seg")
_CHANNEL = re.compile(r"_\d{4}$")


class NoCasesError(InputError):
    """A folder holds no images with labels, as far as this module knows."""


@dataclass(frozen=True)
class Case:
    """An image and its reference.

    Parameters
    ----------
    name : str
        Unique in its folder.
    image, labels : Path
        The labels may lie on another grid; they are resampled.
    names : mapping of int to str
        What label values are called, as far as it is known.
    modality : str
        What the data set says of how images were made; may be empty.
    ignored : tuple of int
        Label values that mark no structure: nnU-Net's label "ignore".
    """

    name: str
    image: Path
    labels: Path
    names: Mapping[int, str] = field(default_factory=dict)
    modality: str = ""
    ignored: tuple[int, ...] = ()


def find_cases(folder: Path) -> list[Case]:
    """All cases of a folder, by name.

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, or what describes its labels makes no sense.
    NoCasesError
        If there is no image with labels in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.")
    try:
        found = _nnunet(folder) or _two_folders(folder) or _folders(folder) or _side_by_side(folder)
    except OSError as error:
        raise InputError(f"The folder {error.filename or folder} cannot be read: {error.strerror or error}.") from None
    cases = sorted(found, key=_by_name)
    if not cases:
        inner = sorted(path.parent.name for path in folder.glob("*/labelsTr"))
        raise NoCasesError(
            f"{folder} holds no images with labels. "
            + (f"Was {folder / inner[0]} meant? " if inner else "")
            + "Known are nnU-Net's layout (imagesTr, labelsTr), folders images and labels, one folder a case with "
            "image.* and labels.*, and NAME.* beside NAME_labels.*."
        )
    modalities = _modalities(folder / "modalities.json", cases)
    return [replace(case, modality=modalities.get(case.name, case.modality)) for case in cases]


def unpaired(folder: Path, cases: Iterable[Case]) -> list[Path]:
    """Images of a folder that no case of it has, for lack of labels.

    In the folder of a case and beside labels, other files than the image may be anything, and are not looked at.
    """
    used = {path for case in cases for path in (case.image, case.labels)}
    known = {_CHANNEL.sub("", _stem(path)) for path in used if path.is_file()}
    named = [path for name in ("imagesTr", "imagesTs", "images") for path in _images(folder / name)]
    named = named or [path for path in _images(folder) if _without_suffix(_stem(path)) == _stem(path)]
    if named:  # further channels of a case have its name
        return [path for path in named if path not in used and _CHANNEL.sub("", _stem(path)) not in known]
    inner = (next((p for p in _images(place) if _stem(p) == "image"), None) for place in sorted(folder.iterdir()))
    return [path for path in inner if path is not None and path not in used]


def _by_name(case: Case) -> str:
    return case.name


def _nnunet(folder: Path) -> list[Case]:
    found = []
    names, modality, ignored = _dataset(folder / "dataset.json")
    for part in ("Tr", "Ts"):
        images: dict[str, Path] = {}
        for path in _images(folder / f"images{part}"):
            stem = _stem(path)
            images.setdefault(_CHANNEL.sub("", stem), path)  # the first channel
        for labels in _images(folder / f"labels{part}"):
            if _stem(labels) in images:
                found.append(Case(_stem(labels), images[_stem(labels)], labels, names, modality, ignored))
    return found


def _two_folders(folder: Path) -> list[Case]:
    labels = {_stem(path): path for name in _LABEL_FOLDERS for path in _images(folder / name)}
    labels |= {_without_suffix(stem): path for stem, path in labels.items()}
    names = _names(folder)
    return [
        Case(_stem(path), path, labels[_stem(path)], names)
        for path in _images(folder / "images")
        if _stem(path) in labels
    ]


def _folders(folder: Path) -> list[Case]:
    found = []
    common = _names(folder)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {_stem(path): path for path in _images(inner)}
        labels = next((files[name] for name in ("labels", "label", "mask") if name in files), None)
        series = inner / "dicom"
        image = series if series.is_dir() else files.get("image")
        if image is not None and labels is not None:
            found.append(Case(inner.name, image, labels, _names(inner) or common))
    return found


def _side_by_side(folder: Path) -> list[Case]:
    files = {_stem(path): path for path in _images(folder)}
    names = _names(folder)
    return [
        Case(_without_suffix(stem), files[_without_suffix(stem)], path, names)
        for stem, path in files.items()
        if _without_suffix(stem) != stem and _without_suffix(stem) in files
    ]


def _images(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.lower().endswith(_ENDINGS):
                yield path


def _stem(path: Path) -> str:
    ending = next(ending for ending in _ENDINGS if path.name.lower().endswith(ending))
    return path.name[: -len(ending)]


def _without_suffix(stem: str) -> str:
    return next((stem[: -len(suffix)] for suffix in _LABEL_SUFFIXES if stem.lower().endswith(suffix)), stem)


def _names(folder: Path) -> dict[int, str]:
    path = folder / "labels.json"
    if not path.exists():
        return {}
    read = _json(path)
    read = read.get("labels", read)
    try:
        return {int(value): str(name) for value, name in read.items()}
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{path} does not say what label values are called: it needs entries like "
                         '"1": "liver".') from None  # fmt: skip


def _dataset(path: Path) -> tuple[dict[int, str], str, tuple[int, ...]]:
    """Names, modality and ignored values from nnU-Net's description: of either version, name to value or value to name.

    Regions of several values, which nnU-Net can train on, are no labels of the files.
    """
    if not path.exists():
        return {}, "", ()
    read = _json(path)
    labels, channels = read.get("labels", {}), read.get("channel_names") or read.get("modality") or {}
    if not isinstance(labels, dict) or not isinstance(channels, dict):
        raise InputError(f'{path} is no description of nnU-Net: its labels look like {{"background": 0, "liver": 1}}.')
    names: dict[int, str] = {}
    for key, value in labels.items():
        if str(key).isdigit():
            names[int(key)] = str(value)
        elif isinstance(value, int) or str(value).isdigit():
            names[int(value)] = str(key)
    names.pop(0, None)
    ignored = tuple(value for value, name in names.items() if name == "ignore")
    return names, str(channels.get("0", "")), ignored


def _modalities(path: Path, cases: list[Case]) -> dict[str, str]:
    if not path.exists():
        return {}
    read = _json(path)
    unknown = sorted(set(read) - {case.name for case in cases})
    if unknown:
        raise InputError(f"{path} tells of {unknown[0]!r}, which is none of the cases: it needs entries like "
                         f'"{cases[0].name}": "MR".')  # fmt: skip
    return {str(name): str(modality) for name, modality in read.items()}


def _json(path: Path) -> dict:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    if not isinstance(read, dict):
        raise InputError(f"{path} is not a description of labels.")
    return read
