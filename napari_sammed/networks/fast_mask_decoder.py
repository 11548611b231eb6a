"""Mask decoder for inference: the same numbers as `MaskDecoder` with a fraction of the work.

The image has thousands of tokens, a prompt has a handful. So nothing is projected on the image's side: a
query's product with a projected key, q · (W k), is (Wᵀ q) · k, and a weighted mean of projected values is the
projection of the weighted mean. The projections thus move to the few prompt tokens, biases of the keys cancel
in the softmax, and those of the values add up to themselves because the weights sum to one.

As long as all prompts see the same image tokens (up to the end of the first block), these are one matrix that
is multiplied with the tokens of all prompts at once. A transposed convolution of kernel 2 and stride 2 is a
linear layer whose outputs lie in the sub-pixels of a token, so upscaling is done token by token too; only the
finished masks are brought into the order of pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.mask_decoder import MaskDecoder, unexpanded
from napari_sammed.networks.transformer import Attention, TwoWayBlock

CHUNK = 4  # prompts decoded at a time: more would only move their image tokens (4 MB each) out of the cache


class FastMaskDecoder(nn.Module):
    """`MaskDecoder` for inference, in two or three dimensions; called in the same way.

    Parameters
    ----------
    plain
        The loaded decoder. Its weights are used as they are, so that later changes of them count here too.
    """

    def __init__(self, plain: MaskDecoder) -> None:
        super().__init__()
        self.plain = plain

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        added_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode B sets of prompts; see `MaskDecoder.forward`."""
        chosen = self.plain.chosen_masks(multimask_output)
        tokens = self.plain.prompt_tokens(image_embeddings, sparse_prompt_embeddings)
        image = image_embeddings + unexpanded(dense_prompt_embeddings)
        keys = image.flatten(2).transpose(1, 2).contiguous()
        key_pe = image_pe.flatten(2).transpose(1, 2)
        masks, iou = [], []
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            updated, image_tokens = self._transform(tokens[part], keys if len(keys) == 1 else keys[part], key_pe)
            added = None if added_weights is None else added_weights.expand(len(tokens), -1)[part]
            weights = self.plain.mask_weights(updated, chosen, added)
            masks.append(self._draw(image_tokens, weights, image.shape[2:]))
            iou.append(self.plain.iou_prediction_head(updated[:, 0])[:, chosen.start : chosen.stop])
        return torch.cat(masks), torch.cat(iou)

    def _transform(self, tokens: Tensor, keys: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        """The two-way transformer on tokens (B, T, C) and image tokens (B or 1, N, C)."""
        transformer = self.plain.transformer
        queries = tokens
        for block in transformer.layers:
            queries, keys = _two_way_block(block, queries, keys, tokens, key_pe)
        attention = transformer.final_attn_token_to_image
        queries = queries + _token_to_image(attention, queries + tokens, keys + key_pe, keys)
        return transformer.norm_final_attn(queries), keys

    def _draw(self, image_tokens: Tensor, weights: Tensor, grid: torch.Size) -> Tensor:
        """Upscale image tokens (B, N, C) and multiply with weights (B, masks, C / 8): (B, masks, *4 grid)."""
        up1, _, _, up2, _ = self.plain.output_upscaling
        dims = len(grid)
        batch, masks, _ = weights.shape
        subpixels = 2**dims
        x = F.linear(image_tokens, *_as_linear(up1)).unflatten(-1, (subpixels, -1))
        x = torch.ops.aten.gelu_(self._normalise_subpixels(x))
        x = torch.ops.aten.gelu_(F.linear(x, *_as_linear(up2)))
        x = x.view(batch, -1, weights.shape[2]) @ weights.transpose(1, 2)
        # Axes now: batch, grid axes, sub-pixel axes, their sub-pixel axes, masks. Bring each axis' three together.
        x = x.view(batch, *grid, *[2] * (2 * dims), masks)
        order = [1 + axis + level * dims for axis in range(dims) for level in range(3)]
        return x.permute(0, 3 * dims + 1, *order).reshape(batch, masks, *[4 * n for n in grid])

    def _normalise_subpixels(self, x: Tensor) -> Tensor:
        """The norm after the first step of upscaling, on (B, N, sub-pixels, C / 4)."""
        norm = self.plain.output_upscaling[1]
        return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _two_way_block(
    block: TwoWayBlock, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
) -> tuple[Tensor, Tensor]:
    """See `TwoWayBlock.forward`."""
    queries = block.attend_to_themselves(queries, query_pe)
    placed_keys = keys + key_pe
    attention = block.cross_attn_token_to_image
    queries = block.norm2(queries + _token_to_image(attention, queries + query_pe, placed_keys, keys))
    queries = block.norm3(queries + block.mlp(queries))
    attention = block.cross_attn_image_to_token
    keys = _add_image_to_token(attention, keys, placed_keys, queries + query_pe, queries)
    return queries, block.norm4(keys)


def _token_to_image(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of a few tokens q (B, T, C) to an image's k and v (B or 1, N, C)."""
    batch, tokens, _ = q.shape
    heads = attention.num_heads
    q = _heads(attention.q_proj(q), heads)
    q = (q * q.shape[-1] ** -0.5) @ attention.k_proj.weight.unflatten(0, (heads, -1))  # (B, heads, T, C)
    weights = _matmul(q.flatten(1, 2), k.transpose(1, 2)).softmax(-1)
    means = _matmul(weights, v).view(batch, heads, tokens, -1)
    out = means @ attention.v_proj.weight.unflatten(0, (heads, -1)).transpose(1, 2)
    return attention.out_proj(out.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def _add_image_to_token(attention: Attention, image: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``image`` plus the attention of its tokens q (B or 1, N, C) to a few tokens k and v (B, T, C)."""
    batch, tokens, _ = k.shape
    heads = attention.num_heads
    k = _heads(attention.k_proj(k), heads)
    k = k * k.shape[-1] ** -0.5
    offset = k @ attention.q_proj.bias.view(heads, -1, 1)
    k = k @ attention.q_proj.weight.unflatten(0, (heads, -1))  # (B, heads, T, C)
    logits = _matmul(k.flatten(1, 2), q.transpose(1, 2)).view(batch, heads, tokens, -1)
    weights = logits.add_(offset).softmax(2).flatten(1, 2)
    values = _heads(attention.v_proj(v), heads) @ attention.out_proj.weight.t().unflatten(0, (heads, -1))
    values = values + attention.out_proj.bias / heads  # the weights of each head sum to one
    return torch.baddbmm(image, weights.transpose(1, 2), values.flatten(1, 2))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads x d) to (B, heads, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Batched product in which a ``b`` of batch one is shared, as one large product instead of copies of ``b``."""
    return a @ b[0] if len(b) == 1 else torch.bmm(a, b)


def _as_linear(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the linear layer that equals a transposed convolution of kernel 2 and stride 2.

    Its outputs are ordered by sub-pixel (row-major), then by channel.
    """
    weight = conv.weight.flatten(2).permute(2, 1, 0)  # (in, out, kernel) to (kernel, out, in)
    return weight.flatten(0, 1), conv.bias.repeat(len(weight))
