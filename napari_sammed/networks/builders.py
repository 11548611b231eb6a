"""Networks by registry name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from torch import nn

from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.prompt_encoder import PromptEncoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.tiny_vit import TinyViT
from napari_sammed.networks.transformer import TwoWayTransformer

PROMPTS_AND_DECODER: dict[str, Any] = {
    "prompt_embed_dim": 256,
    "mask_in_chans": 16,
    "decoder_depth": 2,
    "decoder_mlp_dim": 2048,
    "decoder_num_heads": 8,
    "iou_head_depth": 3,
    "iou_head_hidden_dim": 256,
}

LITEMEDSAM: dict[str, Any] = {
    "image_size": 256,
    "embed_dims": (64, 128, 160, 320),
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 5, 10),
    "window_sizes": (7, 7, 14, 7),
    "strides": (2, 2, 1),
    "mlp_ratio": 4.0,
    "expand_ratio": 4,
    **PROMPTS_AND_DECODER,
}


def create(name: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the bare network of a model, with random weights.

    Parameters
    ----------
    name
        Registry name, one of `BUILDERS`.
    config
        Constructor values that differ from the published size; None is the published size.

    Raises
    ------
    ValueError
        Unknown name, or a constructor value that this network does not have.
    """
    if name not in BUILDERS:
        raise ValueError(f"there is no network named {name!r}; known are {', '.join(sorted(BUILDERS))}")
    published, build = BUILDERS[name]
    unknown = set(config or {}) - set(published)
    if unknown:
        raise ValueError(f"the network {name!r} has no constructor value {', '.join(sorted(unknown))}")
    return build({**published, **(config or {})})


def build_litemedsam(config: Mapping[str, Any]) -> PromptableNetwork:
    """LiteMedSAM: TinyViT with SAM's prompt encoder and mask decoder at a quarter of its size."""
    image_size = config["image_size"]
    encoder = TinyViT(
        image_size=image_size,
        embed_dims=config["embed_dims"],
        depths=config["depths"],
        num_heads=config["num_heads"],
        window_sizes=config["window_sizes"],
        strides=config["strides"],
        mlp_ratio=config["mlp_ratio"],
        expand_ratio=config["expand_ratio"],
        out_channels=config["prompt_embed_dim"],
    )
    grid = image_size // prod(config["strides"])
    return PromptableNetwork(
        encoder,
        build_prompt_encoder(config, (grid, grid), (image_size, image_size)),
        build_mask_decoder(config, dims=2),
    )


def build_prompt_encoder(
    config: Mapping[str, Any], embedding_size: tuple[int, ...], input_size: tuple[int, ...]
) -> PromptEncoder:
    """SAM's prompt encoder for a grid and an input of the given sizes (array order)."""
    return PromptEncoder(config["prompt_embed_dim"], embedding_size, input_size, config["mask_in_chans"])


def build_mask_decoder(config: Mapping[str, Any], dims: int) -> MaskDecoder:
    """SAM's mask decoder with its two-way transformer."""
    width = config["prompt_embed_dim"]
    transformer = TwoWayTransformer(
        config["decoder_depth"], width, config["decoder_num_heads"], config["decoder_mlp_dim"]
    )
    return MaskDecoder(
        transformer,
        width,
        dims=dims,
        iou_head_depth=config["iou_head_depth"],
        iou_head_hidden_dim=config["iou_head_hidden_dim"],
    )


BUILDERS: dict[str, tuple[Mapping[str, Any], Callable[[Mapping[str, Any]], nn.Module]]] = {
    "litemedsam": (LITEMEDSAM, build_litemedsam),
}
