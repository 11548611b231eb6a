"""Tuned files: what training has changed in a model's weights, and a card that says from what and how.

A safetensors file with the tensors that were learnt, under the names they have in the network, and one JSON object in
its metadata. It is small where little was learnt, and useless without the weights that it adds to, which it names by
their sha256. Nothing in it is ever executed; importing this file imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_sammed.errors import WeightsError
from napari_sammed.models.archives import one_line
from napari_sammed.models.cards import CARDS
from napari_sammed.models.storage import flush_to_disk, put_in_place, storing

if TYPE_CHECKING:
    from torch import Tensor

KEY = "napari-sammed tuned"
"""Of the card in the metadata of the file."""
FORMAT = 1
SUFFIX = ".safetensors"

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

_LONGEST_CARD, _LONGEST_TEXT, _MOST = 1_000_000, 500, 1000  # characters; entries of a list
_MOST_OF_NETWORK = 4096  # classes, rank
_DEEPEST = 4  # entries in entries
_NETWORKS = {"samed": ("samed", "samed_s")}  # of models whose network is not that of their base
_CONFIG = ("num_classes", "rank", "adapter")


@dataclass(frozen=True)
class TunedCard:
    """What a tuned file says of itself.

    Parameters
    ----------
    name, title, summary : str
        The name that it would have in the registry; as people say it; one sentence.
    model : str
        Registry name of the model that it makes: whose class, prompts and card it has.
    base, base_sha256 : str
        Registry name of the model whose weights it adds to, and the sum of their file. The same as `model`, but for
        SAMed, which adds to those of SAM.
    network : str
        A name of `networks.create`; empty for the network of `model`.
    config : mapping
        Values of the network that differ from the published ones: ``num_classes``, ``rank``, ``adapter``.
    recipe : str
    settings : mapping
        Of the recipe and the run.
    classes : tuple of str
        Names of labels 1, 2, ... of a model without prompts; else of the structures that were learnt.
    data : mapping
        Counts of what was learnt from; no names of patients or files.
    before, after : mapping of str to float
        Mean Dice on what was kept to measure with, "score" over all and by structure.
    seed : int
    version, date : str
        Of this program, and the day.
    sum : str
        sha256 of the tensors, see `sum_of`; safetensors files have no sums of their own.
    """

    name: str
    title: str
    summary: str
    model: str
    base: str
    base_sha256: str
    network: str = ""
    config: Mapping[str, int | bool] = field(default_factory=dict)
    recipe: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    data: Mapping[str, Value] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    version: str = ""
    date: str = ""
    sum: str = ""

    @property
    def network_name(self) -> str:
        """Of `networks.create`."""
        return self.network or self.model


def write(path: Path, tensors: Mapping[str, Tensor], card: TunedCard) -> TunedCard:
    """Write a tuned file; whoever looks sees the file of before or the whole new one.

    Parameters
    ----------
    path : Path
        Ends in ``.safetensors``.
    tensors : mapping of str to Tensor
        What was learnt, by the names of the network's state dict.
    card : TunedCard
        Its `sum` is taken here.

    Returns
    -------
    TunedCard
        With the sum.

    Raises
    ------
    WeightsError
        If the card or a tensor is not one, or the file cannot be written.
    """
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    _check_values(plain, path)
    written = {**asdict(card), "format": FORMAT, "sum": sum_of(plain)}
    checked = _card(json.loads(json.dumps(written)), path)
    with storing(path.parent), tempfile.TemporaryDirectory(prefix=".tuned-", dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        save_file(plain, part, metadata={KEY: json.dumps(written)})
        with open(part, "rb+") as file:
            flush_to_disk(file)
        put_in_place(part, path)
    return checked


def is_tuned(path: Path) -> bool:
    """Whether a file calls itself a tuned one; never raises, since it may be anything."""
    try:
        return KEY in _metadata(path)
    except WeightsError:
        return False


def read_card(path: Path) -> TunedCard:
    """The card of a tuned file; reads no tensors.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, no tuned file, or its card is not one.
    """
    text = _metadata(path).get(KEY)
    if text is None:
        raise WeightsError(
            f"{path} is no tuned file: it has no card of one. Files that `napari-sammed finetune` writes have; "
            "`napari-sammed models identify FILE` says what others are"
        )
    if len(text) > _LONGEST_CARD:
        raise WeightsError(f"{path} is no tuned file: its card has {len(text):,} characters")
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its card cannot be read ({one_line(error)})") from None
    return _card(item, path)


def read_tensors(path: Path, card: TunedCard) -> dict[str, Tensor]:
    """The tensors of a tuned file, compared with the sum on its card.

    Raises
    ------
    WeightsError
        If they are damaged, or of a kind that no network has.
    """
    from napari_sammed.models.checkpoints import open_checkpoint

    tensors = open_checkpoint(path).read()
    _check_values(tensors, path)
    if sum_of(tensors) != card.sum:
        raise WeightsError(f"{path} is damaged: its tensors do not have the sum on its card; get the file again")
    return tensors


def sum_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, kinds, shapes and values, in the order of names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(memoryview(value.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _check_values(tensors: Mapping[str, Tensor], path: Path) -> None:
    import torch

    if not tensors:
        raise WeightsError(f"{path} is no tuned file: there is no tensor in it")
    for name, value in tensors.items():
        if value.dtype not in (torch.float32, torch.float16, torch.int64):
            raise WeightsError(f"{path} is no tuned file: {name} is of the kind {value.dtype}")
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path} cannot be used: {name} has values that are no numbers")


def _metadata(path: Path) -> Mapping[str, str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} is no tuned file, or damaged: {one_line(error)}") from None


# ---- the card: whatever stands in a file that somebody sent is taken for what it should be, or refused


def _card(item: Any, path: Path) -> TunedCard:
    if not isinstance(item, dict) or not isinstance(item.get("format"), int):
        raise WeightsError(f"{path} is no tuned file: its card is none")
    if item["format"] > FORMAT:
        raise WeightsError(f"{path} was written by a newer version of napari-sammed: update this one")
    known = {each.name for each in fields(TunedCard)}
    values = {key: value for key, value in item.items() if key in known}
    try:
        card = TunedCard(**{**values, "classes": tuple(values.get("classes", ()))})
        _check_texts(card)
        _check_system(card)
        _check_rest(card)
    except (AttributeError, TypeError, ValueError) as error:  # an entry of another kind
        raise WeightsError(f"{path} is no tuned file: {one_line(error)}") from None
    return card


def _check_texts(card: TunedCard) -> None:
    for key in ("name", "title", "summary", "model", "base", "base_sha256", "network", "recipe", "version", "date"):
        _check_text(key, getattr(card, key))
    for key, value in (("base_sha256", card.base_sha256), ("sum", card.sum)):
        if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise ValueError(f"its {key} is no sha256")
    if len(card.classes) > _MOST:
        raise ValueError(f"it names {len(card.classes)} classes")
    for name in card.classes:
        _check_text("class", name)


def _check_text(key: str, value: object) -> None:
    """Texts are shown in windows and terminals, where markup and control characters would be obeyed."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable() or "<" in value:
        raise ValueError(f"its {key} is no plain text")


