"""Small material for the recipes of flat networks."""

from __future__ import annotations

import numpy as np

from napari_sammed.training.material import Example, Material
from napari_sammed.volume import Volume

NAMES = {1: "bright", 3: "dark"}


def discs(seed: int, shape: tuple[int, ...] = (70, 60)) -> Example:
    """Bright discs (1) and dark ones (3) in noise; a flat image, or a volume of which each slice has its own."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape[-2:])
    labels = np.zeros((shape[0] if len(shape) == 3 else 1, *shape[-2:]), np.uint16)
    for plane in labels:
        for value, centre in ((1, 18), (3, 45)):
            y, x = centre * shape[-2] / 70 + random.uniform(-4, 4), random.uniform(18, 40)
            plane[(rows - y) ** 2 + (columns - x) ** 2 < random.uniform(7, 11) ** 2] = value
    labels = labels.reshape(shape)
    grey = np.array([120, 220, 0, 30])[labels] + random.normal(0, 8, shape)
    places = {value: np.flatnonzero((labels == value).any((1, 2))) for value in NAMES} if labels.ndim == 3 else {}
    image = Volume.from_array(grey.clip(0, 255).astype(np.uint8))
    return Example(f"discs {seed}", f"patient {seed}", image, labels, NAMES, places)


def material(*train: Example, held_out: tuple[Example, ...] = ()) -> Material:
    return Material(train or (discs(0), discs(1, (4, 70, 60))), held_out, NAMES)
