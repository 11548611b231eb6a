"""Synthetic images with known structures."""

from __future__ import annotations

import numpy as np

from napari_sammed.volume import Volume


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    """Boolean ball (or disc) in index coordinates."""
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) <= radius**2


def two_balls(shape: tuple[int, ...] = (20, 40, 50), noise: float = 2.0) -> tuple[Volume, np.ndarray, np.ndarray]:
    """A volume (or flat image) with two bright structures (100 and 180) on a dark ground (20), and their masks."""
    half = np.array(shape) / 2
    first = ball(shape, tuple(half * ([1] * (len(shape) - 1) + [0.5])), min(shape) * 0.3)
    second = ball(shape, tuple(half * ([1] * (len(shape) - 1) + [1.5])), min(shape) * 0.25)
    array = np.full(shape, 20.0) + 80 * first + 160 * second
    array += np.random.default_rng(0).uniform(-noise, noise, shape)
    spacing = (3.0, 1.0, 1.0)[-len(shape) :]
    return Volume.from_array(array.astype(np.float32), spacing), first, second
