"""Torch modules only: no files, no images, no prompts beyond tensors.

`create` builds a network by its registry name, `optimized` makes the faster form for inference of a loaded
one. Its parts (`image_encoder`, `prompt_encoder`, `mask_decoder`) are called by keyword as in the official
codes, and its state-dict keys are those of the official checkpoints.
"""

from __future__ import annotations

from napari_sammed.networks.adapter import add_adapters, remove_adapters
from napari_sammed.networks.builders import BUILDERS, create
from napari_sammed.networks.image_encoder import ImageEncoder
from napari_sammed.networks.image_encoder_3d import ImageEncoder3d
from napari_sammed.networks.inference import fastest_dtype, optimized
from napari_sammed.networks.lora import merge_lora, unmerge_lora
from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.prompt_encoder import PromptEncoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.segvol import SegVolNetwork
from napari_sammed.networks.segvol_encoder import SegVolImageEncoder
from napari_sammed.networks.tiny_vit import TinyViT
from napari_sammed.networks.transformer import TwoWayTransformer

__all__ = [
    "BUILDERS",
    "ImageEncoder",
    "ImageEncoder3d",
    "MaskDecoder",
    "PromptEncoder",
    "PromptableNetwork",
    "SegVolImageEncoder",
    "SegVolNetwork",
    "TinyViT",
    "TwoWayTransformer",
    "add_adapters",
    "create",
    "fastest_dtype",
    "merge_lora",
    "optimized",
    "remove_adapters",
    "unmerge_lora",
]
