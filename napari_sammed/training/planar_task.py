"""What recipes of networks that see slices have in common: how these come to the network, and how it is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_sammed.geometry import Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding
from napari_sammed.models.frames import Frame
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.planar import PlanarModel
from napari_sammed.networks import PromptableNetwork
from napari_sammed.prompts import Prompts
from napari_sammed.training.augmenting import Variation, vary_slice
from napari_sammed.training.kept import Kept
from napari_sammed.training.material import Material
from napari_sammed.training.slices import Slice, Slices, drawn, in_frame

Planar = PlanarModel | LiteMedSAM
"""The model that users have around a network."""

_VARIATION = Variation(turns=False, zoom=0.3)
"""Other patients are larger or smaller in their image; what is asked for by a box may be on either side."""


class PlanarTask(ABC):
    """The part of a `napari_sammed.training.fitting.Task` that is about slices.

    Parameters
    ----------
    network : PromptableNetwork
        What is learnt of it has been marked.
    material : Material
    measured : int
        Slices of each structure and image to measure with.
    memory : int
        Bytes for what is kept of slices: their embeddings where the encoder stays as it is, else how it sees them.
    views : int
        Ways in which each slice that is learnt from is seen: as it is, and varied, always in the same ways.

    Raises
    ------
    InputError
        If the material cannot be learnt from.
    """

    centred: ClassVar[bool] = False
    """Whether slices lie in the middle of the network's input."""

    def __init__(
        self, network: PromptableNetwork, material: Material, measured: int, memory: int, views: int = 1
    ) -> None:
        self.network = network
        self.slices = Slices(material)
        self.side: int = network.prompt_encoder.input_size[0]
        self.encoder_stays = not any(parameter.requires_grad for parameter in network.image_encoder.parameters())
        self._measured, self._views, self._kept = measured, views, Kept(memory)
        self._model = self.model(torch.device("cpu"))

    @abstractmethod
    def model(self, device: torch.device) -> Planar:
        """The model that users have, around the network as it is now."""

    @staticmethod
    @abstractmethod
    def nearest(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Resize a mask."""

    @abstractmethod
    def answer(
        self, model: Planar, piece: Slice, embedding: Embedding, values: Sequence[int]
    ) -> Sequence[Sequence[np.ndarray]]:
        """For each kind of prompt the masks, bool, of label values of a slice; prompts are always the same."""

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Mean Dice of what is held out, over kinds of prompts and structures, by the model that users have."""
        model = self._on(device) if self.encoder_stays else self.model(device)

        def answer(piece: Slice, values: Sequence[int]) -> Sequence[Sequence[np.ndarray]]:
            return self.answer(model, piece, self._embedding(model, piece), values)

        return self.slices.measure(answer, self._measured)

    def drawn(self, random: np.random.Generator) -> tuple[Slice, np.ndarray]:
        """A slice, and the mask of something in it as it lies in the network's input, bool of (side, side)."""

        def draw() -> tuple[Slice, np.ndarray]:
            piece, value = self.slices.draw(random)
            if self._views > 1:
                piece = replace(piece, view=int(random.integers(self._views)))
            return piece, self.wanted(piece, value)

        return drawn(draw)

    def planned(self, piece: Slice) -> Region:
        """The region of a slice."""
        return self._model.plan(piece.example.image.grid, Prompts(), piece.box)

    def frame(self, piece: Slice) -> Frame:
        """Where a slice lies in the network's input."""
        return Frame.of(self.planned(piece), self.side, centred=self.centred)

    def wanted(self, piece: Slice, value: int) -> np.ndarray:
        """The mask of a label value as it lies in the network's input, bool of (side, side)."""
        if not piece.view:
            return in_frame(piece.labels == value, self.frame(piece), self.nearest)
        return self._kept.get((*piece.key, piece.view, "labels"), lambda: self._varied(piece)[1]).numpy() == value

    def seen(self, piece: Slice) -> Tensor:
        """A slice as the encoder sees it, (3, side, side); on the CPU."""
        return self._kept.get((*piece.key, piece.view, "seen"), lambda: self._seen(piece))

    def _seen(self, piece: Slice) -> Tensor:
        if piece.view:
            return self._varied(piece)[0]
        image = piece.example.image
        return torch.from_numpy(self._model.slice_input(image, self.planned(piece), Window.auto(image)))

    def _varied(self, piece: Slice) -> tuple[Tensor, Tensor]:
        """Another view of a slice as the encoder sees it, (3, side, side), and its label values there, (side, side)."""
        plain = replace(piece, view=0)
        labels = np.zeros((self.side, self.side), np.int32)
        for value in plain.values:
            labels[self.wanted(plain, value)] = value
        seen = self._seen(plain).numpy().copy()
        part = self.frame(piece).slices  # what lies beyond the slice stays empty
        random = np.random.default_rng([*piece.key, piece.view])
        image, labels[part] = vary_slice(np.moveaxis(seen[:, *part], 0, -1), labels[part], random, _VARIATION)
        seen[:, *part] = np.moveaxis(image, -1, 0).clip(seen.min(), seen.max())
        return torch.from_numpy(seen), torch.from_numpy(labels)

    def features(self, piece: Slice, device: torch.device) -> Tensor:
        """What an encoder that stays as it is makes of a slice, (C, h, w)."""
        return self._embedding(self._on(device), piece).features[0]

    def _on(self, device: torch.device) -> Planar:
        """The model on a device; its encoder is that of when it was made."""
        if self._model.device != device:
            self._model = self.model(device)
        return self._model

    def _embedding(self, model: Planar, piece: Slice) -> Embedding:
        def make() -> Tensor:
            with torch.inference_mode():
                found = model.network.image_encoder(self._seen(piece)[None].to(model.device))
            return found.clone()  # made here, since tensors of inference cannot be learnt from

        key = (*piece.key, piece.view, "features")
        features = self._kept.get(key, make) if self.encoder_stays else make()
        nbytes = features.numel() * features.element_size()
        return Embedding(features, self.planned(piece), piece.example.image.grid, nbytes)
