"""From weight files to a loaded network: which network the files are for, what they lack, and their values in it.

Everything that can be told from names and shapes is told before a value is read, and every value is read before the
network gets one, so a file that does not fit leaves nothing half done. The network is built without random weights and
takes over the tensors as they are read, so that the weights are in memory once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.errors import WeightsError
from napari_sammed.models import fingerprint, tuned
from napari_sammed.models import weights as store
from napari_sammed.models.checkpoints import Checkpoint, open_checkpoint
from napari_sammed.models.fitting import Plan, build, check_fit, fill, shapes_of, stand_ins
from napari_sammed.models.identify import published_as
from napari_sammed.models.samed_files import FindBase, plan_samed
from napari_sammed.models.sources import weight_file
from napari_sammed.networks.official_files import HEADS, from_sam_file, from_segvol_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_sammed.models.base import ModelCard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assembled:
    """A loaded network and what its user should know of it.

    Parameters
    ----------
    network : nn.Module
    sha256 : str
        Of the weight file; of the sums of both files where there are two.
    notes : tuple of str
        Sentences on what was done to the weights to make them fit.
    options : dict
        Further arguments for the model's class.
    """

    network: nn.Module
    sha256: str
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def assemble(
    card: ModelCard, path: Path, find_base: FindBase | None = None, config: Mapping[str, Any] | None = None
) -> Assembled:
    """Build a model's network and fill it from a weight file.

    Parameters
    ----------
    card : ModelCard
    path : Path
        From `napari_sammed.models.weights.obtain`.
    find_base : callable, optional
        For weights that add to those of another model; without, `store.obtain_base` looks for them.
    config : mapping, optional
        Constructor values that differ from the published size, as in `networks.create`.

    Raises
    ------
    WeightsError
        If a file is damaged, is not a file of tensors, belongs to another model, or lacks something. Says what the
        file is and which model to use it with.
    """
    if tuned.is_tuned(path):
        raise WeightsError(
            f"{path} is a tuned model, of {tuned.read_card(path).base}: take it in with `napari-sammed models add "
            f"{path.name}`, then choose it by its name"
        )
    checked = store.check_sum(path, card) if store.is_promised(path, card) else None
    plan = _plan(card, open_checkpoint(path), find_base or store.obtain_base, config or {})
    checked = checked or store.check_sum(path, card)
    _check_published(checked, card)
    sha256 = checked.sha256
    if plan.base is not None:
        sha256 = hashlib.sha256(f"{sha256} {store.check_sum(*plan.base).sha256}".encode()).hexdigest()
    fill(plan.network, plan.read())
    _tell(checked, card)
    return Assembled(plan.network, sha256, plan.notes, plan.options)


def _plan(card: ModelCard, file: Checkpoint, find_base: FindBase, config: Mapping[str, Any]) -> Plan:
    if card.name == "samed":
        return plan_samed(card, file, find_base, config)
    if card.name == "sam-med2d":
        return _plan_sam_med2d(card, file, config)
    network = build(card.name, config)
    if card.name == "segvol":
        return _plan_segvol(card, file, network)
    check_fit(file.shapes, shapes_of(network.state_dict()), file.path, card)
    return Plan(network, file.read)


def _check_published(checked: store.Verified, card: ModelCard) -> None:
    """Refuse the published file of another model of the same names and shapes (SAM ViT-B and MedSAM)."""
    other = published_as(checked.sha256)
    if other is not None and other.weights != card.weights and other.input_size == card.input_size:
        raise WeightsError(
            f"{checked.path} is the published file of {other.title}, not {card.title}: use --model {other.name}"
        )


def _tell(checked: store.Verified, card: ModelCard) -> None:
    """Say when nobody vouches for the weights."""
    if not weight_file(card).sha256:
        logger.info(
            "The makers of %s publish no sum of its weights; %s has the sha256 %s",
            card.title,
            checked.path,
            checked.sha256,
        )
    elif not checked.official:
        logger.info(
            "%s is an own file, not the published weights of %s; its sha256 is %s",
            checked.path,
            card.title,
            checked.sha256,
        )


# ---- SAM-Med2D


def _plan_sam_med2d(card: ModelCard, file: Checkpoint, config: Mapping[str, Any]) -> Plan:
    """With or without adapters, as the file has them; plain SAM files are resized."""
    adapters = fingerprint.has_adapters(file.shapes)
    network = build(card.name, {**config, "adapter": adapters})
    expected = shapes_of(network.state_dict())
    if not adapters and _is_plain_sam(file, network):
        return Plan(network, lambda: _from_sam(file.read(), network), (_resized_note(file, expected),))
    check_fit(file.shapes, expected, file.path, card)
    return Plan(network, file.read, () if adapters else (f"{file.path.name} is SAM-Med2D without adapters.",))


def _is_plain_sam(file: Checkpoint, network: nn.Module) -> bool:
    """Whether this is a whole SAM file of the same encoder for another input size."""
    wanted = network.state_dict()
    if file.shapes.keys() != wanted.keys():
        return False
    try:
        return bool(from_sam_file(stand_ins(file.shapes), wanted).resized)
    except ValueError:
        return False


def _from_sam(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """A SAM file's tensors for a network of another input size.

    The official loader also leaves out the mask tokens and heads, whose shapes fit, since it goes on to train them;
    they are taken here, because random ones would make meaningless masks.
    """
    heads = {key: value for key, value in tensors.items() if any(part in key for part in HEADS)}
    return heads | from_sam_file(tensors, network.state_dict()).tensors


def _resized_note(file: Checkpoint, expected: fingerprint.Shapes) -> str:
    side = fingerprint.image_size(expected)
    return (
        f"{file.path.name} is plain SAM, not SAM-Med2D: its position tables were resized to {side} pixels as the "
        "official loader does; it has no adapters and has not learnt from medical images."
    )


# ---- SegVol


def _plan_segvol(card: ModelCard, file: Checkpoint, network: nn.Module) -> Plan:
    """The text branch is left in the file: the network is used without texts."""
    expected = shapes_of(network.state_dict())
    kept = from_segvol_file(file.shapes, expected)
    check_fit(kept, expected, file.path, card)
    return Plan(network, lambda: file.read(kept))
