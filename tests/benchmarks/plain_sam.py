"""The yardstick: SAM's encoder and its variants in plain eager form, as the published codes of the family are written.

The whole matrix of logits with position terms added to it, padded windows, LoRA beside the projections, adapters as
convolutions, residuals out of place. It runs on the weights of `napari_sammed.networks.create`. The mask decoder is
that of `plain_litemedsam`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.adapter import Adapter
from napari_sammed.networks.image_encoder import EncoderBlock, ImageEncoder, RelativeAttention
from tests.benchmarks.plain_litemedsam import PlainMaskDecoder, channel_norm


class PlainImageEncoder(nn.Module):
    """The image encoder."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, side, side) to (B, C, h, w)."""
        x = self.encoder.patch_embed.proj(x).permute(0, 2, 3, 1)
        x = x + self.encoder.pos_embed
        for block in self.encoder.blocks:
            x = encode(block, x)
        x = x.permute(0, 3, 1, 2)
        for layer in self.encoder.neck:
            x = layer(x) if isinstance(layer, nn.Conv2d) else channel_norm(layer, x)
        return x


def encode(block: EncoderBlock, x: Tensor) -> Tensor:
    """One block on (B, H, W, C)."""
    shortcut = x
    x = block.norm1(x)
    if block.window:
        _, height, width, _ = x.shape
        windows, padded = cut(x, block.window)
        x = join(attend(block.attn, windows), block.window, padded)[:, :height, :width].contiguous()
    else:
        x = attend(block.attn, x)
    x = shortcut + x
    normed = block.norm2(x)
    mlp = block.mlp.lin2(block.mlp.act(block.mlp.lin1(normed)))
    return x + mlp if block.Adapter is None else x + mlp + adapt(block.Adapter, normed)


def cut(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Padded windows (windows, window, window, C) and the padded size."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.view(batch, rows, window, columns, window, channels).permute(0, 1, 3, 2, 4, 5)
    return x.contiguous().view(-1, window, window, channels), (rows * window, columns * window)


def join(windows: Tensor, window: int, padded: tuple[int, int]) -> Tensor:
    """The inverse of `cut`."""
    rows, columns = padded[0] // window, padded[1] // window
    x = windows.view(-1, rows, columns, window, window, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return x.contiguous().view(-1, *padded, windows.shape[-1])


def attend(attention: RelativeAttention, x: Tensor) -> Tensor:
    """Attention with relative positions, written out."""
    batch, height, width, channels = x.shape
    heads = attention.num_heads
    qkv = attention.qkv(x).reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, batch * heads, height * width, -1).unbind(0)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    rows, columns = gathered(attention.rel_pos_h, height), gathered(attention.rel_pos_w, width)
    along = q.reshape(batch * heads, height, width, -1)
    row_terms = torch.einsum("bhwc,hkc->bhwk", along, rows)
    column_terms = torch.einsum("bhwc,wkc->bhwk", along, columns)
    logits = logits.view(-1, height, width, height, width) + row_terms[..., :, None] + column_terms[..., None, :]
    weights = logits.view(batch * heads, height * width, height * width).softmax(dim=-1)
    out = (weights @ v).view(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4)
    return attention.proj(out.reshape(batch, height, width, channels))


def gathered(table: Tensor, size: int) -> Tensor:
    """Terms of every pair of positions, (size, size, d)."""
    distances = torch.arange(size)[:, None] - torch.arange(size)[None, :] + (size - 1)
    return table[distances.long()]


def adapt(adapter: Adapter, x: Tensor) -> Tensor:
    """SAM-Med2D's adapter, channels first inside."""
    x = x.permute(0, 3, 1, 2)
    gate = adapter.channel(F.adaptive_avg_pool2d(x, 1).flatten(1))
    branch = adapter.spatial(x * gate[:, :, None, None])
    return adapter.norm((x + branch).permute(0, 2, 3, 1))


def plain(network: PromptableNetwork) -> PromptableNetwork:
    """The plain eager form of a loaded network of the SAM family, except LiteMedSAM."""
    return PromptableNetwork(
        PlainImageEncoder(network.image_encoder), network.prompt_encoder, PlainMaskDecoder(network.mask_decoder)
    ).eval()
