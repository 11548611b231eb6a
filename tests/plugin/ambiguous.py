"""A model whose first click is ambiguous: the structure, its core, or more than it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from napari_sammed.models.base import Embedding, Logits
from napari_sammed.prompts import Prompts
from tests.thresholder import Thresholder

SCORES = (0.9, 0.7, 0.5)


class Ambiguous(Thresholder):
    """Has the readings of `readings`, with `SCORES`, for one prompt; one reading for several."""

    def __init__(self) -> None:
        super().__init__()
        self.card = replace(self.card, name="ambiguous", title="Ambiguous")

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        own = super().decode(embedding, prompts, previous)
        if len(prompts) > 1:
            return own
        made = [
            Logits(np.where(mask, 5.0, -5.0).astype(np.float32), own.region, score)
            for mask, score in zip(readings(own.values > 0), SCORES, strict=True)
        ]
        return replace(made[0], alternatives=tuple(made[1:]))


def readings(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """The mask, one voxel less, and one voxel more."""
    return mask, ndimage.binary_erosion(mask), ndimage.binary_dilation(mask)
