"""The yardstick: LiteMedSAM in plain eager form, as published codes of the family are written.

Separate batch norms, channels-first maps, attention and softmax written out, image embeddings repeated for every
prompt, all four masks computed. It runs on the weights of `napari_sammed.networks.create("litemedsam")`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.layers import LayerNormNd
from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.tiny_vit import AttentionBlock, TinyViT, WindowAttention
from napari_sammed.networks.transformer import Attention


class PlainTinyViT(nn.Module):
    """The image encoder."""

    def __init__(self, encoder: TinyViT) -> None:
        super().__init__()
        self.encoder = encoder
        # As in the published code, the bias of every pair of positions is gathered once for evaluation.
        self.biases = {block.attn: block.attn.bias() for stage in encoder.layers[1:] for block in stage.blocks}

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, C, h, w)."""
        x = self.encoder.patch_embed(x)
        stages = iter(self.encoder.layers)
        x = next(stages)(x)
        for stage in stages:
            _, channels, height, width = x.shape
            tokens = x.flatten(2).transpose(1, 2)
            for block in stage.blocks:
                tokens = self._block(block, tokens, height, width)
            x = tokens.view(-1, height, width, channels).permute(0, 3, 1, 2)
            if hasattr(stage, "downsample"):
                x = stage.downsample(x.contiguous())
        for layer in self.encoder.neck:
            x = layer(x) if isinstance(layer, nn.Conv2d) else channel_norm(layer, x)
        return x

    def _block(self, block: AttentionBlock, x: Tensor, height: int, width: int) -> Tensor:
        batch, length, channels = x.shape
        w = block.window
        padded = F.pad(x.view(batch, height, width, channels), (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = padded.shape[1] // w, padded.shape[2] // w
        windows = padded.view(batch, rows, w, columns, w, channels).transpose(2, 3)
        windows = self._attention(block.attn, windows.reshape(-1, w * w, channels))
        windows = windows.view(batch, rows, columns, w, w, channels).transpose(2, 3)
        windows = windows.reshape(batch, rows * w, columns * w, channels)[:, :height, :width].contiguous()
        x = x + windows.view(batch, length, channels)
        x = x.transpose(1, 2).reshape(batch, channels, height, width)
        x = block.local_conv(x).view(batch, channels, length).transpose(1, 2)
        return x + block.mlp(x)

    def _attention(self, attention: WindowAttention, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        head_dim = channels // attention.num_heads
        qkv = attention.qkv(attention.norm(x)).view(batch, length, attention.num_heads, -1)
        q, k, v = (part.permute(0, 2, 1, 3) for part in qkv.split([head_dim] * 3, dim=3))
        logits = (q @ k.transpose(-2, -1)) * head_dim**-0.5 + self.biases[attention]
        return attention.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, channels))


class PlainMaskDecoder(nn.Module):
    """The mask decoder."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """See `MaskDecoder.forward`; one image."""
        decoder, batch = self.decoder, len(sparse_prompt_embeddings)
        output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)
        image = torch.repeat_interleave(image_embeddings, batch, dim=0) + dense_prompt_embeddings
        pe = torch.repeat_interleave(image_pe, batch, dim=0).flatten(2).permute(0, 2, 1)
        keys, queries = image.flatten(2).permute(0, 2, 1), tokens
        for block in decoder.transformer.layers:
            if block.skip_first_layer_pe:
                queries = attend(block.self_attn, queries, queries, queries)
            else:
                q = queries + tokens
                queries = queries + attend(block.self_attn, q, q, queries)
            queries = block.norm1(queries)
            q, k = queries + tokens, keys + pe
            queries = block.norm2(queries + attend(block.cross_attn_token_to_image, q, k, keys))
            queries = block.norm3(queries + block.mlp(queries))
            q, k = queries + tokens, keys + pe
            keys = block.norm4(keys + attend(block.cross_attn_image_to_token, k, q, queries))
        q, k = queries + tokens, keys + pe
        transformer = decoder.transformer
        queries = queries + attend(transformer.final_attn_token_to_image, q, k, keys)
        queries = transformer.norm_final_attn(queries)
        features = keys.transpose(1, 2).reshape(image.shape)
        for layer in decoder.output_upscaling:
            is_norm = isinstance(layer, LayerNormNd)
            features = channel_norm(layer, features) if is_norm else layer(features)
        heads = decoder.output_hypernetworks_mlps
        weights = torch.stack([heads[i](queries[:, 1 + i]) for i in range(len(heads))], dim=1)
        masks = (weights @ features.flatten(2)).view(batch, -1, *features.shape[2:])
        iou = decoder.iou_prediction_head(queries[:, 0])
        chosen = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, chosen], iou[:, chosen]


def attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Multi-head attention written out."""
    projected = attention.q_proj(q), attention.k_proj(k), attention.v_proj(v)
    q, k, v = (x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in projected)
    logits = q @ k.permute(0, 1, 3, 2) / q.shape[-1] ** 0.5
    return attention.out_proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


def channel_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """Layer norm over channels of (B, C, *spatial), written out."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + norm.eps)
    weight, bias = (value.view(-1, *[1] * (x.ndim - 2)) for value in (norm.weight, norm.bias))
    return weight * x + bias


def plain(network: PromptableNetwork) -> PromptableNetwork:
    """The plain eager form of a loaded LiteMedSAM."""
    return PromptableNetwork(
        PlainTinyViT(network.image_encoder), network.prompt_encoder, PlainMaskDecoder(network.mask_decoder)
    ).eval()
