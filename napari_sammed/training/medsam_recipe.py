"""The recipes of MedSAM and LiteMedSAM: boxes on slices, for small data and as published.

Reference sheet ``medsam``, sections 6 and 7; Ma et al., Segment anything in medical images (2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import Embedding
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.medsam import MedSAM
from napari_sammed.models.sam_med2d import resize_nearest
from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.lora import add_updates, names_of_updates
from napari_sammed.training import losses
from napari_sammed.training.material import Material
from napari_sammed.training.planar_task import Planar, PlanarTask
from napari_sammed.training.slices import Slice, nearest_centre

LEARNS = ("decoder", "lora", "all")
"""The mask decoder; with low-rank updates of the encoder's attention; with the whole encoder, as published."""

_UNUSED = tuple(f"mask_decoder.output_hypernetworks_mlps.{number}." for number in (1, 2, 3))
"""Of the decoder's three further readings, which boxes do not ask for."""
_EXPECTED = "mask_decoder.iou_prediction_head."
_OF_BOXES = {f"prompt_encoder.{name}.weight" for name in ("point_embeddings.2", "point_embeddings.3", "no_mask_embed")}


@dataclass(frozen=True)
class BoxSettings:
    """How a network learns from boxes; `MEDSAM` and `LITEMEDSAM` are published, the others below are ours.

    Parameters
    ----------
    learns : {"decoder", "lora", "all"}
        With the first, slices are encoded once and kept, and a step costs little.
    rate, decay : float
        Learning rate, which stays, and decay of weights (AdamW).
    batch : int
        Slices at a step, with a box each.
    jitter : int
        Pixels of the network's input by which each side of a box is moved outward at most, each by its own number.
    flips : bool
        Whether slices are mirrored at random at each draw; not with "decoder", whose slices are encoded once.
    views : int
        Ways in which each slice is seen: as it is, and turned, mirrored, zoomed, coarser, of other grey values.
    rank : int
        Of the updates.
    measured : int
        Slices of each structure and image to measure with.
    memory : int
        Bytes for what is kept of slices: their embeddings, or how the network sees them.
    """

    learns: str = "decoder"
    rate: float = 1e-4
    decay: float = 0.01
    batch: int = 2
    jitter: int = 5
    flips: bool = False
    views: int = 1
    rank: int = 4
    measured: int = 8
    memory: int = 1 << 30

    def check(self) -> None:
        """Refuse what makes no sense; InputError."""
        if self.learns not in LEARNS:
            raise InputError(f"What is learnt is one of {', '.join(LEARNS)}, not {self.learns!r}.")
        if not (self.rate > 0 and min(self.batch, self.views, self.rank, self.measured) > 0):
            raise InputError("Rate, batch, views, rank and the slices to measure with are above 0.")
        if self.decay < 0 or self.jitter < 0 or self.memory < 0:
            raise InputError("Decay, jitter and memory are not negative.")


MEDSAM = BoxSettings("all", rate=1e-4, batch=2, jitter=20)
"""Published; 160 slices at a step on 20 GPUs."""
LITEMEDSAM = BoxSettings("all", rate=5e-5, batch=4, jitter=5, flips=True)
"""Published, but for the rule that makes the rate a tenth smaller when losses stay: a run here ends then. The batch
is ours."""
SMALL_MEDSAM = BoxSettings("decoder", rate=1e-4, batch=2, jitter=20)
SMALL_LITEMEDSAM = BoxSettings("decoder", rate=1e-4, batch=2, jitter=5, views=4)
"""Ours; `docs/training.md` has what a run with several views of few slices brings."""


