"""From a tuned file and the weights that it adds to, to a loaded network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_sammed import networks
from napari_sammed.errors import WeightsError
from napari_sammed.intensity import Window
from napari_sammed.models import fingerprint, tuned
from napari_sammed.models import weights as store
from napari_sammed.models.assembly import Assembled, assemble
from napari_sammed.models.cards import CARDS
from napari_sammed.models.checkpoints import Checkpoint, open_checkpoint
from napari_sammed.models.fitting import build, fill, shapes_of, stand_ins
from napari_sammed.models.tuned import TunedCard
from napari_sammed.networks.lora import LoraLinear, LoraQKV, as_plain
from napari_sammed.networks.official_files import from_sam_file

if TYPE_CHECKING:
    from napari_sammed.models.base import ModelCard

_UPDATES: dict[str, type[LoraQKV] | type[LoraLinear]] = {
    ".linear_a_q.weight": LoraQKV,
    ".w_a.weight": LoraLinear,
}
_ENCODER_SIZE = ("embed_dim", "depth", "num_heads", "global_attn_indexes")


def assemble_tuned(
    path: Path, base: Path, card: TunedCard | None = None, config: Mapping[str, Any] | None = None
) -> Assembled:
    """The network of a tuned model.

    Parameters
    ----------
    path, base : Path
        The tuned file, and the weights that it adds to.
    card : TunedCard, optional
        If it has been read.
    config : mapping, optional
        Values of the network that differ from the published size, as in `networks.create`.

    Returns
    -------
    Assembled
        Its sum covers both files.

    Raises
    ------
    WeightsError
        If the files are damaged, do not belong together, or do not fit the network.
    """
    card = card or tuned.read_card(path)
    base_card = _card(card.base)
    _check_base(store.check_sum(base, base_card).sha256, base, card, base_card)
    tensors = tuned.read_tensors(path, card)
    sha256 = hashlib.sha256(f"{card.sum} {card.base_sha256}".encode()).hexdigest()
    if card.model == "samed":
        network = _samed(card, tensors, base, path, config or {})
        return Assembled(network, sha256, options={"classes": card.classes, **_seen(card)})
    parts = assemble(base_card, base, config=config)
    if card.model == "click":
        from napari_sammed.models.click import shipped_head

        return Assembled(parts.network, sha256, parts.notes, {"head": _whole(shipped_head(), tensors, path)})
    add_updates(parts.network, shapes_of(tensors))
    _lay_over(parts.network, tensors, path)
    return Assembled(as_plain(parts.network), sha256, parts.notes)


def samed_network(card_or_base: str, name: str, config: Mapping[str, Any]) -> nn.Module:
    """The network of SAMed or SAMed_s for one of the three sizes of SAM; without values, see `fitting.build`.

    Parameters
    ----------
    card_or_base : str
        Registry name of the SAM whose weights go into it.
    name : str
        ``samed`` or ``samed_s``.
    config : mapping
        ``num_classes``, ``rank``.
    """
    published, _ = networks.BUILDERS[card_or_base]
    return build(name, {**{key: published[key] for key in _ENCODER_SIZE}, **config})


def samed_from_sam(base: str, name: str, path: Path, config: Mapping[str, Any]) -> nn.Module:
    """A SAMed network that has not learnt anything: SAM's weights, and new ones where SAM has none.

    Parameters
    ----------
    base, name, config
        As for `samed_network`.
    path : Path
        Of SAM's weights.
    """
    published, _ = networks.BUILDERS[base]
    network = networks.create(name, {**{key: published[key] for key in _ENCODER_SIZE}, **config})
    file = open_checkpoint(path)
    _check_sam(file, network, _card(base))
    network.load_state_dict(from_sam_file(file.read(), network.state_dict()).tensors, strict=False)
    return network


def check_fit(card: TunedCard, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a file whose tensors have no place in the network, without the weights that it adds to."""
    with torch.device("meta"):
        if card.model == "samed":
            network = samed_network(card.base, card.network_name, card.config)
        elif card.model == "click":
            from napari_sammed.networks.click_head import ClickHead

            network = ClickHead()
        else:
            network = networks.create(card.network_name, card.config)
            add_updates(network, shapes_of(tensors))
    _check_places(network, tensors, path)


def add_updates(network: nn.Module, names: fingerprint.Shapes) -> None:
    """Give a network the low-rank updates that tensors of these names and shapes are for, where it has none."""
    for name, shape in names.items():
        end = next((end for end in _UPDATES if name.endswith(end)), None)
        if end is None:
            continue
        place = name.removesuffix(end)
        parent, _, attribute = place.rpartition(".")
        try:
            layer = network.get_submodule(place)
        except AttributeError:
            continue  # told by `_check_places`
        if isinstance(layer, nn.Linear):
            setattr(network.get_submodule(parent), attribute, _UPDATES[end](layer, shape[0]))


def _samed(
    card: TunedCard, tensors: Mapping[str, Tensor], base: Path, path: Path, config: Mapping[str, Any]
) -> nn.Module:
    network = samed_network(card.base, card.network_name, {**card.config, **config})
    wanted = network.state_dict()
    _check_places(network, tensors, path)
    _check_sam(open_checkpoint(base), network, _card(card.base))
    state = {**from_sam_file(open_checkpoint(base).read(), wanted).tensors, **tensors}
    difference = fingerprint.difference(shapes_of(state), shapes_of(wanted))
    if difference is not None:
        raise WeightsError(f"{path} and {base} do not make a whole {card.title}: {difference}")
    fill(network, state)
    return network


def _seen(card: TunedCard) -> dict[str, Any]:
    """How SAMed saw images in training, where that was not as published."""
    options: dict[str, Any] = {}
    if card.settings.get("window") == "percentiles":
        options["window"] = Window.preset("percentiles")
    size = card.settings.get("sampled_size")
    if isinstance(size, int) and 16 <= size <= 2048:
        options["sampled_size"] = size
    return options


def _check_sam(file: Checkpoint, network: nn.Module, card: ModelCard) -> None:
    try:
        if fingerprint.PATCH not in file.shapes:
            raise ValueError("it has no encoder of SAM")
        from_sam_file(stand_ins(file.shapes), network.state_dict())
    except ValueError as error:
        raise WeightsError(f"{file.path} is no file of {card.title}: {error}") from error


def _whole(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    missing = sorted(set(network.state_dict()) - set(tensors))
    if missing:
        raise WeightsError(f"{path} lacks {missing[0]} and {len(missing) - 1} other tensors")
    _lay_over(network, tensors, path)
    return network


def _lay_over(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    _check_places(network, tensors, path)
    own = network.state_dict()
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()}, strict=False)


def _check_places(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    own = shapes_of(network.state_dict())
    for name, shape in shapes_of(tensors).items():
        if own.get(name) != shape:
            there = f"which there has the shape {own[name]}" if name in own else "which that does not have"
            raise WeightsError(f"{path} does not fit its network: {name} of the shape {shape}, {there}")


def _check_base(sha256: str, path: Path, card: TunedCard, base: ModelCard) -> None:
    if sha256 == card.base_sha256:
        return
    published = base.weights is not None and base.weights.sha256 == card.base_sha256
    which = f"the published file of {base.title}" if published else f"the file of {base.title}"
    raise WeightsError(
        f"{card.title} adds to {which} with the sha256 {card.base_sha256}, but {path} has {sha256}: name the right "
        "one with --weights FILE"
    )


def _card(name: str) -> ModelCard:
    return next(card for card in CARDS if card.name == name)
