"""Networks by registry name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from torch import nn

from napari_sammed.networks.adapter import add_adapters
from napari_sammed.networks.image_encoder import ImageEncoder
from napari_sammed.networks.image_encoder_3d import ImageEncoder3d
from napari_sammed.networks.lora import add_decoder_lora, add_encoder_lora
from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.prompt_encoder import PromptEncoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.segvol import SegVolMaskDecoder, SegVolNetwork, SegVolPromptEncoder, TextProjection
from napari_sammed.networks.segvol_encoder import SegVolImageEncoder
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

SAM_VIT_B: dict[str, Any] = {
    "image_size": 1024,
    "patch_size": 16,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4,
    "global_attn_indexes": (2, 5, 8, 11),
    "window_size": 14,
    **PROMPTS_AND_DECODER,
}
VIT_L = {"embed_dim": 1024, "depth": 24, "num_heads": 16, "global_attn_indexes": (5, 11, 17, 23)}
VIT_H = {"embed_dim": 1280, "depth": 32, "num_heads": 16, "global_attn_indexes": (7, 15, 23, 31)}

SAM_MED2D: dict[str, Any] = {**SAM_VIT_B, "image_size": 256, "adapter": True, "adapter_ratio": 0.25}

SAMED: dict[str, Any] = {
    **SAM_VIT_B,
    "image_size": 512,
    "num_classes": 8,
    "rank": 4,
    # Of the files and of preprocessing; the network itself does not depend on them.
    "base_image_size": 1024,
    "pixel_mean": (0, 0, 0),
    "pixel_std": (1, 1, 1),
}

SAM_MED3D: dict[str, Any] = {
    "img_size": 128,
    "patch_size": 16,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4,
    "global_attn_indexes": (2, 5, 8, 11),
    "window_size": 14,
    **PROMPTS_AND_DECODER,
    "prompt_embed_dim": 384,
    "num_multimask_outputs": 3,
}

SEGVOL: dict[str, Any] = {
    "spatial_size": (32, 256, 256),
    "patch_size": (4, 16, 16),
    "hidden_size": 768,
    "mlp_dim": 3072,
    "num_layers": 12,
    "num_heads": 12,
    "decoder_depth": 2,
    "decoder_num_heads": 8,
    "decoder_mlp_dim": 2048,
    "iou_head_depth": 3,
    "iou_head_hidden_dim": 256,
    "mask_in_chans": 16,
    "num_multimask_outputs": 3,
    "text": "none",
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


def build_sam(config: Mapping[str, Any]) -> PromptableNetwork:
    """SAM and MedSAM."""
    image_size = config["image_size"]
    encoder = ImageEncoder(
        image_size=image_size,
        patch_size=config["patch_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        global_attn_indexes=config["global_attn_indexes"],
        window_size=config["window_size"],
        out_channels=config["prompt_embed_dim"],
    )
    grid = encoder.grid_size
    return PromptableNetwork(
        encoder,
        build_prompt_encoder(config, (grid, grid), (image_size, image_size)),
        build_mask_decoder(config, dims=2),
    )


def build_sam_med2d(config: Mapping[str, Any]) -> PromptableNetwork:
    """SAM-Med2D: SAM for small images, with adapters in the image encoder (``adapter`` False: without)."""
    network = build_sam(config)
    if config["adapter"]:
        add_adapters(network.image_encoder, config["adapter_ratio"])
    return network


def build_samed(config: Mapping[str, Any]) -> PromptableNetwork:
    """SAMed: one mask token for the background and each class, LoRA in the image encoder."""
    network = build_sam(config)
    add_encoder_lora(network.image_encoder, config["rank"])
    return network


def build_samed_s(config: Mapping[str, Any]) -> PromptableNetwork:
    """SAMed_s: SAMed with LoRA in the mask decoder's transformer as well."""
    network = build_samed(config)
    add_decoder_lora(network.mask_decoder.transformer, config["rank"])
    return network


