"""A small encoder learns the embeddings of a large one: LiteMedSAM's those of MedSAM or SAM.

Reference sheet ``medsam``, section 7: the squared error between embeddings, at a rate of 5e-4. The sheet does not say
how the two encoders saw a slice. Here the teacher sees what the pupil sees, only finer: the longest side fills its
input, the rest is zeros, so that one place of both embeddings is one place of the slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Region
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.assembly import assemble
from napari_sammed.models.base import Embedding
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.medsam import MedSAM
from napari_sammed.models.planar import PlanarModel
from napari_sammed.models.planes import fitted_shape, plane_of
from napari_sammed.models.sam import SAM
from napari_sammed.models.sam_med2d import resize_nearest
from napari_sammed.models.weights import obtain
from napari_sammed.networks import PromptableNetwork
from napari_sammed.training import losses
from napari_sammed.training.kept import Kept
from napari_sammed.training.material import Material
from napari_sammed.training.planar_task import Planar, PlanarTask
from napari_sammed.training.slices import Slice

TEACHERS = ("medsam", "sam-vit-b", "sam-vit-l", "sam-vit-h")
"""Registry names of networks that can teach."""


@dataclass(frozen=True)
class DistillingSettings:
    """How embeddings are learnt.

    Parameters
    ----------
    teacher : str
        One of `TEACHERS`.
    rate : float
        Published.
    decay : float
        Of weights (AdamW), as in LiteMedSAM's recipe.
    batch : int
        Slices at a step; ours.
    measured : int
        Slices of each structure and image to measure with.
    memory : int
        Bytes for the teacher's embeddings, which take much longer to make than a step; half as much again is kept of
        what the pupil sees.
    """

    teacher: str = "medsam"
    rate: float = 5e-4
    decay: float = 0.01
    batch: int = 4
    measured: int = 8
    memory: int = 1 << 30

    def check(self) -> None:
        """Refuse what makes no sense; InputError."""
        if self.teacher not in TEACHERS:
            raise InputError(f"One of {', '.join(TEACHERS)} can teach, not {self.teacher!r}.")
        if not (self.rate > 0 and self.batch > 0 and self.measured > 0 and self.decay >= 0 and self.memory >= 0):
            raise InputError("Rate, batch and the slices to measure with are above 0, decay and memory not below.")


class DistillingTask(PlanarTask):
    """A `napari_sammed.training.fitting.Task`.

    The pupil takes over the teacher's prompt encoder and mask decoder, which do not change, and are kept with what is
    learnt: embeddings of the teacher's make need them. LiteMedSAM's recipe can go on from there.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("litemedsam")`` with the weights to begin with.
    material : Material
        Its labels are needed to measure with, and to draw slices with something in them.
    settings : DistillingSettings, optional
    teacher : PromptableNetwork, optional
        The teacher with its weights; without, they are looked for as for any use of it, and fetched if need be.

    Raises
    ------
    InputError
        If the settings make no sense, the material cannot be learnt from, or the embeddings are of other shapes.
    WeightsError
        If the teacher's weights cannot be had.
    """

    nearest = staticmethod(resize_nearest)

    def __init__(
        self,
        network: PromptableNetwork,
        material: Material,
        settings: DistillingSettings | None = None,
        teacher: PromptableNetwork | None = None,
    ) -> None:
        self.settings = settings or DistillingSettings()
        self.settings.check()
        if teacher is None:
            card = registry.card(self.settings.teacher)
            teacher = assemble(card, obtain(card)).network
        _take_over(network, teacher)
        super().__init__(network, material, self.settings.measured, self.settings.memory // 2)
        self._teacher, self._make = teacher, MedSAM if self.settings.teacher == "medsam" else SAM
        self._teaching: PlanarModel = self._make(teacher)
        self._taught = Kept(self.settings.memory)

    def model(self, device: torch.device) -> LiteMedSAM:
        return LiteMedSAM(self.network, device=device)

    def optimizer(self) -> torch.optim.Optimizer:
        encoder = self.network.image_encoder.parameters()
        return torch.optim.AdamW(encoder, self.settings.rate, weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        return self.settings.rate

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        pieces = [self.drawn(random)[0] for _ in range(self.settings.batch)]
        wanted = torch.stack([self.taught(piece, device) for piece in pieces])
        found = self.network.image_encoder(torch.stack([self.seen(piece) for piece in pieces]).to(device))
        error = (found.float() - wanted).square().mean()
        yield losses.Loss(error, {"error": float(error.detach())})

    def taught(self, piece: Slice, device: torch.device) -> Tensor:
        """The teacher's embedding of a slice, (C, h, w)."""
        if self._teaching.device != device:
            self._teaching = self._make(self._teacher, device=device)
        teaching, image = self._teaching, piece.example.image

        def make() -> Tensor:
            region = self._for_teacher(piece)
            pixels = teaching.slice_input(image, region, Window.auto(image))
            seen = np.zeros((3, teaching.side, teaching.side), np.float32)
            seen[:, : pixels.shape[1], : pixels.shape[2]] = pixels
            with torch.inference_mode():
                features = teaching.network.image_encoder(torch.from_numpy(seen)[None].to(device))[0]
            return features.float().clone()

        return self._taught.get(piece.key, make)

    def answer(
        self, model: Planar, piece: Slice, embedding: Embedding, values: Sequence[int]
    ) -> Sequence[Sequence[np.ndarray]]:
        """With tight boxes."""
        boxes = []
        for value in values:
            tight = Box.of_mask(piece.labels == value)
            place = piece.box.low[0]
            boxes.append(tight if embedding.image.ndim == 2 else Box((place, *tight.low), (place + 1, *tight.high)))
        masks = (model.restore(logits) > 0 for logits in model.decode_boxes(embedding, boxes))
        return [[mask.reshape(piece.labels.shape) for mask in masks]]

    def _for_teacher(self, piece: Slice) -> Region:
        grid, box = piece.example.image.grid, piece.box
        plane = plane_of(grid, box)
        shape = [1] * grid.ndim
        for axis, size in zip(plane.axes, fitted_shape(plane, self._teaching.side), strict=True):
            shape[axis] = size
        return Region.of_box(grid, box, shape)


def _take_over(network: PromptableNetwork, teacher: PromptableNetwork) -> None:
    """Give a pupil its teacher's prompt encoder and decoder; all of the pupil is marked, so that all is kept."""
    if network.prompt_encoder.embedding_size != teacher.prompt_encoder.embedding_size:
        raise InputError(
            f"The pupil's embeddings have a grid of {network.prompt_encoder.embedding_size}, the teacher's of "
            f"{teacher.prompt_encoder.embedding_size}: they have to be the same."
        )
    for own, other in (
        (network.prompt_encoder, teacher.prompt_encoder),
        (network.mask_decoder, teacher.mask_decoder),
    ):
        own.load_state_dict(other.state_dict())
    network.requires_grad_(True)
    teacher.requires_grad_(False)
