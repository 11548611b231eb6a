"""SAM's image encoder: a plain vision transformer with windows and decomposed relative positions.

Sources: SAM paper, appendix A; Li et al., Exploring Plain Vision Transformer Backbones for Object Detection (2022),
section 3; ``segment_anything/modeling/image_encoder.py``.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.layers import LayerNormNd, check_image
from napari_sammed.networks.transformer import MLPBlock

EPS = 1e-6  # of the layer norms; PyTorch's default is 1e-5


class PatchEmbed(nn.Module):
    """Each patch of the image becomes a token."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, height, width) to (B, H, W, C)."""
        return self.proj(image).permute(0, 2, 3, 1)


class RelativeAttention(nn.Module):
    """Self attention of a map with learned terms for row and column distances.

    The logit of query q at (r, c) and key k at (i, j) is ``q·k / sqrt(d) + q·R_h[r - i] + q·R_w[c - j]``.

    Parameters
    ----------
    embed_dim, num_heads
        Width and heads; heads are consecutive blocks of channels.
    size
        Rows, and columns, of the map that is attended over: the window or the whole grid. The tables hold
        2·size - 1 distances.
    """

    def __init__(self, embed_dim: int, num_heads: int, size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, embed_dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, embed_dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, size, size, C) to the same shape."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = with_positions(q, k, by_distance(self.rel_pos_h), by_distance(self.rel_pos_w))
        # Fused kernels, which never hold all logits at once, want values as wide as keys.
        out = F.scaled_dot_product_attention(q, k, F.pad(v, (0, k.shape[-1] - v.shape[-1])), scale=1.0)
        out = out[..., : v.shape[-1]].transpose(1, 2)
        return self.proj(out.reshape(x.shape))


def by_distance(table: Tensor) -> Tensor:
    """Rows of a table of 2·n - 1 distances for every query and key position: (n, n, d)."""
    size = (len(table) + 1) // 2
    positions = torch.arange(size, device=table.device)
    return table[positions[:, None] - positions + size - 1]


def with_positions(q: Tensor, k: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Longer queries and keys whose plain product is the logit with relative positions, scale included.

    Queries get their term for every row and every column appended, keys a one for their own row and column, so
    that attention needs no matrix of position terms beside that of the logits.

    Parameters
    ----------
    q, k
        (..., H·W, d), not scaled.
    rows, columns
        From `by_distance`: (H, H, d) and (W, W, d).

    Returns
    -------
    q, k : Tensor
        (..., H·W, d + H + W); to be used with a scale of one.
    """
    height, width, dim = len(rows), len(columns), q.shape[-1]
    along = q.unflatten(-2, (height, width))
    row_terms = torch.einsum("...rcd,rid->...rci", along, rows).flatten(-3, -2)
    column_terms = torch.einsum("...rcd,cjd->...rcj", along, columns).flatten(-3, -2)
    own_row = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0)
    own_column = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    ones = torch.cat([own_row, own_column], dim=-1).expand(*k.shape[:-1], -1)
    return torch.cat([q * dim**-0.5, row_terms, column_terms], dim=-1), torch.cat([k, ones], dim=-1)


class EncoderBlock(nn.Module):
    """Attention, within windows or over the whole map, then an MLP; norms before both.

    Parameters
    ----------
    embed_dim, num_heads, mlp_dim
        Widths and heads.
    size
        Rows and columns of the whole map.
    window
        Rows and columns of a window; 0 attends over the whole map.

    Attributes
    ----------
    Adapter
        A second branch beside the MLP, see `napari_sammed.networks.adapter`; None without. Its name is that of the
        official checkpoints.
    """

    def __init__(self, embed_dim: int, num_heads: int, mlp_dim: int, size: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(embed_dim, eps=EPS)
        self.attn = RelativeAttention(embed_dim, num_heads, window or size)
        self.norm2 = nn.LayerNorm(embed_dim, eps=EPS)
        self.mlp = MLPBlock(embed_dim, mlp_dim)
        self.register_module("Adapter", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        normed = self.norm1(x)
        x = x + (self._attend_in_windows(normed) if self.window else self.attn(normed))
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x if self.Adapter is None else x + self.Adapter(normed)

    def _attend_in_windows(self, x: Tensor) -> Tensor:
        """Padding is added after the norm and takes part as zeros, whose keys and values are the biases."""
        _, height, width, channels = x.shape
        w = self.window
        padded = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        windows = padded.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3)
        attended = self.attn(windows.reshape(-1, w, w, channels)).view(windows.shape)
        return attended.transpose(2, 3).reshape(padded.shape)[:, :height, :width]


class ImageEncoder(nn.Module):
    """The image encoder of SAM, MedSAM, SAM-Med2D and SAMed (``ImageEncoderViT``).

    Parameters
    ----------
    image_size
        Rows and columns of the input.
    patch_size
        Rows and columns of a patch; the grid has ``image_size // patch_size`` rows.
    embed_dim, depth, num_heads, mlp_ratio
        Width, number of blocks, heads, and width of the MLPs as a multiple of ``embed_dim``.
    global_attn_indexes
        Blocks (0-based) that attend over the whole map instead of windows.
    window_size
        Rows and columns of a window.
    out_channels
        Channels of the embedding.
    """

    def __init__(
        self,
        *,
        image_size: int = 1024,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        global_attn_indexes: Collection[int] = (2, 5, 8, 11),
        window_size: int = 14,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}")
        if embed_dim % num_heads:
            raise ValueError(f"width {embed_dim} is not a multiple of {num_heads} heads")
        self.image_size = image_size
        self.grid_size = image_size // patch_size
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid_size, self.grid_size, embed_dim))
        self.blocks = nn.ModuleList(
            EncoderBlock(
                embed_dim,
                num_heads,
                int(embed_dim * mlp_ratio),
                self.grid_size,
                window=0 if i in global_attn_indexes else window_size,
            )
            for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_channels, kernel_size=1, bias=False),
            LayerNormNd(out_channels),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            LayerNormNd(out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed preprocessed images: (B, 3, image_size, image_size) to (B, out_channels, grid, grid)."""
        check_image(image, (3, self.image_size, self.image_size))
        x = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