class BoxTask(PlanarTask):
    """A `napari_sammed.training.fitting.Task`; see `MedSAMTask` and `LiteMedSAMTask`.

    Parameters
    ----------
    network : PromptableNetwork
        With the weights to begin with. What is learnt is marked here, and updates are attached.
    material : Material
        Flat images, or volumes of which slices along the first axis are learnt.
    settings : BoxSettings, optional
        Those for small data without.

    Raises
    ------
    InputError
        If the settings make no sense, or the material cannot be learnt from.
    """

    small: ClassVar[BoxSettings]
    scored: ClassVar[bool]
    """Whether the network learns what IoU to expect of its masks."""
    inside: ClassVar[int]
    """How many pixels short of the input's side a box has to end."""

    def __init__(self, network: PromptableNetwork, material: Material, settings: BoxSettings | None = None) -> None:
        self.settings = settings or self.small
        self.settings.check()
        if self.settings.learns == "lora":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # so that equal runs begin alike
                add_updates(network.image_encoder, self.settings.rank)
        mark(network, self.settings.learns, self.scored)
        settings = self.settings
        super().__init__(network, material, settings.measured, settings.memory, settings.views)

    def optimizer(self) -> torch.optim.Optimizer:
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(learnt, self.settings.rate, weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        return self.settings.rate

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        seen, boxes, masks = zip(*(self.example(random, device) for _ in range(self.settings.batch)), strict=True)
        features = torch.stack(seen).to(device)
        if not self.encoder_stays:
            features = self.network.image_encoder(features)
        wanted = torch.from_numpy(np.stack(masks))[:, None].to(device)
        yield self.loss(features, torch.from_numpy(np.stack(boxes)).to(device), wanted)

    def example(self, random: np.random.Generator, device: torch.device) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """A slice as the encoder sees it, or what it makes of it; a box, x0 y0 x1 y1; and the mask that is wanted."""
        piece, mask = self.drawn(random)
        seen = self.features(piece, device) if self.encoder_stays else self.seen(piece)
        if self.settings.flips and not self.encoder_stays:
            seen, mask = _mirrored(seen, mask, random)
        return seen, jittered(mask, self.settings.jitter, self.inside, random), mask

    def loss(self, features: Tensor, boxes: Tensor, masks: Tensor) -> losses.Loss:
        """Of the answers to a box on each slice.

        Parameters
        ----------
        features : Tensor
            (B, C, h, w), of the image encoder.
        boxes : Tensor
            (B, 4), x0 y0 x1 y1 in the network's input.
        masks : Tensor
            (B, 1, side, side), 0 and 1.
        """
        sparse, dense = self.network.prompt_encoder(points=None, boxes=boxes.float(), masks=None)
        logits, expected = self.network.mask_decoder(
            image_embeddings=features,
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        logits = F.interpolate(logits.float(), masks.shape[-2:], mode="bilinear", align_corners=False)
        if self.scored:
            return losses.box_masks_and_scores(logits, masks, expected.float())
        return losses.box_masks(logits, masks)

    def answer(
        self, model: Planar, piece: Slice, embedding: Embedding, values: Sequence[int]
    ) -> Sequence[Sequence[np.ndarray]]:
        """With boxes as loose as those that are learnt from."""
        boxes = [self._loose_box(piece, value) for value in values]
        masks = (model.restore(logits) > 0 for logits in model.decode_boxes(embedding, boxes))
        return [[mask.reshape(piece.labels.shape) for mask in masks]]

    def _loose_box(self, piece: Slice, value: int) -> Box:
        """A box of the image around a structure, each side moved outward by a number that depends on nothing else."""
        random = np.random.default_rng([piece.key[0] % (1 << 32), piece.key[1], value])
        tight, frame = Box.of_mask(piece.labels == value), self.frame(piece)
        low, high = list(piece.box.low), list(piece.box.high)
        for axis, at, size, samples in zip(frame.axes, (0, 1), frame.size, frame.shape, strict=True):
            most = round(self.settings.jitter * size / samples)
            low[axis] = max(tight.low[at] - int(random.integers(most + 1)), 0)
            high[axis] = min(tight.high[at] + int(random.integers(most + 1)), size)
        return Box(tuple(low), tuple(high))


def mark(network: PromptableNetwork, learns: str, scored: bool) -> None:
    """Have learnt what the settings say, but for what boxes never use; see `BoxSettings` and `BoxTask`."""
    updates = names_of_updates(network)
    for name, parameter in network.named_parameters():
        if name.startswith("mask_decoder."):
            chosen = not name.startswith(_UNUSED) and (scored or not name.startswith(_EXPECTED))
        elif name.startswith("image_encoder."):
            chosen = learns == "all" or name in updates
        else:
            chosen = scored and learns == "all" and name in _OF_BOXES
        parameter.requires_grad_(chosen)


class MedSAMTask(BoxTask):
    """MedSAM's recipe, for networks of SAM's make."""

    small = SMALL_MEDSAM
    scored = False
    inside = 0
    nearest = staticmethod(nearest_centre)

    def model(self, device: torch.device) -> MedSAM:
        return MedSAM(self.network, device=device)


class LiteMedSAMTask(BoxTask):
    """LiteMedSAM's recipe."""

    small = SMALL_LITEMEDSAM
    scored = True
    inside = 1
    nearest = staticmethod(resize_nearest)

    def model(self, device: torch.device) -> LiteMedSAM:
        return LiteMedSAM(self.network, device=device)


def jittered(mask: np.ndarray, most: int, inside: int, random: np.random.Generator) -> np.ndarray:
    """A box around a mask, float32 x0 y0 x1 y1 of its first and last pixels, each side moved outward by 0 to `most`.

    Parameters
    ----------
    mask : ndarray of bool
        (side, side), in the network's input.
    most : int
    inside : int
        Pixels short of the side at which boxes end.
    random : Generator
    """
    tight = Box.of_mask(mask)
    moved = random.integers(0, most, size=4, endpoint=True)
    limit = mask.shape[0] - inside
    (y0, x0), (y1, x1) = tight.low, tight.high
    corners = (x0 - moved[0], y0 - moved[1], x1 - 1 + moved[2], y1 - 1 + moved[3])
    return np.clip(corners, 0, limit).astype(np.float32)


def _mirrored(seen: Tensor, mask: np.ndarray, random: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    axes = [axis for axis in (-1, -2) if random.random() < 0.5]
    return seen.flip(axes), np.ascontiguousarray(np.flip(mask, axes))
