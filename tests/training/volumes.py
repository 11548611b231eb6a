"""Small volumes with labelled balls, as recipes for volumes learn from them."""

from __future__ import annotations

import numpy as np

from napari_sammed.geometry import Grid
from napari_sammed.training.material import Example, Material
from napari_sammed.volume import Volume
from tests.phantoms import ball

NAMES = {1: "bright", 3: "dark"}


def balls(seed: int, shape: tuple[int, ...] = (26, 40, 44), name: str = "") -> Example:
    """A bright ball (label 1) and a dark one (3) in a grey volume, voxels of 2 x 1.5 x 1.5 mm."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    middle = np.array(shape) / 2
    for value, side in ((1, 0.55), (3, 1.45)):
        centre = middle * (1, 1, side) + random.uniform(-2, 2, 3)
        labels[ball(shape, tuple(centre), random.uniform(7, 8.5)) & (labels == 0)] = value
    grey = np.array([500.0, 900, 0, 100])[labels] + random.normal(0, 20, shape)
    image = Volume(grey.astype(np.int16), Grid.plain(shape, (2.0, 1.5, 1.5)))
    return Example(name or f"case {seed}", f"patient {seed}", image, labels, NAMES)


def material(train: int = 2, held_out: int = 1) -> Material:
    """Some of them."""
    examples = tuple(balls(seed) for seed in range(train + held_out))
    return Material(examples[:train], examples[train:], NAMES)
