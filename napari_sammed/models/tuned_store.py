"""The tuned models of a user: files in a folder beside the fetched weights, known to the registry while they are there.

The name of a model is that of its file. A folder ``tuned`` in the folder that ``NAPARI_SAMMED_WEIGHTS`` names is looked
into as well, so that many people can share models; nothing is ever written there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from napari_sammed.errors import WeightsError
from napari_sammed.models import tuned
from napari_sammed.models.base import ModelCard, WeightFile
from napari_sammed.models.cards import CARDS
from napari_sammed.models.sources import FOLDER_VARIABLE
from napari_sammed.models.storage import (
    cache_folder,
    file_sha256,
    flush_to_disk,
    one_at_a_time,
    put_in_place,
    scratch_folder,
    storing,
)
from napari_sammed.models.tuned import TunedCard

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_RESERVED = frozenset({"auto", "confidence-connected", "con", "prn", "aux", "nul"})  # words of ours, and of Windows
_seen: dict[Path, tuple[tuple[int, ...], TunedCard | WeightsError]] = {}


@dataclass(frozen=True)
class TunedModel:
    """A tuned model on this machine.

    Parameters
    ----------
    name : str
        In the registry.
    path : Path
    card : TunedCard
        As it stands in the file.
    """

    name: str
    path: Path
    card: TunedCard


def folder() -> Path:
    """Where `add` puts tuned files; it need not exist yet."""
    return cache_folder("tuned")


def here() -> dict[str, TunedModel]:
    """All tuned models by name, sorted. Files that cannot be read are left out; `damaged` has them."""
    read = {path.stem: (path, _read(path)) for path in reversed(_files())}
    return {
        name: TunedModel(name, path, card)
        for name, (path, card) in sorted(read.items())
        if isinstance(card, TunedCard) and not _complaint(name)
    }


def find(name: str) -> TunedModel | None:
    """The tuned model of a name, or None.

    Raises
    ------
    WeightsError
        If there is a file of this name that cannot be read.
    """
    for path in _files():
        if path.stem == name and not _complaint(name):
            card = _read(path)
            if isinstance(card, WeightsError):
                raise card
            return TunedModel(name, path, card)
    return None


def damaged() -> list[WeightsError]:
    """What is wrong with the files that cannot be read."""
    return [card for path in _files() if isinstance(card := _read(path), WeightsError)]


def as_model_card(model: TunedModel) -> ModelCard:
    """The card for the registry: that of the model it makes, with its own name, words and figures."""
    known = {card.name: card for card in CARDS}
    made, base, own = known[model.card.model], known[model.card.base], model.card
    assert base.weights is not None
    adds = f"Adds to the weights of {base.title}, with which it has to keep to their licence."
    return replace(
        made,
        name=model.name,
        title=own.title,
        summary=own.summary,
        intended_use=figures(own),
        base=base.name,
        weights=WeightFile(
            filename=model.path.name,
            size=model.path.stat().st_size,
            sha256="",
            source="tuned",
            location="a tuned file; `napari-sammed models add FILE` takes it in",
            licence=base.weights.licence,
            permissive=base.weights.permissive,
            note=" ".join(filter(None, (adds, base.weights.note))),
        ),
    )


def figures(card: TunedCard) -> str:
    """What a tuned model was made from, and what that has brought, in a sentence or two."""
    what = f": {', '.join(card.classes[:6])}{', …' if len(card.classes) > 6 else ''}" if card.classes else ""
    counts = [f"{_learnt(card.data[key])} {key}" for key in ("cases", "patients") if _learnt(card.data.get(key))]
    source = f" on {' of '.join(counts)}" if counts else ""
    said = f"Tuned{source} with the recipe {card.recipe}{what}."
    if "score" in card.before and "score" in card.after:
        after, before = card.after["score"], card.before["score"]
        said += f" Mean Dice on what was kept to measure with: {after:.3f}, before {before:.3f}."
    return said


def _learnt(count: object) -> object:
    """How many were learnt from: of all, or of those that are counted by part."""
    return count.get("train") if isinstance(count, dict) else count


def add(path: Path, name: str | None, taken: Container[str]) -> TunedModel:
    """Take a tuned file in, so that the registry knows it from now on.

    Parameters
    ----------
    path : Path
        It is copied, and stays where it is.
    name : str, optional
        Other than the one on its card.
    taken : container of str
        Names of the registry.

    Returns
    -------
    TunedModel

    Raises
    ------
    WeightsError
        If it is no tuned file, damaged, fits no network, or the name is taken or malformed.
    """
    from napari_sammed.models.tuned_assembly import check_fit

    path = Path(path).expanduser().absolute()
    card = tuned.read_card(path)
    chosen = card.name if name is None else name
    known = find(chosen) if chosen in taken else None
    if known is not None and file_sha256(known.path) == file_sha256(path):
        return known
    check_name(chosen, taken)
    check_fit(card, tuned.read_tensors(path, card), path)
    target = folder() / f"{chosen}{tuned.SUFFIX}"
    with storing(folder(), path.stat().st_size), one_at_a_time(folder(), chosen), scratch_folder(folder()) as scratch:
        if target.exists():
            raise WeightsError(_taken(chosen, taken))
        part = scratch / target.name
        shutil.copyfile(path, part)
        with open(part, "rb+") as file:
            flush_to_disk(file)
        put_in_place(part, target)
    return TunedModel(chosen, target, card)


def find_file(name: str) -> Path:
    """The file of a tuned model that `remove` would delete, readable or not.

    Raises
    ------
    WeightsError
        If there is none of this name, or it is not the user's own.
    """
    path = next((path for path in _files() if path.stem == name), None)
    if path is None:
        known = ", ".join(here()) or "none"
        raise WeightsError(f"there is no tuned model {name!r} here, and only these can be removed (here: {known})")
    if path.parent != folder():
        raise WeightsError(f"{name} lies in {path.parent}, which may be others' as well: delete {path} there")
    return path


def remove(name: str) -> Path:
    """Delete the file of a tuned model, and nothing else; gives where it was. Errors as of `find_file`."""
    path = find_file(name)
    try:
        path.unlink()
    except OSError as error:
        raise WeightsError(f"{path} cannot be deleted: {error.strerror}") from None
    return path


def check_name(name: str, taken: Container[str]) -> None:
    """Refuse a name that a tuned model cannot have.

    Raises
    ------
    WeightsError
        Says which would do.
    """
    complaint = _complaint(name)
    if complaint:
        raise WeightsError(complaint)
    if name in taken:
        raise WeightsError(_taken(name, taken))


def free_name(wanted: str, taken: Container[str]) -> str:
    """A name that a tuned model can have, after a wish."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("._-")[:50] or "tuned"
    if plain in _RESERVED:
        plain += "-tuned"
    tries = (plain, *(f"{plain}-{number}" for number in range(2, 10_000)))
    return next(name for name in tries if name not in taken)


