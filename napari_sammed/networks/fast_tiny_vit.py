"""TinyViT for inference on a CPU: the same numbers as `TinyViT` in about half the time and memory.

The plain form spends most of its time outside matrix products: on batch norms, on activations of 67 MB that
are written to memory and fetched again (and whose pages the system has to provide anew each time), and on
pointwise convolutions and attention kernels that do not reach the speed of the processor. Here

- batch norms are folded into the convolutions;
- a map is a channels-last tensor (1, H, W, C), so that pointwise convolutions are matrix products without copies;
- the wide activations exist only for a strip of rows at a time. The 3 x 3 depthwise convolution between them
  takes one more row on each side, which is kept from the strip before, so that nothing is computed twice;
- attention runs on a few rows of windows at a time and reads its heads where the projection wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.fast_layers import STRIP_VALUES, gelu_, normalise, strips
from napari_sammed.networks.tiny_vit import AttentionBlock, ConvNorm, MBConv, PatchEmbed, PatchMerging, TinyViT

WINDOW_TOKENS = 1 << 12  # tokens of the windows that are attended to at a time


class Linear(nn.Module):
    """Linear layer on tokens (N, in) with its weight stored as (in, out), which is faster for few channels."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().t().contiguous())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Map (N, in) to (N, out), into ``out`` if given."""
        return torch.addmm(self.bias, x, self.weight, out=out)


class Depthwise(nn.Module):
    """3 x 3 depthwise convolution of channels-last maps (B, H, W, C)."""

    def __init__(self, conv: ConvNorm) -> None:
        super().__init__()
        weight, bias = folded(conv)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride = conv.c.stride[0]

    def forward(self, x: Tensor, pad_rows: int = 1) -> Tensor:
        """Convolve; columns are zero-padded by one, rows by ``pad_rows``."""
        y = F.conv2d(
            x.permute(0, 3, 1, 2),
            self.weight,
            self.bias,
            stride=self.stride,
            padding=(pad_rows, 1),
            groups=len(self.weight),
        )
        return y.permute(0, 2, 3, 1)


