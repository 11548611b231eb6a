"""Windows that cover a part of an image, half overlapping, and the weights with which their answers are blended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from napari_sammed.geometry import Box

_SIGMA = 0.125  # of a window's length, as usual for blending windows of volumes (nnU-Net; MONAI's default)
_LEAST_WEIGHT = 1e-3  # of a voxel in a window's corner, so that it counts where no other window sees it


def covering(part: Box, shape: Sequence[int], limit: Box) -> list[Box]:
    """Boxes of `shape` that cover a part of an image, raster order, the last axis fastest.

    Parameters
    ----------
    part : Box
        Inside `limit`.
    shape : sequence of int
        Of a window. Along axes where the part is smaller, a window is centred on it, moved inside the limit.
    limit : Box
        Windows lie inside; along axes where it is smaller than a window they have its size.
    """
    shape = tuple(map(min, shape, limit.shape))
    low, high = [], []
    for first, last, side, start, stop in zip(part.low, part.high, shape, limit.low, limit.high, strict=True):
        missing = max(0, side - (last - first))
        first = min(max(first - missing // 2, start), stop - max(side, last - first))
        low.append(first)
        high.append(max(last, first + side))
    widened = Box(tuple(low), tuple(high))
    return [box.shift(widened.low) for box in window_boxes(widened.shape, shape)]


def window_boxes(shape: Sequence[int], window: Sequence[int]) -> list[Box]:
    """Half-overlapping windows that cover an array at least as large, the last one flush with its end, x fastest."""
    starts = []
    for size, side in zip(shape, window, strict=True):
        step = max(side // 2, 1)
        count = math.ceil((size - side) / step) + 1
        starts.append([min(number * step, size - side) for number in range(count)])
    return [
        Box(low, tuple(a + side for a, side in zip(low, window, strict=True))) for low in itertools.product(*starts)
    ]


def importance(shape: Sequence[int]) -> np.ndarray:
    """How much a window says about each of its voxels, float32 of this shape: a Gaussian around its middle, 0..1."""
    weights = np.ones(tuple(shape), np.float32)
    for axis, size in enumerate(shape):
        places = (np.arange(size) - (size - 1) / 2) / max(_SIGMA * size, 1e-6)
        weights *= (
            np.exp(-(places**2) / 2).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        )
    return weights.clip(_LEAST_WEIGHT)
