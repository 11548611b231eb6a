"""Every networked model at a tiny size, filled by the rule of the golden files: meaningless but fixed masks."""

from __future__ import annotations

from typing import Any

import torch

from napari_sammed import networks
from napari_sammed.models.base import PromptableModel
from napari_sammed.models.click import Click
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.medsam import MedSAM
from napari_sammed.models.sam import SAM
from napari_sammed.models.sam_med2d import SAMMed2D
from napari_sammed.models.sam_med3d import SAMMed3D
from napari_sammed.models.segvol import SegVol
from napari_sammed.networks.click_head import ClickHead
from tests.golden import fill

_DECODER = {
    "prompt_embed_dim": 32,
    "decoder_mlp_dim": 64,
    "decoder_num_heads": 4,
    "iou_head_hidden_dim": 32,
}
_VIT = {
    "image_size": 128,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 3,
    "global_attn_indexes": (1,),
    "window_size": 3,
    **_DECODER,
}
_VIT_3D = {  # 32 samples a side; a window is wider than the grid of patches, as in the published network
    "img_size": 32,
    "patch_size": 16,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "global_attn_indexes": (1,),
    "window_size": 3,
    **_DECODER,
    "prompt_embed_dim": 24,
}
_WINDOW_VIT = {
    "spatial_size": (8, 32, 48),
    "patch_size": (4, 16, 16),
    "hidden_size": 32,
    "mlp_dim": 64,
    "num_layers": 2,
    "num_heads": 2,
    **{key: value for key, value in _DECODER.items() if key != "prompt_embed_dim"},
}
_TINY_VIT = {"embed_dims": (16, 32, 32, 48), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 3), **_DECODER}


def _click(network: networks.PromptableNetwork, weights_hash: str) -> Click:
    torch.manual_seed(0)
    return Click(network, weights_hash, head=ClickHead(embed_dim=32, widths=(8, 8, 16, 16)))


_CLASSES = {"sam-vit-b": SAM, "medsam": MedSAM, "sam-med2d": SAMMed2D, "litemedsam": LiteMedSAM, "click": _click}
TINY = tuple(_CLASSES)
_VOLUMETRIC_CLASSES = {"sam-med3d": SAMMed3D, "segvol": SegVol}
VOLUMETRIC = tuple(_VOLUMETRIC_CLASSES)
"""Those that look at volumes only."""


def tiny_config(name: str) -> dict[str, Any]:
    """Constructor values of the tiny network."""
    return dict(
        {"sam-med3d": _VIT_3D, "segvol": _WINDOW_VIT, "litemedsam": _TINY_VIT, "click": _TINY_VIT}.get(name, _VIT)
    )


def tiny_model(name: str, weights_hash: str = "tiny") -> PromptableModel:
    """A promptable model of `TINY` or `VOLUMETRIC`."""
    return (_CLASSES | _VOLUMETRIC_CLASSES)[name](fill(networks.create(name, tiny_config(name))), weights_hash)
