"""The models that a monkey asks: those of the tests, quick enough for large images."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from napari_sammed.models.base import Embedding, Logits
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from tests.labeller import Labeller
from tests.pixelated import Pixelated
from tests.plugin.ambiguous import Ambiguous
from tests.thresholder import Thresholder

NAMES = ("thresholder", "planar", "ambiguous", "pixelated", "pixelated-2d", "random-walker", "auto")
_FEW = 4  # voxels that stand for a mask


def models() -> dict[str, Any]:
    """New ones, since they remember what they were asked."""
    return {
        "thresholder": _Quick(),
        "planar": _Quick(planar=True),
        "ambiguous": _QuickAmbiguous(),
        "pixelated": Pixelated(),
        "pixelated-2d": Pixelated(planar=True),
        "labeller": Labeller(lambda _: time.sleep(0.004)),
    }


class _Quick(Thresholder):
    """Of a mask takes a few voxels instead of each in turn."""

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        return super().decode(embedding, _fewer(prompts), previous)


class _QuickAmbiguous(Ambiguous):
    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        return super().decode(embedding, _fewer(prompts), previous)


def _fewer(prompts: Prompts) -> Prompts:
    items: list[Any] = []
    for item in prompts:
        if isinstance(item, MaskPrompt):
            voxels = np.argwhere(item.mask) + item.offset
            items += [Point(tuple(map(float, voxel))) for voxel in voxels[:: max(len(voxels) // _FEW, 1)][:_FEW]]
        else:
            items.append(item)
    return Prompts(tuple(items))
