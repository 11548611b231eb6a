"""Faster forms of loaded networks for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from napari_sammed.networks.fast_image_encoder import FastImageEncoder
from napari_sammed.networks.fast_image_encoder_3d import FastImageEncoder3d
from napari_sammed.networks.fast_mask_decoder import FastMaskDecoder
from napari_sammed.networks.fast_segvol import FastSegVolImageEncoder, FastSegVolMaskDecoder
from napari_sammed.networks.fast_tiny_vit import FastTinyViT, folded
from napari_sammed.networks.image_encoder import ImageEncoder
from napari_sammed.networks.image_encoder_3d import ImageEncoder3d
from napari_sammed.networks.lora import without_lora
from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.segvol import SegVolMaskDecoder, SegVolNetwork
from napari_sammed.networks.segvol_encoder import SegVolImageEncoder
from napari_sammed.networks.tiny_vit import ConvNorm, TinyViT


def optimized(network: PromptableNetwork, dtype: torch.dtype = torch.float32) -> PromptableNetwork:
    """Form of a loaded network that gives the same numbers faster, for inference only.

    Parameters
    ----------
    network
        With its weights loaded and on the device where it will run; it is not changed. To use another device,
        move ``network`` and call this again: the forms differ between devices.
    dtype
        In which the image encoder (not LiteMedSAM's) multiplies matrices, see `fastest_dtype`; with a shorter one than
        float32 the numbers are only nearly the same. Everything else, and the embedding, stays float32.

    Returns
    -------
    PromptableNetwork
        Parts are called as before. Its state dict is not that of the checkpoint. Parts without a faster form,
        and the prompt encoder, are those of ``network`` itself, with which it also shares unchanged weights.
    """
    encoder = network.image_encoder
    device = next(encoder.parameters()).device
    if isinstance(encoder, TinyViT):
        encoder = without_lora(encoder)
        encoder = FastTinyViT(encoder) if device.type == "cpu" else _folded_copy(encoder)
    elif isinstance(encoder, ImageEncoder):
        encoder = FastImageEncoder(encoder, dtype)
    elif isinstance(encoder, ImageEncoder3d):
        encoder = FastImageEncoder3d(encoder, dtype)
    elif isinstance(encoder, SegVolImageEncoder):
        encoder = FastSegVolImageEncoder(encoder, dtype)
    decoder = network.mask_decoder
    if isinstance(decoder, SegVolMaskDecoder):
        decoder = FastSegVolMaskDecoder(decoder)
    elif isinstance(decoder, MaskDecoder):
        decoder = FastMaskDecoder(without_lora(decoder))
    if isinstance(network, SegVolNetwork):
        return SegVolNetwork(encoder, network.prompt_encoder, decoder, network.text_encoder).eval()
    return PromptableNetwork(encoder, network.prompt_encoder, decoder).eval()


def fastest_dtype(device: torch.device | str) -> torch.dtype:
    """The type in which a device multiplies matrices fastest without harm to masks.

    float16 on CUDA devices with matrix units for it (compute capability 7 and later), bfloat16 on CPUs with such units
    (AMX), else float32. CPUs without them compute bfloat16 correctly, but slower than float32.

    Measured on the inputs of the golden files (random weights), the embedding is off by at most 0.8e-3 of its norm in
    float16 and 6.2e-3 in bfloat16.
    """
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 7:
        return torch.float16
    if device.type == "cpu" and _has_amx():
        return torch.bfloat16
    return torch.float32


def _has_amx() -> bool:
    # get_capabilities is younger than the oldest PyTorch that we support.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def _folded_copy(encoder: TinyViT) -> nn.Module:
    """Copy with each batch norm folded into its convolution, channels-last, for GPUs."""
    encoder = copy.deepcopy(encoder)
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, _folded_conv(child))
    return encoder.requires_grad_(False).to(memory_format=torch.channels_last)


def _folded_conv(conv: ConvNorm) -> nn.Conv2d:
    """The convolution with bias that equals a convolution with batch norm."""
    plain = copy.deepcopy(conv.c)
    weight, bias = folded(conv)
    plain.weight, plain.bias = nn.Parameter(weight), nn.Parameter(bias)
    return plain
