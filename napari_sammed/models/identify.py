"""What a weight file is: its system, size and variant, from the names and shapes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from napari_sammed.models import fingerprint, sums
from napari_sammed.models.base import ModelCard
from napari_sammed.models.cards import CARDS
from napari_sammed.models.checkpoints import open_checkpoint


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
        Empty if it was not needed: a file of another length than every published one is none of them.
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
    """Look at a weight file: at its table of contents, and at all of it only if its length is that of a published one.

    Raises
    ------
    WeightsError
        If it is damaged or no file of tensors.
    """
    path = Path(path).expanduser().absolute()
    file = open_checkpoint(path)
    size = path.stat().st_size
    found = fingerprint.identify(file.shapes) or fingerprint.Identity("")
    here = {card.name: card for card in CARDS}
    sha256 = sums.sha256_of(path) if any(card.weights and card.weights.size == size for card in CARDS) else ""
    published = published_as(sha256)
    return Identified(
        path=path,
        size=size,
        system=published.title if published else found.system,
        models=(published.name,) if published else tuple(name for name in found.models if name in here),
        published=published.name if published else "",
        sha256=sha256,
        details=found.details,
        remark="" if published else found.remark,
        tensors=len(file.shapes),
        values=sum(prod(shape) for shape in file.shapes.values()),
        wrapping=file.wrapping,
    )


def published_as(sha256: str) -> ModelCard | None:
    """The model whose published weights have this sum."""
    return next((card for card in CARDS if sha256 and card.weights and card.weights.sha256 == sha256), None)
