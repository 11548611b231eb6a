"""Low-rank updates (LoRA) of linear layers, as SAMed attaches them to SAM.

Only queries and values are updated, with a product of two thin matrices that is added without a factor
(Zhang and Liu, Customized Segment Anything Model for Medical Image Segmentation, 2023; Hu et al., LoRA, 2021).
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.image_encoder import ImageEncoder
from napari_sammed.networks.tiny_vit import TinyViT, WindowAttention
from napari_sammed.networks.transformer import TwoWayTransformer


class LowRankUpdate(nn.Module, ABC):
    """What the layers below share: a base layer, and its weight with the update added."""

    def __init__(self) -> None:
        super().__init__()
        # Not part of the state dict, which always holds base and update apart.
        self.register_buffer("merged", None, persistent=False)

    @property
    @abstractmethod
    def base(self) -> nn.Linear:
        """The layer that is updated."""

    @abstractmethod
    def update(self) -> Tensor:
        """What is added to the weight of `base`, of its shape."""

    @abstractmethod
    def add_update(self, y: Tensor, x: Tensor) -> Tensor:
        """The output y of `base` for input x, with the update's part; out of place."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        if self.merged is not None:
            return F.linear(x, self.merged, self.base.bias)
        return self.add_update(self.base(x), x)

    def as_linear(self) -> nn.Linear:
        """A plain layer with the update in its weight."""
        base = self.base
        linear = nn.Linear(base.in_features, base.out_features, device="meta")  # no memory: replaced at once
        linear.weight = nn.Parameter((base.weight + self.update()).detach())
        linear.bias = base.bias
        return linear


class LoraQKV(LowRankUpdate):
    """Fused projection to queries, keys and values with updates of queries and values.

    Parameters
    ----------
    qkv
        The base layer, C to 3·C.
    rank
        Inner width of the updates.
    """

    def __init__(self, qkv: nn.Linear, rank: int) -> None:
        super().__init__()
        self.qkv = qkv
        self.linear_a_q, self.linear_b_q = thin_pair(qkv.in_features, rank, qkv.in_features)
        self.linear_a_v, self.linear_b_v = thin_pair(qkv.in_features, rank, qkv.in_features)

    @property
    def base(self) -> nn.Linear:
        return self.qkv

    def update(self) -> Tensor:
        q = self.linear_b_q.weight @ self.linear_a_q.weight
        v = self.linear_b_v.weight @ self.linear_a_v.weight
        return torch.cat([q, torch.zeros_like(q), v])

    def add_update(self, y: Tensor, x: Tensor) -> Tensor:
        q, k, v = y.chunk(3, dim=-1)
        return torch.cat([q + self.linear_b_q(self.linear_a_q(x)), k, v + self.linear_b_v(self.linear_a_v(x))], dim=-1)


class LoraLinear(LowRankUpdate):
    """Linear layer with an update of its whole output."""

    def __init__(self, proj: nn.Linear, rank: int) -> None:
        super().__init__()
        self.proj = proj
        self.w_a, self.w_b = thin_pair(proj.in_features, rank, proj.out_features)

    @property
    def base(self) -> nn.Linear:
        return self.proj

    def update(self) -> Tensor:
        return self.w_b.weight @ self.w_a.weight

    def add_update(self, y: Tensor, x: Tensor) -> Tensor:
        return y + self.w_b(self.w_a(x))


def thin_pair(in_features: int, rank: int, out_features: int) -> tuple[nn.Linear, nn.Linear]:
    """New layers A (to the rank) and B (from it); B is zero, so that the update begins as nothing."""
    a = nn.Linear(in_features, rank, bias=False)
    b = nn.Linear(rank, out_features, bias=False)
    nn.init.kaiming_uniform_(a.weight, a=math.sqrt(5))
    nn.init.zeros_(b.weight)
    return a, b


def add_encoder_lora(encoder: ImageEncoder, rank: int) -> None:
    """Attach updates of queries and values to every block of an image encoder (SAMed)."""
    for block in encoder.blocks:
        block.attn.qkv = LoraQKV(block.attn.qkv, rank)


def add_updates(encoder: ImageEncoder | TinyViT, rank: int) -> None:
    """Attach new updates to the attention of an image encoder that has none.

    Of SAM's encoder queries and values get them, as in SAMed. TinyViT's queries, keys and values of one head lie
    together in one layer, which gets one update of all of them.
    """
    if not isinstance(encoder, TinyViT):
        return add_encoder_lora(encoder, rank)
    for module in list(encoder.modules()):
        if isinstance(module, WindowAttention):
            module.qkv = LoraLinear(module.qkv, rank)


def names_of_updates(module: nn.Module) -> set[str]:
    """Names of the parameters that belong to updates inside ``module``, and not to what is updated."""
    return {
        f"{place}.{name}"
        for place, layer in module.named_modules()
        if isinstance(layer, LowRankUpdate)
        for name, parameter in layer.named_parameters()
        if all(parameter is not other for other in layer.base.parameters())
    }


def add_decoder_lora(transformer: TwoWayTransformer, rank: int) -> None:
    """Attach updates of queries and values to every attention of a mask decoder's transformer (SAMed_s)."""
    attentions = chain.from_iterable(
        (layer.self_attn, layer.cross_attn_token_to_image, layer.cross_attn_image_to_token)
        for layer in transformer.layers
    )
    for attention in (*attentions, transformer.final_attn_token_to_image):
        attention.q_proj = LoraLinear(attention.q_proj, rank)
        attention.v_proj = LoraLinear(attention.v_proj, rank)


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Let every updated layer inside ``module`` compute with one merged weight, for inference.

    Base and update stay as they are: the state dict is that of before, and `unmerge_lora` restores everything exactly.
    Merge again after a change of weights.
    """
    for layer in _updated_layers(module):
        layer.merged = layer.base.weight + layer.update()


def unmerge_lora(module: nn.Module) -> None:
    """Let every updated layer inside ``module`` compute base and update apart again, as training needs it."""
    for layer in _updated_layers(module):
        layer.merged = None


def without_lora(module: nn.Module) -> nn.Module:
    """``module`` with every update merged into a plain layer, for inference; itself if it has none.

    A copy that shares no weights with ``module``; its state-dict keys are those of the module without updates.
    """
    if not _updated_layers(module):
        return module
    return as_plain(copy.deepcopy(module))


def as_plain(module: nn.Module) -> nn.Module:
    """``module`` itself, in which every update is now merged into a plain layer."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRankUpdate):
                setattr(parent, name, child.as_linear())
    return module


def _updated_layers(module: nn.Module) -> list[LowRankUpdate]:
    return [layer for layer in module.modules() if isinstance(layer, LowRankUpdate)]
