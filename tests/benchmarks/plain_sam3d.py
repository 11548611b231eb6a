"""The yardstick: SAM-Med3D and SegVol in plain eager form, as the published codes are written.

SAM-Med3D pads its map to a whole window and attends over all its tokens; the matrix of logits is written out, position
terms are added to it, then it is normalised. SegVol writes the matrix of logits too. Residuals are out of place. It
runs on the weights of `napari_sammed.networks.create`. The mask decoder is that of `plain_litemedsam`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks import ImageEncoder3d, PromptableNetwork, SegVolImageEncoder
from napari_sammed.networks.image_encoder_3d import EncoderBlock3d, RelativeAttention3d
from napari_sammed.networks.segvol_encoder import SelfAttention
from tests.benchmarks.plain_litemedsam import PlainMaskDecoder, channel_norm
from tests.benchmarks.plain_sam import gathered


class PlainImageEncoder3d(nn.Module):
    """The image encoder of SAM-Med3D."""

    def __init__(self, encoder: ImageEncoder3d) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, side, side, side) to (B, C, d, h, w)."""
        x = self.encoder.patch_embed.proj(x).permute(0, 2, 3, 4, 1)
        x = x + self.encoder.pos_embed
        for block in self.encoder.blocks:
            x = encode(block, x)
        x = x.permute(0, 4, 1, 2, 3)
        for layer in self.encoder.neck:
            x = layer(x) if isinstance(layer, nn.Conv3d) else channel_norm(layer, x)
        return x


def encode(block: EncoderBlock3d, x: Tensor) -> Tensor:
    """One block on (B, D, H, W, C); the map is smaller than the window, which is thus one."""
    shortcut = x
    x = block.norm1(x)
    _, depth, height, width, _ = x.shape
    window = (len(block.attn.rel_pos_d) + 1) // 2
    x = F.pad(x, (0, 0, 0, window - width, 0, window - height, 0, window - depth))
    x = attend(block.attn, x)[:, :depth, :height, :width].contiguous()
    x = shortcut + x
    return x + block.mlp.lin2(block.mlp.act(block.mlp.lin1(block.norm2(x))))


def attend(attention: RelativeAttention3d, x: Tensor) -> Tensor:
    """Attention over all tokens with the published network's position terms, written out."""
    batch, *size, channels = x.shape
    heads, length = attention.num_heads, size[0] * size[1] * size[2]
    qkv = attention.qkv(x).reshape(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, batch * heads, length, -1).unbind(0)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    tables = (attention.rel_pos_d, attention.rel_pos_h, attention.rel_pos_w)
    for_d, for_h, for_w = (gathered(table, n) for table, n in zip(tables, size, strict=True))
    along = q.reshape(batch * heads, *size, -1)
    terms_d = torch.einsum("bdhwc,dkc->bdhwk", along, for_d)
    terms_h = torch.einsum("bdhwc,hkc->bdhwk", along, for_h)
    terms_w = torch.einsum("bdhwc,wkc->bdhwk", along, for_w)
    # The misplaced axes of the published code: every table runs along the last axis of the keys.
    logits = (
        logits.view(-1, *size, *size)
        + terms_d[:, :, :, :, None, None, :]
        + terms_h[:, :, :, None, :, None, :]
        + terms_w[:, :, :, None, None, :, :]
    )
    weights = logits.view(batch * heads, length, length).softmax(dim=-1)
    out = (weights @ v).view(batch, heads, *size, -1).permute(0, 2, 3, 4, 1, 5)
    return attention.proj(out.reshape(batch, *size, channels))


class PlainSegVolImageEncoder(nn.Module):
    """The image encoder of SegVol."""

    def __init__(self, encoder: SegVolImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, *input size) to (B, C, d, h, w)."""
        encoder = self.encoder
        x = encoder.patch_embedding(x)
        for block in encoder.blocks:
            x = x + attend_globally(block.attn, block.norm1(x))
            x = x + block.mlp.linear2(F.gelu(block.mlp.linear1(block.norm2(x))))
        return encoder.norm(x).transpose(1, 2).view(len(x), -1, *encoder.grid_size)


def attend_globally(attention: SelfAttention, x: Tensor) -> Tensor:
    """Attention of SegVol's tokens, written out."""
    batch, length, channels = x.shape
    q, k, v = attention.qkv(x).view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    weights = (torch.einsum("bhqc,bhkc->bhqk", q, k) * q.shape[-1] ** -0.5).softmax(dim=-1)
    out = torch.einsum("bhqk,bhkc->bhqc", weights, v).permute(0, 2, 1, 3)
    return attention.out_proj(out.reshape(batch, length, channels))


def plain(network: PromptableNetwork) -> PromptableNetwork:
    """The plain eager form of a loaded SAM-Med3D or SegVol."""
    encoder = network.image_encoder
    form = PlainImageEncoder3d if isinstance(encoder, ImageEncoder3d) else PlainSegVolImageEncoder
    return PromptableNetwork(form(encoder), network.prompt_encoder, PlainMaskDecoder(network.mask_decoder)).eval()
