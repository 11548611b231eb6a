"""What recipes of networks that see slices have in common: how these come to the network, and how it is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
from napari_sammed.training.kept import Kept
from napari_sammed.training.material import Material
from napari_sammed.training.slices import Slice, Slices, drawn, in_frame

Planar = PlanarModel | LiteMedSAM
"""The model that users have around a network."""


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

    Raises
    ------
    InputError
        If the material cannot be learnt from.
    """

    centred: ClassVar[bool] = False
    """Whether slices lie in the middle of the network's input."""

    def __init__(self, network: PromptableNetwork, material: Material, measured: int, memory: int) -> None:
        self.network = network
        self.slices = Slices(material)
        self.side: int = network.prompt_encoder.input_size[0]
        self.encoder_stays = not any(parameter.requires_grad for parameter in network.image_encoder.parameters())
        self._measured, self._kept = measured, Kept(memory)
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
        return in_frame(piece.labels == value, self.frame(piece), self.nearest)

    def seen(self, piece: Slice) -> Tensor:
        """A slice as the encoder sees it, (3, side, side); on the CPU."""
        image = piece.example.image

        def make() -> Tensor:
            return torch.from_numpy(self._model.slice_input(image, self.planned(piece), Window.auto(image)))

        return self._kept.get(piece.key, make)

    def features(self, piece: Slice, device: torch.device) -> Tensor:
        """What an encoder that stays as it is makes of a slice, (C, h, w)."""
        return self._embedding(self._on(device), piece).features[0]

    def _on(self, device: torch.device) -> Planar:
        """The model on a device; its encoder is that of when it was made."""
        if self._model.device != device:
            self._model = self.model(device)
        return self._model

    def _embedding(self, model: Planar, piece: Slice) -> Embedding:
        image, region = piece.example.image, self.planned(piece)

        def make() -> Tensor:
            # A copy made here, since tensors of inference cannot be learnt from.
            return model.embed(image, region, Window.auto(image)).features.clone()

        features = self._kept.get(piece.key, make) if self.encoder_stays else make()
        return Embedding(features, region, image.grid, features.numel() * features.element_size())
