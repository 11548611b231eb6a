"""TinyViT image encoder of LiteMedSAM.

TinyViT (Wu et al., ECCV 2022) as configured by the LiteMedSAM branch of the MedSAM repository
(``tiny_vit_sam.py``): pointwise patch embedding at full resolution, one stage of inverted-bottleneck
convolutions, three stages of window attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.layers import LayerNormNd


class ConvNorm(nn.Module):
    """Convolution without bias, then batch norm; no activation."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.bn(self.c(x))


class PatchEmbed(nn.Module):
    """Two pointwise convolutions at full resolution (other TinyViTs have strided 3 x 3 ones)."""

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(channels, embed_dim // 2), nn.GELU(), ConvNorm(embed_dim // 2, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, embed_dim, H, W)."""
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck: widen, 3 x 3 depthwise, narrow, residual; GELU also *after* the residual."""

    def __init__(self, channels: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = channels * expand_ratio
        self.conv1 = ConvNorm(channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        inner = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(inner))


class PatchMerging(nn.Module):
    """Change of width and, with stride 2, of resolution between two stages."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, out_channels)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel=3, stride=stride, groups=out_channels)
        self.conv3 = ConvNorm(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention within a window, with a learned bias per absolute offset of rows and columns.

    Parameters
    ----------
    channels
        Width of the tokens.
    num_heads
        Heads; ``qkv`` holds q, k and v of the first head, then those of the second, and so on.
    window
        Side w of the square window.
    """

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("bias_index", _absolute_offsets(window), persistent=False)

    def bias(self) -> Tensor:
        """Bias of the attention logits, (heads, w², w²)."""
        return self.attention_biases[:, self.bias_index]

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows (B, w², C)."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias())
        return self.proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Layer norm, widen, GELU, narrow."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class AttentionBlock(nn.Module):
    """Window attention, 3 x 3 depthwise convolution (which replaces its input), feed-forward."""

    def __init__(self, channels: int, num_heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(channels, num_heads, window)
        self.local_conv = ConvNorm(channels, channels, kernel=3, groups=channels)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = x + self._attend(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.mlp(x)
        return x.permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """Attention in the windows of a map (B, H, W, C).

        Padding comes before the attention's layer norm and is not masked: padding tokens are keys and values.
        """
        height, width = x.shape[1:3]
        w = self.window
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        windows = x.unflatten(1, (rows, w)).unflatten(3, (columns, w)).transpose(2, 3)
        attended = self.attn(windows.reshape(-1, w * w, x.shape[-1])).reshape(windows.shape)
        return attended.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one resolution, then the merging that leads to the next (none after the last stage)."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if downsample is not None:
            self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the next stage's shape."""
        for block in self.blocks:
            x = block(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class TinyViT(nn.Module):
    """Image encoder of LiteMedSAM.

    Parameters
    ----------
    image_size
        Side of the square input in pixels.
    embed_dims, depths, num_heads, window_sizes
        Width, number of blocks, heads and window side of each stage; the first stage is convolutional and has
        no use for the last two.
    strides
        Of the mergings between the stages.
    mlp_ratio, expand_ratio
        Widening in the feed-forward parts and in the convolutional stage.
    out_channels
        Width of the image embedding.
    """

    def __init__(
        self,
        image_size: int = 256,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        strides: Sequence[int] = (2, 2, 1),
        mlp_ratio: float = 4.0,
        expand_ratio: int = 4,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_embed = PatchEmbed(3, embed_dims[0])
        mergings = [PatchMerging(a, b, s) for (a, b), s in zip(pairwise(embed_dims), strides, strict=True)]
        first = Stage([MBConv(embed_dims[0], expand_ratio) for _ in range(depths[0])], mergings[0])
        others = [
            Stage([AttentionBlock(width, heads, window, mlp_ratio) for _ in range(depth)], merging)
            for width, depth, heads, window, merging in zip(
                embed_dims[1:],
                depths[1:],
                num_heads[1:],
                window_sizes[1:],
                [*mergings[1:], None],
                strict=True,
            )
        ]
        self.layers = nn.ModuleList([first, *others])
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dims[-1], out_channels, 1, bias=False),
            LayerNormNd(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNormNd(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed preprocessed images.

        Parameters
        ----------
        x
            (B, 3, image_size, image_size), values in [0, 1].

        Returns
        -------
        Tensor
            (B, out_channels, h, w) with h = w = image_size divided by all strides (64 for 256).
        """
        if x.shape[1:] != (3, self.image_size, self.image_size):
            side = self.image_size
            raise ValueError(f"input of shape (B, 3, {side}, {side}) needed, got {tuple(x.shape)}")
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)


def _absolute_offsets(window: int) -> Tensor:
    """Index |r1 - r2| · w + |c1 - c2| into the bias table for each pair of window positions, (w², w²)."""
    position = torch.arange(window)
    offset = (position[:, None] - position[None, :]).abs()
    index = offset[:, None, :, None] * window + offset[None, :, None, :]
    return index.reshape(window * window, window * window)
