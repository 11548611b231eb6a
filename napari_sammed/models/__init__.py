"""One file a system: how an image is prepared for its network, and how its answer gets back onto the image.

`registry` knows the models, `weights` fetches and reads their weights.
Importing this package imports no torch.
"""

from __future__ import annotations

from napari_sammed.models.base import Embedding, Logits, ModelCard, PromptableModel, WeightFile
from napari_sammed.models.registry import card, create_network, load, names

__all__ = [
    "Embedding",
    "Logits",
    "ModelCard",
    "PromptableModel",
    "WeightFile",
    "card",
    "create_network",
    "load",
    "names",
]
