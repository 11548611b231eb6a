"""Faster forms of loaded networks for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from napari_sammed.networks.fast_mask_decoder import FastMaskDecoder
from napari_sammed.networks.fast_tiny_vit import FastTinyViT, folded
from napari_sammed.networks.lora import without_lora
from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.tiny_vit import ConvNorm, TinyViT


def optimized(network: PromptableNetwork) -> PromptableNetwork:
    """Form of a loaded network that gives the same numbers faster, for inference only.

    Parameters
    ----------
    network
        With its weights loaded and on the device where it will run; it is not changed. To use another device,
        move ``network`` and call this again: the forms differ between devices.

    Returns
    -------
    PromptableNetwork
        Parts are called as before. Its state dict is not that of the checkpoint. Parts without a faster form,
        and the prompt encoder, are those of ``network`` itself.
    """
    encoder = network.image_encoder
    if isinstance(encoder, TinyViT):
        on_cpu = next(encoder.parameters()).device.type == "cpu"
        encoder = FastTinyViT(encoder) if on_cpu else _folded_copy(encoder)
    decoder = network.mask_decoder
    if isinstance(decoder, MaskDecoder):
        decoder = FastMaskDecoder(without_lora(decoder))
    return PromptableNetwork(encoder, network.prompt_encoder, decoder).eval()


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