def build_sam_med3d(config: Mapping[str, Any]) -> PromptableNetwork:
    """SAM-Med3D: SAM in three dimensions, prompted with points and masks."""
    size, width = config["img_size"], config["prompt_embed_dim"]
    encoder = ImageEncoder3d(
        image_size=size,
        patch_size=config["patch_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        global_attn_indexes=config["global_attn_indexes"],
        window_size=config["window_size"],
        out_channels=width,
    )
    prompt_encoder = PromptEncoder(
        width,
        (encoder.grid_size,) * 3,
        (size,) * 3,
        config["mask_in_chans"],
        point_kinds=2,
        frequencies=width // 3,
    )
    return PromptableNetwork(encoder, prompt_encoder, build_mask_decoder(config, dims=3))


def build_segvol(config: Mapping[str, Any]) -> SegVolNetwork:
    """SegVol without CLIP's text tower.

    ``text`` is what a checkpoint has of the text branch: with ``"dim_align"`` the network has that projection, with
    ``"none"`` or ``"clip"`` (the published files) it takes text vectors, if any, as they come out of it.
    """
    if config["text"] not in ("none", "dim_align", "clip"):
        raise ValueError(f"text must be none, dim_align or clip, not {config['text']!r}")
    width = config["hidden_size"]
    encoder = SegVolImageEncoder(
        input_size=config["spatial_size"],
        patch_size=config["patch_size"],
        embed_dim=width,
        depth=config["num_layers"],
        num_heads=config["num_heads"],
        mlp_dim=config["mlp_dim"],
    )
    prompt_encoder = SegVolPromptEncoder(width, encoder.grid_size, encoder.input_size, config["mask_in_chans"])
    mask_decoder = SegVolMaskDecoder(
        build_transformer(config, width),
        width,
        encoder.grid_size,
        num_multimask_outputs=config["num_multimask_outputs"],
        iou_head_depth=config["iou_head_depth"],
        iou_head_hidden_dim=config["iou_head_hidden_dim"],
    )
    text_encoder = TextProjection() if config["text"] == "dim_align" else None
    return SegVolNetwork(encoder, prompt_encoder, mask_decoder, text_encoder)


def build_prompt_encoder(
    config: Mapping[str, Any], embedding_size: tuple[int, ...], input_size: tuple[int, ...]
) -> PromptEncoder:
    """SAM's prompt encoder for a grid and an input of the given sizes (array order)."""
    return PromptEncoder(config["prompt_embed_dim"], embedding_size, input_size, config["mask_in_chans"])


def build_mask_decoder(config: Mapping[str, Any], dims: int) -> MaskDecoder:
    """SAM's mask decoder with its two-way transformer; with ``num_classes`` in ``config``, SAMed's."""
    width = config["prompt_embed_dim"]
    return MaskDecoder(
        build_transformer(config, width),
        width,
        dims=dims,
        num_multimask_outputs=config.get("num_classes", config.get("num_multimask_outputs", 3)),
        always_all="num_classes" in config,
        iou_head_depth=config["iou_head_depth"],
        iou_head_hidden_dim=config["iou_head_hidden_dim"],
    )


def build_transformer(config: Mapping[str, Any], width: int) -> TwoWayTransformer:
    """The two-way transformer of a mask decoder."""
    return TwoWayTransformer(config["decoder_depth"], width, config["decoder_num_heads"], config["decoder_mlp_dim"])


BUILDERS: dict[str, tuple[Mapping[str, Any], Callable[[Mapping[str, Any]], nn.Module]]] = {
    "litemedsam": (LITEMEDSAM, build_litemedsam),
    "click": (LITEMEDSAM, build_litemedsam),
    "medsam": (SAM_VIT_B, build_sam),
    "sam-med2d": (SAM_MED2D, build_sam_med2d),
    "sam-med3d": (SAM_MED3D, build_sam_med3d),
    "sam-vit-b": (SAM_VIT_B, build_sam),
    "sam-vit-h": ({**SAM_VIT_B, **VIT_H}, build_sam),
    "sam-vit-l": ({**SAM_VIT_B, **VIT_L}, build_sam),
    "samed": (SAMED, build_samed),
    "samed_h": ({**SAMED, **VIT_H}, build_samed),
    "samed_s": (SAMED, build_samed_s),
    "segvol": (SEGVOL, build_segvol),
}
