"""Area resampling of 8-bit images with the numbers of OpenCV's ``INTER_AREA``, in NumPy.

LiteMedSAM was trained on images resized that way, and other area filters (Pillow's ``BOX``) differ by many grey
levels. The rules follow OpenCV's ``resize.cpp``: a mean weighted by pixel overlap when shrinking, and a two-tap rule of
its own, in 11-bit fixed point, when enlarging.
"""

from __future__ import annotations

import numpy as np

_FIXED = 2048  # OpenCV keeps the weights of its two-tap rule as multiples of 1/2048


def resize_area(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize like ``cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)``.

    Parameters
    ----------
    image : ndarray of uint8, (H, W) or (H, W, C)
    shape : tuple of int
        New height and width.

    Returns
    -------
    ndarray of uint8, (*shape) or (*shape, C)

    Notes
    -----
    Where one axis shrinks and the other grows, each follows its own rule; OpenCV would drop pixels of the former.
    """
    if image.shape[:2] == tuple(shape):
        return image.copy()
    shrinks = [new <= old for new, old in zip(shape, image.shape, strict=False)]
    if all(shrinks):
        return _shrink(image, shape)
    if not any(shrinks) or shape[0] == image.shape[0] or shape[1] == image.shape[1]:
        return _enlarge(image, shape)
    shrunk = (shape[0], image.shape[1]) if shrinks[0] else (image.shape[0], shape[1])
    return _enlarge(_shrink(image, shrunk), shape)


def resize_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a boolean mask by area: a pixel is inside where more than half of it is covered."""
    return resize_area(mask.astype(np.uint8), shape) > 0


def _shrink(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mean over the source pixels under each target pixel, weighted by their overlap, rounded to even."""
    factors = [old // new for old, new in zip(image.shape, shape, strict=False)]
    if all(new * factor == old for old, new, factor in zip(image.shape, shape, factors, strict=False)):
        return _shrink_by_whole_factors(image, shape, factors)
    # Columns before rows and single precision, as OpenCV does: the order decides how halves round.
    indices, weights = _overlaps(image.shape[1], shape[1])
    columns = _weighted_sum(image.swapaxes(0, 1), indices, weights).swapaxes(0, 1)
    rows = _weighted_sum(columns, *_overlaps(image.shape[0], shape[0]))
    return np.rint(rows).astype(np.uint8)


def _shrink_by_whole_factors(image: np.ndarray, shape: tuple[int, int], factors: list[int]) -> np.ndarray:
    blocks = image.reshape(shape[0], factors[0], shape[1], factors[1], *image.shape[2:])
    sums = blocks.sum(axis=(1, 3), dtype=np.int64)
    if factors == [2, 2]:
        return ((sums + 2) >> 2).astype(np.uint8)  # this one case rounds halves up
    return np.rint(sums.astype(np.float32) * np.float32(1 / (factors[0] * factors[1]))).astype(np.uint8)


def _overlaps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Source indices and weights of each target pixel, both (taps, new), in ascending order of the source."""
    scale = 1 / (new / old)  # as OpenCV computes it
    start = np.arange(new) * scale
    stop = start + scale
    cell = np.minimum(scale, old - start)
    first_whole = np.ceil(start)
    last = np.minimum(np.floor(stop), old - 1)
    first_whole = np.minimum(first_whole, last)
    taps = int((last - first_whole).max()) + 2
    indices = first_whole[None] - 1 + np.arange(taps)[:, None]
    weights = np.where((indices >= first_whole) & (indices < last), 1.0, 0.0)
    head = np.where(first_whole - start > 1e-3, first_whole - start, 0.0)  # OpenCV ignores slivers
    tail = np.where(stop - last > 1e-3, np.minimum(np.minimum(stop - last, 1.0), cell), 0.0)
    weights = np.where(indices == first_whole - 1, head, weights)
    weights = np.where(indices == last, tail, weights)
    return indices.clip(0, old - 1).astype(int), (weights / cell).astype(np.float32)


def _weighted_sum(lines: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Combine whole lines (axis 0) of an image; float32."""
    trailing = (1,) * (lines.ndim - 1)
    lines = lines.astype(np.float32)
    total = np.zeros((indices.shape[1], *lines.shape[1:]), np.float32)
    for index, weight in zip(indices, weights, strict=True):
        total += lines[index] * weight.reshape(-1, *trailing)
    return total


def _enlarge(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Two source pixels a target pixel on each axis; halves and shifts as in OpenCV's fixed-point code."""
    left, right, weight = _two_taps(image.shape[1], shape[1])
    trailing = (1,) * (image.ndim - 2)
    weight = weight.reshape(2, 1, -1, *trailing)
    lines = image.astype(np.int32)
    lines = lines[:, left] * weight[0] + lines[:, right] * weight[1]
    top, bottom, weight = _two_taps(image.shape[0], shape[0])
    weight = weight.reshape(2, -1, 1, *trailing)
    upper = (weight[0] * (lines[top] >> 4)) >> 16
    lower = (weight[1] * (lines[bottom] >> 4)) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _two_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both source indices of each target pixel, (new,), and their weights in units of 1/2048, (2, new)."""
    ratio = new / old
    target = np.arange(new)
    source = np.floor(target / ratio).astype(int)
    fraction = ((target + 1) - (source + 1) * ratio).astype(np.float32)
    fraction = np.where(fraction <= 0, np.float32(0), fraction - np.floor(fraction))
    fraction = np.where(source >= old - 1, np.float32(0), fraction)
    weights = np.rint(np.stack([1 - fraction, fraction]) * _FIXED).astype(np.int32)
    return source.clip(0, old - 1), (source + 1).clip(0, old - 1), weights
