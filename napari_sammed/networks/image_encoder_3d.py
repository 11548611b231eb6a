"""SAM-Med3D's image encoder: SAM's vision transformer for cubes.

Sources: Wang et al., SAM-Med3D (2023), section 3; ``segment_anything/modeling/image_encoder3D.py`` of the official
code.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.attention_3d import attention_inputs
from napari_sammed.networks.image_encoder import EPS, by_distance
from napari_sammed.networks.layers import LayerNormNd, check_image
from napari_sammed.networks.transformer import MLPBlock


class PatchEmbed3d(nn.Module):
    """Each patch of the cube becomes a token."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, side, side, side) to (B, G, G, G, C)."""
        return self.proj(image).permute(0, 2, 3, 4, 1)


class RelativeAttention3d(nn.Module):
    """Self attention of a cubic map with the published network's terms for distances, see `attention_3d`.

    Parameters
    ----------
    embed_dim, num_heads
        Width and heads; heads are consecutive blocks of channels.
    size
        Tokens along each axis that are attended over, padding included. The tables hold 2·size - 1 distances.
    """

    def __init__(self, embed_dim: int, num_heads: int, size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.rel_pos_d = nn.Parameter(torch.zeros(2 * size - 1, embed_dim // num_heads))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, embed_dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, embed_dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, G, G, G, C), G at most ``size`` (the rest is padding), to the same shape."""
        q, k, v, terms = attention_inputs(self.qkv(x), self.qkv.bias, self.num_heads, self.tables())
        out = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=terms.bias()[None])[0]
        out = out.unflatten(0, (len(x), self.num_heads)).transpose(1, 2)
        return self.proj(out.reshape(x.shape))

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """The tables by positions of query and key, (size, size, c) each."""
        return by_distance(self.rel_pos_d), by_distance(self.rel_pos_h), by_distance(self.rel_pos_w)


class EncoderBlock3d(nn.Module):
    """Attention, then an MLP; norms before both.

    Parameters
    ----------
    embed_dim, num_heads, mlp_dim
        Widths and heads.
    size
        See `RelativeAttention3d`.
    """

    def __init__(self, embed_dim: int, num_heads: int, mlp_dim: int, size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=EPS)
        self.attn = RelativeAttention3d(embed_dim, num_heads, size)
        self.norm2 = nn.LayerNorm(embed_dim, eps=EPS)
        self.mlp = MLPBlock(embed_dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, G, G, G, C) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ImageEncoder3d(nn.Module):
    """The image encoder of SAM-Med3D (``ImageEncoderViT3D``).

    Parameters
    ----------
    image_size
        Voxels along each axis of the input, a cube.
    patch_size
        Voxels along each axis of a patch; the map has ``image_size // patch_size`` tokens along each axis.
    embed_dim, depth, num_heads, mlp_ratio
        Width, number of blocks, heads, and width of the MLPs as a multiple of ``embed_dim``.
    global_attn_indexes
        Blocks (0-based) that attend over the map without padding.
    window_size
        Tokens along each axis of the window to which the other blocks pad the map.
    out_channels
        Channels of the embedding.

    Raises
    ------
    ValueError
        Sizes that do not divide, or a window smaller than the map: no published network cuts its map into windows.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        global_attn_indexes: Collection[int] = (2, 5, 8, 11),
        window_size: int = 14,
        out_channels: int = 384,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}")
        if embed_dim % num_heads:
            raise ValueError(f"width {embed_dim} is not a multiple of {num_heads} heads")
        self.image_size = image_size
        self.grid_size = image_size // patch_size
        if window_size < self.grid_size:
            raise ValueError(f"a window of {window_size} tokens is smaller than the map of {self.grid_size}")
        self.patch_embed = PatchEmbed3d(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, *[self.grid_size] * 3, embed_dim))
        self.blocks = nn.ModuleList(
            EncoderBlock3d(
                embed_dim,
                num_heads,
                int(embed_dim * mlp_ratio),
                self.grid_size if i in global_attn_indexes else window_size,
            )
            for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(embed_dim, out_channels, kernel_size=1, bias=False),
            LayerNormNd(out_channels),
            nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            LayerNormNd(out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed preprocessed cubes: (B, 1, side, side, side) to (B, out_channels, G, G, G)."""
        check_image(image, (1, *[self.image_size] * 3))
        x = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 4, 1, 2, 3))
