"""Whether the tensors of a file fit a network, and putting them in; used by `napari_sammed.models.assembly`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_sammed import networks
from napari_sammed.errors import WeightsError
from napari_sammed.models import fingerprint
from napari_sammed.models.cards import CARDS

if TYPE_CHECKING:
    from napari_sammed.models.base import ModelCard

_RANDOM = frozenset({"kaiming_uniform_", "kaiming_normal_", "trunc_normal_", "xavier_uniform_", "uniform_", "normal_"})


@dataclass(frozen=True)
class Plan:
    """A network still without values, and how to read its state dict.

    Parameters
    ----------
    network : nn.Module
    read : callable
        Gives a state dict that fits the network.
    notes : tuple of str
        What was done to the weights to make them fit, for the user.
    options : dict
        Further arguments for the model's class.
    base : tuple of Path and ModelCard, or None
        A second weight file, and whose it is.
    """

    network: nn.Module
    read: Callable[[], Mapping[str, Tensor]]
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    base: tuple[Path, ModelCard] | None = None


class _NoRandomWeights(TorchFunctionMode):
    """Leaves new weights as they come from the allocator: untouched memory costs neither time nor room."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _RANDOM:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build(name: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """A network whose weights are still to come; see `networks.create`."""
    with _NoRandomWeights():
        return networks.create(name, config)


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Let a network take over the tensors of a state dict that fits it, in the network's own precision."""
    own = network.state_dict()
    network.load_state_dict({key: state[key].to(own[key].dtype) for key in own}, strict=True, assign=True)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {key: tuple(value.shape) for key, value in tensors.items()}


def stand_ins(shapes: fingerprint.Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes without values, to try out what would be done to them."""
    return {key: torch.empty(tuple(shape), device="meta") for key, shape in shapes.items()}


def check_fit(found: fingerprint.Shapes, expected: fingerprint.Shapes, path: Path, card: ModelCard) -> None:
    """Refuse tensors that do not fit, and say what they are instead."""
    difference = fingerprint.difference(found, expected)
    if difference is not None:
        refuse(found, difference, path, card)


def refuse(found: fingerprint.Shapes, reason: str, path: Path, card: ModelCard) -> NoReturn:
    """Say that a file does not fit a model: by the name of what it is, where that is another system."""
    identity = fingerprint.identify(found)
    if identity is None or card.name in identity.models:
        raise WeightsError(f"the weights {path} do not fit {card.title}: {reason}")
    raise WeightsError(f"{path} is {identity.system}, not {card.title}: {what_to_do(identity)}")


def what_to_do(identity: fingerprint.Identity) -> str:
    """Which model to use a file with, in words."""
    here = {card.name for card in CARDS}
    known = [name for name in identity.models if name in here]
    if known:
        return f"use --model {' or '.join(known)}"
    return f"no model here can use it{'; ' + identity.remark.rstrip('.') if identity.remark else ''}"
