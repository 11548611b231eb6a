"""SegVol's image encoder: a plain vision transformer for volumes (MONAI's ``ViT`` without a classification head).

Sources: Du et al., SegVol (2023), section 3; ``monai/networks/nets/vit.py`` of MONAI 0.9, whose parameter names are
kept. It is written here because later versions of MONAI have other names, and because MONAI is no base dependency.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.layers import check_image, patches


class Patches(nn.Module):
    """The voxels of each patch in a row, patches in row-major order."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, *input size) to (B, tokens, voxels of a patch)."""
        return patches(image, self.size).flatten(1, -2)


class PatchEmbedding(nn.Module):
    """Each patch becomes a token, to which its learned position is added."""

    def __init__(self, patch_size: Sequence[int], tokens: int, embed_dim: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        self.patch_embeddings = nn.Sequential(Patches(patch_size), nn.Linear(prod(patch_size), embed_dim))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, *input size) to (B, tokens, C)."""
        return self.patch_embeddings(image) + self.position_embeddings


class SelfAttention(nn.Module):
    """Multi-head self attention whose joint projection has no bias."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.out_proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, embed_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return self.linear2(F.gelu(self.linear1(x)))


class Block(nn.Module):
    """Attention, then an MLP; norms before both."""

    def __init__(self, embed_dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.mlp = MLP(embed_dim, mlp_dim)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attn = SelfAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SegVolImageEncoder(nn.Module):
    """The image encoder of SegVol.

    Parameters
    ----------
    input_size, patch_size
        Voxels of the input and of a patch, (z, y, x).
    embed_dim, depth, num_heads, mlp_dim
        Width, number of blocks, heads, and width of the MLPs.
    """

    def __init__(
        self,
        *,
        input_size: Sequence[int] = (32, 256, 256),
        patch_size: Sequence[int] = (4, 16, 16),
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
    ) -> None:
        super().__init__()
        if any(n % p for n, p in zip(input_size, patch_size, strict=True)):
            raise ValueError(f"input size {tuple(input_size)} is not a multiple of the patch {tuple(patch_size)}")
        if embed_dim % num_heads:
            raise ValueError(f"width {embed_dim} is not a multiple of {num_heads} heads")
        self.input_size = tuple(input_size)
        self.grid_size = tuple(n // p for n, p in zip(input_size, patch_size, strict=True))
        self.patch_embedding = PatchEmbedding(patch_size, prod(self.grid_size), embed_dim)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed preprocessed windows: (B, 1, *input_size) to (B, C, *grid_size).

        The official module returns the tokens (B, N, C), which its caller brings into this shape.
        """
        check_image(image, (1, *self.input_size))
        x = self.patch_embedding(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).unflatten(2, self.grid_size)