class FastPatchEmbed(nn.Module):
    """See `PatchEmbed`."""

    def __init__(self, plain: PatchEmbed) -> None:
        super().__init__()
        self.first = Linear(*folded_pointwise(plain.seq[0]))
        self.second = Linear(*folded_pointwise(plain.seq[2]))

    def forward(self, image: Tensor) -> Tensor:
        """Map (1, 3, H, W) to (1, H, W, C)."""
        pixels = image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])
        tokens = pixels.new_empty(len(pixels), self.second.weight.shape[1])
        for part in strips(len(pixels), STRIP_VALUES // tokens.shape[1]):
            self.second(gelu_(self.first(pixels[part])), out=tokens[part])
        return tokens.view(1, *image.shape[2:], -1)


class Bottleneck(nn.Module):
    """What `MBConv` and `PatchMerging` share: pointwise, GELU, 3 x 3 depthwise, GELU, pointwise."""

    def __init__(self, plain: MBConv | PatchMerging) -> None:
        super().__init__()
        self.first = Linear(*folded_pointwise(plain.conv1))
        self.depthwise = Depthwise(plain.conv2)
        self.last = Linear(*folded_pointwise(plain.conv3))

    def strips(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Output rows of a map (1, H, W, C) in strips: (which rows, their tokens).

        Input rows may be overwritten as soon as the output rows at their place have been yielded.
        """
        _, height, width, _ = x.shape
        wide = self.first.weight.shape[1]
        stride = self.depthwise.stride
        size = max(1, STRIP_VALUES // (stride * width * wide))
        # Row i of the buffer is row `start * stride - 1 + i` of the wide activation; the first is above the map.
        buffer = x.new_empty(1, size * stride + 2, width, wide)
        buffer[:, 0] = 0
        done = 0
        for rows in strips(height // stride, size):
            above = rows.start * stride - 1
            needed = min((rows.stop - 1) * stride + 2, height)
            fresh = buffer[:, done - above : needed - above]
            gelu_(self.first(x[0, done:needed].flatten(0, 1), out=fresh.view(-1, wide)))
            end = (rows.stop - 1) * stride + 2 - above
            if needed - above < end:
                buffer[:, needed - above : end] = 0  # below the map
            middle = gelu_(self.depthwise(buffer[:, :end], pad_rows=0))
            yield rows, self.last(middle.reshape(-1, wide))
            done = needed
            kept = done - (rows.stop * stride - 1)
            buffer[:, :kept] = buffer[:, end - kept : end].clone()


class FastMBConv(Bottleneck):
    """See `MBConv`."""

    def forward(self, x: Tensor) -> Tensor:
        """Work on (1, H, W, C) in place."""
        for rows, tokens in self.strips(x):
            target = x[0, rows].flatten(0, 1)
            gelu_(target.add_(tokens))
        return x


class FastPatchMerging(Bottleneck):
    """See `PatchMerging`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, H, W, C) to (1, H / stride, W / stride, C')."""
        stride = self.depthwise.stride
        y = x.new_empty(1, x.shape[1] // stride, x.shape[2] // stride, self.last.weight.shape[1])
        for rows, tokens in self.strips(x):
            y[0, rows].flatten(0, 1).copy_(tokens)
        return y


class FastAttentionBlock(nn.Module):
    """See `AttentionBlock`."""

    def __init__(self, plain: AttentionBlock) -> None:
        super().__init__()
        attention = plain.attn
        self.window = plain.window
        self.num_heads = attention.num_heads
        self.norm = attention.norm
        self.qkv = Linear(*self._scaled_qkv(attention.qkv))
        self.proj = Linear(attention.proj.weight, attention.proj.bias)
        self.register_buffer("bias", attention.bias().detach().clone())
        self.local_conv = Depthwise(plain.local_conv)
        self.mlp_norm = plain.mlp.norm
        self.fc1 = Linear(plain.mlp.fc1.weight, plain.mlp.fc1.bias)
        self.fc2 = Linear(plain.mlp.fc2.weight, plain.mlp.fc2.bias)

    def _scaled_qkv(self, qkv: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weights in the order (q, k, v; heads) instead of (heads; q, k, v), those of q times the scale."""
        channels = qkv.in_features
        scale = torch.ones(3, 1, 1, 1, device=qkv.weight.device)
        scale[0] = (channels // self.num_heads) ** -0.5
        weight = qkv.weight.detach().unflatten(0, (self.num_heads, 3, -1)).transpose(0, 1) * scale
        bias = qkv.bias.detach().unflatten(0, (self.num_heads, 3, -1)).transpose(0, 1) * scale[..., 0]
        return weight.reshape(-1, channels), bias.reshape(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, H, W, C) to the same shape; the input is overwritten."""
        _, height, width, channels = x.shape
        w = self.window
        columns = -(-width // w)
        together = max(1, WINDOW_TOKENS // (columns * w * w))  # rows of windows
        padded = x.new_zeros(together * w, columns * w, channels)
        for rows in strips(height, together * w):
            self._attend(x[0, rows], padded)
        x = self.local_conv(x)
        tokens = x.flatten(0, 2)
        hidden = self.fc1.weight.shape[1]
        for part in strips(len(tokens), STRIP_VALUES // hidden):
            self._feed_forward(tokens[part])
        return x

    def _attend(self, x: Tensor, padded: Tensor) -> None:
        """Add the attention of some rows of windows to their tokens x (H, W, C).

        ``padded`` is zero outside the map's columns and has room for whole windows.
        """
        height, width, channels = x.shape
        w = self.window
        padded = padded[: -(-height // w) * w]
        padded[:height, :width] = x
        padded[height:] = 0
        windows = padded.unflatten(1, (-1, w)).unflatten(0, (-1, w)).transpose(1, 2)
        tokens = normalise(self.norm, windows.reshape(-1, channels))
        qkv = self.qkv(tokens).view(-1, w * w, 3, self.num_heads, channels // self.num_heads)
        out = tokens.view(-1, w * w, channels)  # not needed any more
        for head, (bias, target) in enumerate(zip(self.bias, out.chunk(self.num_heads, -1), strict=True)):
            q, k, v = qkv[:, :, :, head].unbind(2)
            weights = torch.bmm(q, k.transpose(1, 2)).add_(bias).softmax(-1)
            torch.bmm(weights, v, out=target)
        attended = self.proj(out.view(-1, channels)).view(windows.shape).transpose(1, 2)
        x.add_(attended.reshape(padded.shape)[:height, :width])

    def _feed_forward(self, tokens: Tensor) -> None:
        """Add the feed-forward part to tokens (N, C)."""
        tokens.add_(self.fc2(gelu_(self.fc1(normalise(self.mlp_norm, tokens)))))


class FastTinyViT(nn.Module):
    """`TinyViT` for inference on a CPU, made from a loaded `TinyViT`.

    It holds its own copy of the weights (folded), has no gradients, and takes one image of a batch after the
    other.
    """

    def __init__(self, plain: TinyViT) -> None:
        super().__init__()
        self.image_size = plain.image_size
        layers: list[nn.Module] = [FastPatchEmbed(plain.patch_embed)]
        for stage in plain.layers:
            layers += [FastMBConv(b) if isinstance(b, MBConv) else FastAttentionBlock(b) for b in stage.blocks]
            if hasattr(stage, "downsample"):
                layers.append(FastPatchMerging(stage.downsample))
        self.layers = nn.Sequential(*layers)
        self.neck = plain.neck

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Embed preprocessed images, (B, 3, side, side) to (B, C, h, w), channels-last in memory."""
        side = self.image_size
        if x.shape[1:] != (3, side, side):
            raise ValueError(f"input of shape (B, 3, {side}, {side}) needed, got {tuple(x.shape)}")
        return torch.cat([self.neck(self.layers(image[None]).permute(0, 3, 1, 2)) for image in x])


def folded(conv: ConvNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm (running statistics) folded in."""
    norm = conv.bn
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = conv.c.weight.double() * scale.view(-1, 1, 1, 1)
    bias = norm.bias.double() - norm.running_mean.double() * scale
    dtype = conv.c.weight.dtype
    return weight.detach().to(dtype), bias.detach().to(dtype)


def folded_pointwise(conv: ConvNorm) -> tuple[Tensor, Tensor]:
    """As `folded`, the weight of a 1 x 1 convolution as a matrix (out, in)."""
    weight, bias = folded(conv)
    return weight.flatten(1), bias
