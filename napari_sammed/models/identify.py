"""What a weight file is: its system, size and variant, from the names and shapes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from napari_sammed.models import fingerprint, sums, tuned, tuned_store
from napari_sammed.models.base import ModelCard
from napari_sammed.models.cards import CARDS
from napari_sammed.models.checkpoints import Checkpoint, open_checkpoint

_QUICK = 500_000_000  # bytes that are read in a few seconds
_AS_LONG = "It is as long as the published file; `models verify NAME --weights FILE` compares its sum."


@dataclass(frozen=True)
class Identified:
    """What is known of a weight file without loading it.

    Parameters
    ----------
    path : Path
    size : int
        Bytes.
    system : str
        As people say it; empty if it is none of those known here.
    models : tuple of str
        Registry names of the models that can use it, the likeliest first.
    published : str
        Registry name of the model whose published file this is, by its sum; empty if it is none.
    sha256 : str
        Empty if it was not taken, see `identify_file`.
    details : mapping
        What names and shapes tell, see `napari_sammed.models.fingerprint.Identity`.
    remark : str
        A sentence that its user should know; may be empty.
    tensors, values : int
        How many there are.
    wrapping : tuple of str
        The entries and prefixes around the state dict, outermost first.
    """

    path: Path
    size: int
    system: str
    models: tuple[str, ...]
    published: str
    sha256: str
    details: Mapping[str, int | str | bool]
    remark: str
    tensors: int
    values: int
    wrapping: tuple[str, ...]


def identify_file(path: str | Path) -> Identified:
    """Look at the table of contents of a weight file.

    The whole file is read for its sum only if it is of the length of a published one, and small or read before: names
    and shapes tell the large ones apart.

    Raises
    ------
    WeightsError
        If it is damaged or no file of tensors.
    """
    path = Path(path).expanduser().absolute()
    file = open_checkpoint(path)
    size = path.stat().st_size
    if tuned.is_tuned(path):
        return _identified_tuned(path, size, file)
    found = fingerprint.identify(file.shapes) or fingerprint.Identity("")
    here = {card.name: card for card in CARDS}
    likely = any(card.weights and card.weights.size == size for card in CARDS)
    sha256 = sums.sha256_of(path) if likely and size < _QUICK else sums.remembered(path) if likely else ""
    published = published_as(sha256)
    remark = found.remark if sha256 or not likely else _AS_LONG
    return Identified(
        path=path,
        size=size,
        system=published.title if published else found.system,
        models=(published.name,) if published else tuple(name for name in found.models if name in here),
        published=published.name if published else "",
        sha256=sha256,
        details=found.details,
        remark="" if published else remark,
        tensors=len(file.shapes),
        values=sum(prod(shape) for shape in file.shapes.values()),
        wrapping=file.wrapping,
    )


def _identified_tuned(path: Path, size: int, file: Checkpoint) -> Identified:
    """By its card; the registry may know the same file under its name."""
    card = tuned.read_card(path)
    sha256 = sums.sha256_of(path)
    known = [name for name, model in tuned_store.here().items() if sums.sha256_of(model.path) == sha256]
    taken_in = "" if known else f" Take it in with `napari-sammed models add {path.name}`."
    return Identified(
        path=path,
        size=size,
        system=f"{card.title}, a tuned {card.model}",
        models=tuple(known),
        published="",
        sha256=sha256,
        details={"name": card.name, "adds_to": card.base, "recipe": card.recipe, "date": card.date},
        remark=tuned_store.figures(card) + taken_in,
        tensors=len(file.shapes),
        values=sum(prod(shape) for shape in file.shapes.values()),
        wrapping=file.wrapping,
    )


def published_as(sha256: str) -> ModelCard | None:
    """The model whose published weights have this sum."""
    return next((card for card in CARDS if sha256 and card.weights and card.weights.sha256 == sha256), None)
