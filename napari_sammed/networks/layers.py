"""Small layers that every network of the SAM family shares, written once for two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class LayerNormNd(nn.Module):
    """Layer norm over the channels of each pixel or voxel (``LayerNorm2d`` of the official code).

    Parameters
    ----------
    channels
        Length of axis 1 of the input.
    eps
        Added to the (biased) variance. 1e-6 in every published network, unlike PyTorch's default.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (B, C, *spatial); the result is stored channels-last."""
        channels_last = x.movedim(1, -1)
        normalised = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps)
        return normalised.movedim(-1, 1)


class MLP(nn.Module):
    """Linear layers with ReLU after all but the last, as in the heads of SAM's mask decoder.

    Parameters
    ----------
    in_features, hidden_features, out_features
        Widths.
    depth
        Number of linear layers.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int, depth: int) -> None:
        super().__init__()
        widths = [in_features] + [hidden_features] * (depth - 1) + [out_features]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class FourierCode(nn.Module):
    """Random Fourier features of positions (SAM paper, appendix A; ``PositionEmbeddingRandom``).

    The frequencies are a buffer of the checkpoint: trained weights only fit the frequencies they were trained
    with.

    Parameters
    ----------
    dims
        2 or 3.
    features
        Length of a code.
    frequencies
        Number of random frequencies, ``features // 2`` by default. A code is sin and cos of them, one after
        the other and repeated from the start until ``features`` is filled.
    scale
        Standard deviation of newly drawn frequencies.
    """

    def __init__(self, dims: int, features: int, frequencies: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        frequencies = features // 2 if frequencies is None else frequencies
        if features % frequencies:
            raise ValueError(f"{features} features cannot be filled with {frequencies} frequencies evenly")
        self.repeats = features // frequencies
        self.register_buffer("positional_encoding_gaussian_matrix", scale * torch.randn(dims, frequencies))

    def forward(self, positions: Tensor) -> Tensor:
        """Encode positions (..., dims) in [0, 1] as (..., features)."""
        matrix = self.positional_encoding_gaussian_matrix
        angle = 2 * math.pi * ((2 * positions.to(matrix.dtype) - 1) @ matrix)
        parts = (angle.sin(), angle.cos())
        return torch.cat([parts[i % 2] for i in range(self.repeats)], dim=-1)

    def grid(self, size: Sequence[int], axes: Sequence[int]) -> Tensor:
        """Codes of the centres of a grid's cells.

        Parameters
        ----------
        size
            Number of cells along each array axis.
        axes
            ``axes[i]`` is the array axis that component i of a position runs along.

        Returns
        -------
        Tensor
            Shape (features, *size).
        """
        matrix = self.positional_encoding_gaussian_matrix
        centres = [(torch.arange(n, device=matrix.device, dtype=matrix.dtype) + 0.5) / n for n in size]
        along = torch.meshgrid(*centres, indexing="ij")
        return self(torch.stack([along[axis] for axis in axes], dim=-1)).movedim(-1, 0)


def patches(image: Tensor, size: Sequence[int]) -> Tensor:
    """Cut (B, channels, *spatial) into patches of ``size``: (B, *grid, channels x pixels of a patch)."""
    for i, length in enumerate(size):
        image = image.unflatten(2 + 2 * i, (-1, length))
    dims = len(size)
    grid, inside = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return image.permute(0, *grid, 1, *inside).flatten(1 + dims)


def check_image(image: Tensor, shape: Sequence[int]) -> None:
    """Refuse an input that is not (B, *shape), the channels coming first, with a ValueError."""
    if tuple(image.shape[1:]) != tuple(shape):
        needed = ", ".join(str(n) for n in shape)
        raise ValueError(f"input of shape (B, {needed}) needed, got {tuple(image.shape)}")
