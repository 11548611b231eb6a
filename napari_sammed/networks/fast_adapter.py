"""SAM-Med2D's adapter for inference: both convolutions as matrix products of patches.

Convolutions of a small map with many channels spend more time on bringing 60 MB of weights into another order, anew
in every call, than on the products. Here the weights are brought into the order of a matrix once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sammed.networks.adapter import Adapter
from napari_sammed.networks.fast_layers import normalise

# A transposed convolution of kernel 4, stride 2 and padding 1 makes two output rows of each input row. Through these
# rows of the kernel the first sees the input rows before and at its place, the second those at and after it.
TAPS = ((3, 1), (2, 0))


class FastAdapter(nn.Module):
    """`Adapter` for inference.

    Parameters
    ----------
    plain
        The loaded adapter; its gate and norm are shared, its convolutions are copied.
    dtype
        Of the convolutions' products.
    """

    def __init__(self, plain: Adapter, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.norm, self.channel = plain.norm, plain.channel
        down, _, up, _ = plain.spatial
        self.register_buffer("down", _as_matrix(down.weight.detach().transpose(0, 1), dtype))
        phases = [[up.weight.detach()[:, :, rows][..., columns] for columns in TAPS] for rows in TAPS]
        self.register_buffer("up", torch.stack([_as_matrix(phase, dtype) for row in phases for phase in row]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape; see `Adapter.forward`."""
        batch, height, width, channels = x.shape
        gated = (x * self.channel(x.mean((1, 2), keepdim=True))).to(self.dtype)
        small = torch.relu_(_patches(gated, size=3, stride=2).flatten(3) @ self.down)
        patches = _patches(small, size=2, stride=1).flatten(3)
        rows, columns = small.shape[1:3]
        branch = patches.new_empty(batch, rows, 2, columns, 2, channels)
        for phase, weight in enumerate(self.up):
            r, c = divmod(phase, 2)
            of_phase = patches[:, r : r + rows, c : c + columns].flatten(0, 2)  # two axes: one product, not a batch
            branch[:, :, r, :, c] = (of_phase @ weight).view(batch, rows, columns, channels)
        branch = torch.relu_(branch).view(batch, height, width, channels)
        return normalise(self.norm, x + branch)


def _as_matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(in, out, rows, columns) of a kernel to (rows·columns·in, out)."""
    return weight.permute(2, 3, 0, 1).flatten(0, 2).to(dtype).contiguous()


def _patches(x: Tensor, size: int, stride: int) -> Tensor:
    """Patches of a map (B, H, W, C) that is zero-padded by one: (B, rows, columns, size·size, C)."""
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, size, stride).unfold(2, size, stride)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3, 4)
