"""Transformer blocks for inference, whatever their attention: less memory, and any precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.fast_layers import STRIP_VALUES, gelu_, normalise, strips
from napari_sammed.networks.lora import LowRankUpdate


class Linear(nn.Module):
    """Linear layer in any precision; shares the weights of ``plain`` if that has the same one."""

    def __init__(self, plain: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        linear = plain.as_linear() if isinstance(plain, LowRankUpdate) else plain
        self.register_buffer("weight", linear.weight.detach().to(dtype))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class FastBlock(nn.Module):
    """Attention, then an MLP, norms before both (`napari_sammed.networks.image_encoder.EncoderBlock`).

    Wide activations exist only for a strip of tokens at a time, and residuals are added in place. Norms and the sum of
    residuals stay in float32.

    Parameters
    ----------
    norm1, norm2
        The norms before attention and MLP.
    attention
        Fast form of the attention, (B, *grid, C) to the same shape.
    lin1, lin2
        The layers of the MLP, with GELU between them.
    adapter
        A second branch beside the MLP.
    dtype
        Of the MLP's matrix products.
    """

    def __init__(
        self,
        norm1: nn.LayerNorm,
        attention: nn.Module,
        norm2: nn.LayerNorm,
        lin1: nn.Linear,
        lin2: nn.Linear,
        dtype: torch.dtype,
        adapter: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = norm1, attention, norm2
        self.lin1, self.lin2 = Linear(lin1, dtype), Linear(lin2, dtype)
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        """Work on (B, *grid, C) in place."""
        x += self.attn(normalise(self.norm1, x))
        normed = normalise(self.norm2, x)
        adapted = None if self.adapter is None else self.adapter(normed)
        tokens, normed_tokens = x.flatten(0, -2), normed.flatten(0, -2)
        size = STRIP_VALUES // len(self.lin1.bias) if x.device.type == "cpu" else len(tokens)
        for part in strips(len(tokens), max(1, size)):
            tokens[part] += self.lin2(gelu_(self.lin1(normed_tokens[part])))
        return x if adapted is None else x.add_(adapted)
