"""SAM-Med3D's image encoder for inference: the same numbers as `ImageEncoder3d` with less memory and memory traffic.

The work itself is already that of the real tokens only (`attention_3d`). Here the logits of a few heads are written,
normalised and used without leaving the cache, wide activations exist for a strip of tokens at a time, and matrix
products may be in half precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.attention_3d import PositionTerms, attention_inputs
from napari_sammed.networks.fast_attention import LOGITS
from napari_sammed.networks.fast_block import FastBlock, Linear
from napari_sammed.networks.fast_layers import strips
from napari_sammed.networks.image_encoder_3d import EncoderBlock3d, ImageEncoder3d, RelativeAttention3d
from napari_sammed.networks.layers import check_image, patches


class FastAttention3d(nn.Module):
    """See `RelativeAttention3d`.

    Parameters
    ----------
    plain
        The loaded attention.
    dtype
        Of the matrix products.
    """

    def __init__(self, plain: RelativeAttention3d, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_heads = plain.num_heads
        self.qkv, self.proj = Linear(plain.qkv, dtype), Linear(plain.proj, dtype)
        self.register_buffer("tables", torch.stack(plain.tables()).detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, G, G, G, C) to the same shape."""
        q, k, v, terms = attention_inputs(self.qkv(x), self.qkv.bias, self.num_heads, self.tables.unbind())
        in_parts = q.device.type == "cpu" and q.dtype == torch.float32
        out = (_attend_in_parts if in_parts else _attend_fused)(q, k, v, terms)
        out = out.unflatten(0, (len(x), self.num_heads)).transpose(1, 2)
        return self.proj(out.reshape(x.shape))


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, terms: PositionTerms) -> Tensor:
    """Attention of some heads at a time; see `napari_sammed.networks.fast_attention.attend_in_parts`."""
    heads, queries, dim = q.shape
    keys = k.shape[1]
    q, k = q * dim**-0.5, k.transpose(1, 2)
    together = max(1, LOGITS // (queries * keys))
    buffer = q.new_empty(min(together, heads), queries, keys)
    out = torch.empty_like(q)
    for part in strips(heads, together):
        logits = buffer[: part.stop - part.start]
        terms.write(part, logits)
        logits.baddbmm_(q[part], k[part])
        out[part] = torch.softmax(logits, -1, out=logits) @ v[part]
    return out


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, terms: PositionTerms) -> Tensor:
    """Attention in one kernel."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=terms.bias()[None])[0]


class FastImageEncoder3d(nn.Module):
    """`ImageEncoder3d` for inference, made from a loaded one.

    Parameters
    ----------
    plain
        Its weights are shared where they are used as they are.
    dtype
        Of the matrix products: float32, or float16 or bfloat16 where the device computes faster in them.
    """

    def __init__(self, plain: ImageEncoder3d, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.image_size, self.grid_size = plain.image_size, plain.grid_size
        patch = plain.patch_embed.proj
        self.patch_size = patch.kernel_size
        self.register_buffer("patch_weight", patch.weight.detach().flatten(1))
        self.register_buffer("patch_bias", patch.bias.detach())
        self.register_buffer("pos_embed", plain.pos_embed.detach())
        self.blocks = nn.Sequential(*(_fast_block(block, dtype) for block in plain.blocks))
        self.neck = plain.neck

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Embed preprocessed cubes; see `ImageEncoder3d.forward`. The result is float32."""
        check_image(image, (1, *[self.image_size] * 3))
        voxels = patches(image, self.patch_size)
        x = F.linear(voxels, self.patch_weight, self.patch_bias).add_(self.pos_embed)
        pointwise, *others = self.neck
        x = F.linear(self.blocks(x), pointwise.weight.flatten(1)).permute(0, 4, 1, 2, 3)
        for layer in others:
            x = layer(x)
        return x


def _fast_block(plain: EncoderBlock3d, dtype: torch.dtype) -> FastBlock:
    attention = FastAttention3d(plain.attn, dtype)
    return FastBlock(plain.norm1, attention, plain.norm2, plain.mlp.lin1, plain.mlp.lin2, dtype)