def _check_system(card: TunedCard) -> None:
    here = {each.name: each for each in CARDS}
    for key in (card.model, card.base):
        if key not in here or here[key].weights is None:
            raise ValueError(f"it is for {key!r}, which is no model with weights here")
    base = here[card.model].base
    same_family = card.base.rpartition("-")[0] == base.rpartition("-")[0] if base else card.base == card.model
    if not same_family or card.network_name not in _NETWORKS.get(card.model, (card.model,)):
        raise ValueError(f"it makes {card.model} with {card.network_name} from {card.base}, which does not go together")
    for key, value in card.config.items():
        if key not in _CONFIG or not isinstance(value, int) or not 0 <= value <= _MOST_OF_NETWORK:
            raise ValueError(f"its network has the value {str(key)[:40]}={str(value)[:40]}")
    if not here[card.model].prompts and len(card.classes) != card.config.get("num_classes"):
        raise ValueError(f"it names {len(card.classes)} classes of {card.config.get('num_classes')}")


def _check_rest(card: TunedCard) -> None:
    if not isinstance(card.seed, int):
        raise ValueError("its seed is no number")
    for measures in (card.before, card.after):
        for key, value in measures.items():
            _check_text("structure", key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"its figure of {key} is no number")
    for entries in (card.settings, card.data):
        for key, value in entries.items():
            _check_text("setting", key)
            _check_value(value)


def _check_value(value: object, depth: int = 0) -> None:
    if isinstance(value, str):
        _check_text("setting", value)
    elif isinstance(value, list) and depth < _DEEPEST:
        if len(value) > _MOST:
            raise ValueError("a setting of it is endless")
        for each in value:
            _check_value(each, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        for key, each in value.items():
            _check_text("setting", key)
            _check_value(each, depth + 1)
    elif not isinstance(value, int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"a setting of it is a {type(value).__name__}")
