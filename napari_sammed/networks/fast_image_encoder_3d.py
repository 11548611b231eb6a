"""SAM-Med3D's image encoder for inference: the same numbers as `ImageEncoder3d` with less memory and memory traffic.

The work itself is already that of the real tokens only (`attention_3d`). Here attention is one kernel that holds no
logits, its terms are written once, wide activations exist for a strip of tokens at a time, and matrix products may be
in half precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.attention_3d import attention_inputs
from napari_sammed.networks.fast_block import FastBlock, Linear
from napari_sammed.networks.fast_layers import strips
from napari_sammed.networks.image_encoder_3d import EncoderBlock3d, ImageEncoder3d, RelativeAttention3d
from napari_sammed.networks.layers import check_image, patches

CUBES = 4  # that are encoded together: more fill no processor better, but cost memory


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
        bias = q.new_empty(len(q), q.shape[1], k.shape[1])
        terms.write(bias)
        q, k, v, bias = (part.unflatten(0, (len(x), -1)) for part in (q, k, v, bias))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


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
        return torch.cat([self._embed(image[part]) for part in strips(len(image), CUBES)])

    def _embed(self, image: Tensor) -> Tensor:
        voxels = patches(image, self.patch_size)
        x = F.linear(voxels, self.patch_weight, self.patch_bias).add_(self.pos_embed)
        pointwise, *others = self.neck
        x = F.linear(self.blocks(x), pointwise.weight.flatten(1)).permute(0, 4, 1, 2, 3)
        for layer in others:
            x = layer(x.contiguous())  # the convolution is slower on channels-last maps
        return x


def _fast_block(plain: EncoderBlock3d, dtype: torch.dtype) -> FastBlock:
    attention = FastAttention3d(plain.attn, dtype)
    return FastBlock(plain.norm1, attention, plain.norm2, plain.mlp.lin1, plain.mlp.lin2, dtype)