def _complaint(name: str) -> str:
    if name in _RESERVED:
        return f"{name!r} is a word of its own here: choose another name, such as {free_name(name, ())}, with --name"
    if not _NAME.fullmatch(name):
        return (
            f"{name[:80]!r} is no name for a model: it has up to 64 small letters, digits, dots and dashes, such as "
            f"{free_name(name, ())}; give one with --name"
        )
    return ""


def _taken(name: str, taken: Container[str]) -> str:
    instead = f"give another with --name, such as {free_name(name, taken)}"
    if any(card.name == name for card in CARDS):
        return f"{name} is the name of another model: {instead}"
    return f"there is a tuned model {name} already: {instead}, or run `napari-sammed models remove {name}` first"


def _files() -> list[Path]:
    """Those that count: the user's own before others'."""
    shared = os.environ.get(FOLDER_VARIABLE)
    places = [folder()] + ([Path(shared).expanduser().absolute() / "tuned"] if shared else [])
    found: dict[str, Path] = {}
    for place in places:
        try:
            paths = sorted(place.glob(f"*{tuned.SUFFIX}"))
        except OSError:
            continue
        for path in paths:
            found.setdefault(path.stem, path)
    return list(found.values())


def _read(path: Path) -> TunedCard | WeightsError:
    """A file's card, remembered until it changes."""
    try:
        status = path.stat()
    except OSError:
        return WeightsError(f"there is no file {path}")
    marks = (status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    if path not in _seen or _seen[path][0] != marks:
        try:
            _seen[path] = marks, tuned.read_card(path)
        except WeightsError as error:
            logger.warning("A tuned model is left out: %s", error)
            _seen[path] = marks, error
    return _seen[path][1]
