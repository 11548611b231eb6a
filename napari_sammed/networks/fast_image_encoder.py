"""SAM's image encoder for inference: the same numbers as `ImageEncoder` with less work and memory.

- Attention holds the logits of a few heads or queries at a time (`fast_attention`), never all N x N of them.
- Windows at the edge are not padded: padding tokens are all alike, so that one more key stands for them. Queries, keys,
  values and projections of padding are not computed.
- Wide activations exist only for a strip of tokens at a time, and residuals are added in place.
- LoRA is merged, adapters compute with matrix products (`fast_adapter`).
- In half precision only matrix products are: norms, softmax and the sum of residuals stay in float32.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.fast_adapter import FastAdapter
from napari_sammed.networks.fast_attention import attend_fused, attend_in_parts, padding_terms
from napari_sammed.networks.fast_block import FastBlock, Linear
from napari_sammed.networks.fast_layers import strips
from napari_sammed.networks.image_encoder import EncoderBlock, ImageEncoder, RelativeAttention, by_distance
from napari_sammed.networks.layers import check_image, patches

TOKENS = 1 << 12  # of images that are encoded together: more fill no processor better, but cost memory


class FastAttention(nn.Module):
    """`RelativeAttention` on the windows of a whole map, which is one window for global attention.

    Parameters
    ----------
    plain
        The loaded attention.
    window
        Rows and columns of a window.
    dtype
        Of the matrix products.
    """

    def __init__(self, plain: RelativeAttention, window: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.window = window
        self.num_heads = plain.num_heads
        self.qkv = Linear(plain.qkv, dtype)
        self.proj = Linear(plain.proj, dtype)
        self.register_buffer("rows", by_distance(plain.rel_pos_h).detach().to(dtype))
        self.register_buffer("columns", by_distance(plain.rel_pos_w).detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        out = torch.empty_like(qkv[..., 0, :, :])
        for (rows, height), (columns, width) in product(self._spans(x.shape[1]), self._spans(x.shape[2])):
            windows = qkv[:, rows, columns].unflatten(2, (-1, width)).unflatten(1, (-1, height))
            attended = self._attend(windows)
            out[:, rows, columns] = attended.flatten(3, 4).flatten(1, 2)
        return self.proj(out.flatten(-2))

    def _spans(self, size: int) -> list[tuple[slice, int]]:
        """Parts of a side with windows of the same length: whole windows, then what is left of the last one."""
        rest = size % self.window
        spans = [(slice(0, size - rest), self.window), (slice(size - rest, size), rest)]
        return [(part, length) for part, length in spans if part.stop > part.start]

    def _attend(self, windows: Tensor) -> Tensor:
        """Attention within windows of the same shape.

        ``windows`` is (B, rows of windows, height, columns of windows, width, 3, heads, d); the result has the same
        axes without the 3.
        """
        batch, down, height, across, width, _, heads, dim = windows.shape
        q, k, v = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, height * width, dim)
        along = q.view(-1, height, width, dim)
        rows = torch.einsum("brcd,rid->brci", along, self.rows[:height]).flatten(1, 2)
        columns = torch.einsum("brcd,cjd->brcj", along, self.columns[:width]).flatten(1, 2)
        rest = None
        if min(height, width) < self.window:
            rest = padding_terms(rows, columns, height, width)
            rows, columns = rows[..., :height], columns[..., :width]
            _, key, value = self.qkv.bias.view(3, heads, 1, dim).repeat(1, len(q) // heads, 1, 1)
            k, v = torch.cat([k, key], dim=1), torch.cat([v, value], dim=1)
        in_parts = q.device.type == "cpu" and q.dtype == torch.float32
        out = (attend_in_parts if in_parts else attend_fused)(q, k, v, rows, columns, rest)
        return out.view(batch, down, across, heads, height, width, dim).permute(0, 1, 4, 2, 5, 3, 6)


def fast_block(plain: EncoderBlock, grid_size: int, dtype: torch.dtype) -> FastBlock:
    """Fast form of a loaded block whose map has ``grid_size`` rows and columns."""
    attention = FastAttention(plain.attn, plain.window or grid_size, dtype)
    adapter = None if plain.Adapter is None else FastAdapter(plain.Adapter, dtype)
    return FastBlock(plain.norm1, attention, plain.norm2, plain.mlp.lin1, plain.mlp.lin2, dtype, adapter)


class FastImageEncoder(nn.Module):
    """`ImageEncoder` for inference, made from a loaded one.

    Parameters
    ----------
    plain
        With or without adapters and LoRA. Its weights are shared where they are used as they are.
    dtype
        Of the matrix products: float32, or float16 or bfloat16 where the device computes faster in them.
    """

    def __init__(self, plain: ImageEncoder, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.image_size, self.grid_size = plain.image_size, plain.grid_size
        patch = plain.patch_embed.proj
        self.patch_size = patch.kernel_size[0]
        self.register_buffer("patch_weight", patch.weight.detach().flatten(1))
        self.register_buffer("patch_bias", patch.bias.detach())
        self.register_buffer("pos_embed", plain.pos_embed.detach())
        self.blocks = nn.Sequential(*(fast_block(block, plain.grid_size, dtype) for block in plain.blocks))
        self.neck = plain.neck

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Embed preprocessed images; see `ImageEncoder.forward`. The result is float32, channels-last in memory."""
        check_image(image, (3, self.image_size, self.image_size))
        parts = strips(len(image), max(1, TOKENS // self.grid_size**2))
        return torch.cat([self._embed(image[part]) for part in parts])

    def _embed(self, image: Tensor) -> Tensor:
        pixels = patches(image, (self.patch_size, self.patch_size))
        x = F.linear(pixels, self.patch_weight, self.patch_bias).add_(self.pos_embed)
        pointwise, *others = self.neck
        x = F.linear(self.blocks(x), pointwise.weight.flatten(1)).permute(0, 3, 1, 2)
        for layer in others:
            x = layer(x)
        return x
