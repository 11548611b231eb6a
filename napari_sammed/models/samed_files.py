"""The two files of SAMed: a SAM file, and a LoRA file that adds to its encoder and replaces prompt encoder and decoder.

Rank, number of classes, size of the encoder and the variant (SAMed, SAMed_s, SAMed_h) are read from the shapes in the
LoRA file, so that nobody has to name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_sammed import networks
from napari_sammed.errors import WeightsError
from napari_sammed.models import fingerprint
from napari_sammed.models.checkpoints import Checkpoint, open_checkpoint
from napari_sammed.models.class_names import class_names
from napari_sammed.models.fitting import Plan, build, refuse, shapes_of, stand_ins
from napari_sammed.networks.official_files import from_lora_file, from_sam_file

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sammed.models.base import ModelCard

FindBase: TypeAlias = "Callable[[str, Path], tuple[Path, ModelCard]]"
"""Finds the file that a LoRA file adds to, by the registry name of its model; gives its card as well."""

_ENCODER_SIZE = ("embed_dim", "depth", "num_heads", "global_attn_indexes")


def plan_samed(card: ModelCard, lora: Checkpoint, find_base: FindBase, config: Mapping[str, Any]) -> Plan:
    """SAMed, SAMed_s or SAMed_h from a LoRA file; its base is found by `find_base`."""
    _check_lora(lora, card)
    classes = fingerprint.class_count(lora.shapes)
    names = class_names(lora.path, classes)
    base_name = fingerprint.lora_base(lora.shapes) or card.base
    published, _ = networks.BUILDERS[base_name]
    network = build(
        "samed_s" if fingerprint.is_samed_s(lora.shapes) else "samed",
        {
            **{key: published[key] for key in _ENCODER_SIZE},
            "num_classes": classes,
            "rank": fingerprint.lora_rank(lora.shapes),
            **config,
        },
    )
    base_path, base_card = find_base(base_name, lora.path)
    base = open_checkpoint(base_path)
    wanted = network.state_dict()
    _check_base(base, wanted, lora, base_card)
    fitted = from_sam_file(stand_ins(base.shapes), wanted).tensors | from_lora_file(stand_ins(lora.shapes))
    difference = fingerprint.difference(shapes_of(fitted), shapes_of(wanted))
    if difference is not None:
        raise WeightsError(f"{lora.path} and {base.path} do not make a whole {card.title}: {difference}")
    return Plan(
        network,
        lambda: from_sam_file(base.read(), wanted).tensors | from_lora_file(lora.read()),
        options={"classes": names},
        base=(base_path, base_card),
    )


def _check_base(base: Checkpoint, wanted: Mapping[str, Tensor], lora: Checkpoint, base_card: ModelCard) -> None:
    """Refuse a file that a LoRA file does not add to: another system, or another size of SAM."""
    identity = fingerprint.identify(base.shapes)
    try:
        if fingerprint.PATCH not in base.shapes:
            raise ValueError("it has no encoder of SAM")
        from_sam_file(stand_ins(base.shapes), wanted)
    except ValueError as error:
        what = identity.system if identity is not None else "of no system known here"
        raise WeightsError(
            f"{base.path} is {what}, but {lora.path.name} adds to {base_card.title}: put {base_card.name}'s own file "
            f"in its place ({error})"
        ) from error


def _check_lora(lora: Checkpoint, card: ModelCard) -> None:
    """Refuse what is no LoRA file, or only a part of one."""
    shapes, path = lora.shapes, lora.path
    a, b = ({key[4:] for key in shapes if key.startswith(half)} for half in ("w_a_", "w_b_"))
    if not a and not b:
        identity = fingerprint.identify(shapes)
        if identity is not None and any(name.startswith("sam-vit-") for name in identity.models):
            raise WeightsError(
                f"{path} is {identity.system}, the base of {card.title} without its LoRA file: name the LoRA file with "
                "--weights as well, or put this one beside it"
            )
        shown = ", ".join(list(shapes)[:3])
        refuse(shapes, f"it has no LoRA matrices w_a_000, w_b_000, ... but {shown}, ...", path, card)
    if a != b:
        lost = "w_b" if a - b else "w_a"
        count = len(a - b) or len(b - a)
        raise WeightsError(
            f"{path} is only a part of a LoRA file: {count} of its {len(a | b)} matrices {lost}_000, {lost}_001, ... "
            "are missing; get the whole file"
        )
    if fingerprint.MASK_TOKENS not in shapes:
        raise WeightsError(
            f"{path} is only a part of a LoRA file: the mask decoder, which {card.title} replaces, is missing; get the "
            "whole file"
        )
    _check_rank(shapes, sorted(a), path)
    _check_classes(shapes, path)


def _check_rank(shapes: fingerprint.Shapes, numbers: list[str], path: Path) -> None:
    rank = fingerprint.lora_rank(shapes)
    for number in numbers:
        for key, axis in ((f"w_a_{number}", 0), (f"w_b_{number}", 1)):
            shape = shapes[key]
            if len(shape) != 2 or shape[axis] != rank or rank == 0:
                raise WeightsError(
                    f"{path} does not fit together: {key} has the shape {tuple(shape)} in a LoRA file of rank {rank}"
                )


def _check_classes(shapes: fingerprint.Shapes, path: Path) -> None:
    """The three places that depend on the number of classes must agree."""
    tokens = fingerprint.class_count(shapes) + 1
    heads = len({key.split(".")[2] for key in shapes if key.startswith("mask_decoder.output_hypernetworks_mlps.")})
    scores = next((shape[0] for key, shape in shapes.items() if key.endswith("iou_prediction_head.layers.2.bias")), 0)
    if not tokens == heads == scores:
        raise WeightsError(
            f"{path} does not fit together: it has mask tokens for {tokens - 1} classes and the background, but "
            f"{heads} mask heads and {scores} scores instead of {tokens} each"
        )
