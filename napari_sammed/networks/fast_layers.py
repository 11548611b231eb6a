"""Small things that the inference forms of the networks share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIP_VALUES = 1 << 21  # values of the widest activation at a time (8 MB); smaller strips cost more calls


def gelu_(x: Tensor) -> Tensor:
    """Exact GELU in place (PyTorch has it, but not under a public name)."""
    return torch.ops.aten.gelu_(x)


def normalise(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm with the weights of ``norm``."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def strips(length: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``range(length)``."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
