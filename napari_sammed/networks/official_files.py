"""How the tensors of official files become those of a live network, and back: names and sizes, tensors only.

A SAM file fits networks of other sizes after two tables of the image encoder are resized (`from_sam_file`). A LoRA
file of SAMed has names of its own (`from_lora_file`, `to_lora_file`), and its base layers lie one level deeper in the
live network than in a SAM file (`plain_key`). A SegVol file holds a text tower that the network leaves out
(`from_segvol_file`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

_Entry = TypeVar("_Entry")

POSITIONS = "image_encoder.pos_embed"
HEADS = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")
"""Parts of the mask decoder that the official resizing loaders leave out, even where their shapes fit."""

_DISTANCES = re.compile(r"image_encoder\.blocks\.\d+\.attn\.rel_pos_[hw]")
# Names of updates in a LoRA file are {prefix}_{a|b}_{number}, the number counting q and v of one layer after the other;
# those of the decoder's last attention are fati_{q|v}{a|b}. Prefix "w" is the encoder, these are the decoder:
_ATTENTIONS = {"sa": "self_attn", "cti": "cross_attn_token_to_image", "cit": "cross_attn_image_to_token"}
_FINAL = "final_attn_token_to_image"
_NUMBERED = re.compile(r"(w|sa|cti|cit)_([ab])_(\d{3})")
_OF_FINAL = re.compile(r"fati_([qv])([ab])")
_IN_ENCODER = re.compile(r"image_encoder\.blocks\.(\d+)\.attn\.qkv\.linear_([ab])_([qv])\.weight")
_IN_DECODER = re.compile(r"mask_decoder\.transformer\.(?:layers\.(\d+)\.)?(\w+)\.([qv])_proj\.w_([ab])\.weight")


@dataclass(frozen=True)
class FromSam:
    """What a SAM file gives to a network.

    Parameters
    ----------
    tensors : dict of str to Tensor
        By the network's keys, in the network's shapes.
    resized : tuple of str
        Keys of tables that were resized.
    missing : tuple of str
        Keys of the network that the file does not give.
    """

    tensors: dict[str, Tensor]
    resized: tuple[str, ...]
    missing: tuple[str, ...]


def plain_key(key: str) -> str:
    """Name in a plain SAM file of a live network's key; the key itself unless it lies in a layer with LoRA."""
    return re.sub(r"\.(qkv\.qkv|([qv]_proj)\.proj)\.", lambda m: f".{m[2] or 'qkv'}.", key)


def is_lora_key(key: str) -> bool:
    """Whether a live network's key belongs to a low-rank update."""
    return bool(_IN_ENCODER.fullmatch(key) or _IN_DECODER.fullmatch(key))


def from_sam_file(file: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> FromSam:
    """Fit the tensors of a plain SAM file to a SAM-Med2D or SAMed network, as their official loaders do.

    If every tensor that both have is of the same shape, all are taken. Else position tables are resized and `HEADS`
    are left out, as in ``load_from2`` of SAM-Med2D and ``load_from`` of SAMed.

    Parameters
    ----------
    file
        Unwrapped, by the names of a plain SAM file.
    wanted
        State dict of the live network; only keys and shapes count, so it may lie on the meta device.

    Raises
    ------
    ValueError
        A tensor that cannot be resized has another shape: the file is of another encoder size.
    """
    tensors, resized = {}, []
    shared = {key: plain_key(key) for key in wanted if plain_key(key) in file}
    same_shapes = all(file[name].shape == wanted[key].shape for key, name in shared.items())
    for key, name in shared.items():
        value, shape = file[name], wanted[key].shape
        if not same_shapes and any(part in name for part in HEADS):
            continue
        if value.shape != shape:
            value = _resized(name, value, shape)
            resized.append(key)
        tensors[key] = value
    missing = tuple(key for key in wanted if key not in tensors)
    return FromSam(tensors, tuple(resized), missing)


def _resized(name: str, value: Tensor, shape: Sequence[int]) -> Tensor:
    if name == POSITIONS and value.ndim == 4 and value.shape[-1] == shape[-1]:
        return resize_positions(value, shape[1:3])
    if _DISTANCES.fullmatch(name) and value.ndim == 2 and value.shape[1] == shape[1]:
        return resize_distances(value, shape[0])
    raise ValueError(f"{name} is of shape {tuple(value.shape)} in the file, but {tuple(shape)} in the network")


def resize_positions(table: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a ``pos_embed`` table (1, H, W, C) bilinearly to (1, *size, C)."""
    channels_first = table.permute(0, 3, 1, 2).float()
    resized = F.interpolate(channels_first, tuple(size), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(table.dtype)


def resize_distances(table: Tensor, length: int) -> Tensor:
    """Resize a ``rel_pos`` table (distances, d) linearly to (length, d)."""
    resized = F.interpolate(table.t()[None].float(), length, mode="linear", align_corners=False)
    return resized[0].t().to(table.dtype)


def from_lora_file(file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a SAMed or SAMed_s LoRA file to the live network's keys.

    Together with `from_sam_file` of the base they give every key of the network; where both have one, the LoRA file's
    counts.
    """
    return {live_key(name): value for name, value in file.items()}


def to_lora_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a LoRA file, under its names, from the state dict of a SAMed network.

    These are the updates, the prompt encoder and the mask decoder; of SAMed_s without the base of the decoder's
    transformer, which stays that of the SAM file.
    """
    updates = {file_name(key): value for key, value in state.items() if is_lora_key(key)}
    trained = ("prompt_encoder.", "mask_decoder.")
    rest = {key: value for key, value in state.items() if key.startswith(trained) and not is_lora_key(key)}
    if any(name.startswith("fati") for name in updates):
        rest = {key: value for key, value in rest.items() if not key.startswith("mask_decoder.transformer.")}
    return dict(sorted(updates.items())) | rest


def live_key(name: str) -> str:
    """Key in the live network of a name in a LoRA file."""
    if match := _NUMBERED.fullmatch(name):
        prefix, side, number = match.groups()
        layer, of = int(number) // 2, "qv"[int(number) % 2]
        if prefix == "w":
            return f"image_encoder.blocks.{layer}.attn.qkv.linear_{side}_{of}.weight"
        return f"mask_decoder.transformer.layers.{layer}.{_ATTENTIONS[prefix]}.{of}_proj.w_{side}.weight"
    if match := _OF_FINAL.fullmatch(name):
        of, side = match.groups()
        return f"mask_decoder.transformer.{_FINAL}.{of}_proj.w_{side}.weight"
    return name


def file_name(key: str) -> str:
    """Name in a LoRA file of a live network's key; the inverse of `live_key`."""
    if match := _IN_ENCODER.fullmatch(key):
        layer, side, of = match.groups()
        return f"w_{side}_{2 * int(layer) + 'qv'.index(of):03d}"
    if match := _IN_DECODER.fullmatch(key):
        layer, attention, of, side = match.groups()
        if attention == _FINAL:
            return f"fati_{of}{side}"
        prefix = next(short for short, name in _ATTENTIONS.items() if name == attention)
        return f"{prefix}_{side}_{2 * int(layer) + 'qv'.index(of):03d}"
    return key


def from_segvol_file(file: Mapping[str, _Entry], wanted: Collection[str]) -> dict[str, _Entry]:
    """The entries of a SegVol file, tensors or shapes, without the parts of its text branch that are not ``wanted``.

    ``wanted`` are the network's keys. Everything else is kept, so that strict loading finds what does not belong there.
    """
    return {key: value for key, value in file.items() if not key.startswith("text_encoder.") or key in wanted}
