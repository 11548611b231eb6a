"""SegVol for inference: the same numbers with fewer copies and no matrix of logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.fast_block import FastBlock, Linear
from napari_sammed.networks.fast_layers import normalise
from napari_sammed.networks.fast_mask_decoder import FastMaskDecoder
from napari_sammed.networks.layers import check_image
from napari_sammed.networks.segvol import SegVolMaskDecoder
from napari_sammed.networks.segvol_encoder import Block, SegVolImageEncoder, SelfAttention


class FastSelfAttention(nn.Module):
    """See `SelfAttention`.

    Parameters
    ----------
    plain
        The loaded attention.
    dtype
        Of the matrix products.
    """

    def __init__(self, plain: SelfAttention, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_heads = plain.num_heads
        self.qkv, self.out_proj = Linear(plain.qkv, dtype), Linear(plain.out_proj, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FastSegVolImageEncoder(nn.Module):
    """`SegVolImageEncoder` for inference, made from a loaded one.

    Parameters
    ----------
    plain
        Its weights are shared where they are used as they are.
    dtype
        Of the matrix products in the blocks.
    """

    def __init__(self, plain: SegVolImageEncoder, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.input_size, self.grid_size = plain.input_size, plain.grid_size
        self.patch_embedding, self.norm = plain.patch_embedding, plain.norm
        self.blocks = nn.Sequential(*(_fast_block(block, dtype) for block in plain.blocks))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Embed preprocessed windows; see `SegVolImageEncoder.forward`. The result is float32."""
        check_image(image, (1, *self.input_size))
        x = normalise(self.norm, self.blocks(self.patch_embedding(image)))
        return x.transpose(1, 2).unflatten(2, self.grid_size)


def _fast_block(plain: Block, dtype: torch.dtype) -> FastBlock:
    attention = FastSelfAttention(plain.attn, dtype)
    return FastBlock(plain.norm1, attention, plain.norm2, plain.mlp.linear1, plain.mlp.linear2, dtype)


class FastSegVolMaskDecoder(FastMaskDecoder):
    """`SegVolMaskDecoder` for inference, called in the same way.

    Parameters
    ----------
    plain
        The loaded decoder. The weights of its norm over channels and voxels are copied, all others used as they are.
    """

    def __init__(self, plain: SegVolMaskDecoder) -> None:
        super().__init__(plain)
        norm = plain.output_upscaling[1]
        self.register_buffer("norm_weight", _by_subpixel(norm.weight.detach()))
        self.register_buffer("norm_bias", _by_subpixel(norm.bias.detach()))

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        text_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode B sets of prompts; see `SegVolMaskDecoder.forward`."""
        return super().forward(
            image_embeddings,
            image_pe,
            sparse_prompt_embeddings,
            dense_prompt_embeddings,
            multimask_output,
            self.plain.text_weights(text_embedding),
        )

    def _normalise_subpixels(self, x: Tensor) -> Tensor:
        eps = self.plain.output_upscaling[1].eps
        return F.layer_norm(x, self.norm_weight.shape, self.norm_weight, self.norm_bias, eps)


def _by_subpixel(weight: Tensor) -> Tensor:
    """Values for (C, 2·d, 2·h, 2·w) as tokens have them while they are upscaled: (d·h·w, 8, C)."""
    for axis in (3, 2, 1):
        weight = weight.unflatten(axis, (-1, 2))
    return weight.permute(1, 3, 5, 2, 4, 6, 0).flatten(3, 5).flatten(0, 2).contiguous()
