"""SAM-Med2D's recipe: points, boxes and masks on slices, learnt by adapters, in rounds of corrections.

Reference sheet ``sam_med2d``, section 6; Cheng et al., SAM-Med2D (2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import Embedding
from napari_sammed.models.sam_med2d import SAMMed2D, resize_nearest
from napari_sammed.networks import PromptableNetwork
from napari_sammed.prompts import Point, Prompts
from napari_sammed.training import losses
from napari_sammed.training.material import Material
from napari_sammed.training.planar_task import Planar, PlanarTask
from napari_sammed.training.simulated_prompts import correcting_points, first_points, shifted_boxes
from napari_sammed.training.slices import Slice

_CLICKS = (1, 3, 5, 9)  # at a round
_OF_POINTS = ("point_embeddings.0.", "point_embeddings.1.", "not_a_point_embed.")

Asked = tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]
"""Points and their labels, boxes, masks; as `networks.PromptEncoder` takes them."""


@dataclass(frozen=True)
class SamMed2dSettings:
    """The published constants.

    Parameters
    ----------
    rate : float
        Learning rate (Adam, no decay of weights).
    halved_every : int
        Steps after which the rate is halved, 0 for never. Published, but not switched on, as 5 epochs of 15.
    batch : int
        Slices at a step.
    masks : int
        Drawn for each of them, with replacement.
    rounds : int
        Of corrections after the first answer; the optimizer makes a step after each.
    jitter : int
        Pixels of the network's input by which a box is shifted at most.
    adapters : bool
        Whether those learn; else only the prompt encoder and the mask decoder, and slices are encoded once and kept.
    published_freezing : bool
        As in the published code, where the embeddings of points never learn: they are made anew at each call, and the
        optimizer holds the old ones.
    measured : int
        Slices of each structure and image to measure with.
    memory : int
        Bytes for what is kept of slices.
    """

    rate: float = 1e-4
    halved_every: int = 0
    batch: int = 2
    masks: int = 5
    rounds: int = 8
    jitter: int = 5
    adapters: bool = True
    published_freezing: bool = False
    measured: int = 8
    memory: int = 1 << 30

    def check(self) -> None:
        """Refuse what makes no sense; InputError."""
        if not (self.rate > 0 and self.batch > 0 and self.masks > 0 and self.measured > 0):
            raise InputError("Rate, batch, masks and the slices to measure with are above 0.")
        if self.halved_every < 0 or self.rounds < 0 or self.jitter < 0 or self.memory < 0:
            raise InputError("Steps, rounds, jitter and memory are not negative.")


class SamMed2dTask(PlanarTask):
    """A `napari_sammed.training.fitting.Task`.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("sam-med2d")`` with the weights to begin with; what is learnt is marked here.
    material : Material
        Flat images, or volumes of which slices along the first axis are learnt.
    settings : SamMed2dSettings, optional

    Raises
    ------
    InputError
        If the settings make no sense, the material cannot be learnt from, or there are no adapters to learn.
    """

    centred = True
    nearest = staticmethod(resize_nearest)

    def __init__(
        self, network: PromptableNetwork, material: Material, settings: SamMed2dSettings | None = None
    ) -> None:
        self.settings = settings or SamMed2dSettings()
        self.settings.check()
        mark(network, self.settings)
        super().__init__(network, material, self.settings.measured, self.settings.memory)
        if self.settings.adapters and self.encoder_stays:
            raise InputError("These weights have no adapters to learn: learn without, or begin with others.")

    def model(self, device: torch.device) -> SAMMed2D:
        return SAMMed2D(self.network, device=device)

    def optimizer(self) -> torch.optim.Optimizer:
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.optim.Adam(learnt, self.settings.rate)

    def rate(self, step: int) -> float:
        return self.settings.rate * 0.5 ** (step // self.settings.halved_every if self.settings.halved_every else 0)

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        """The first answer, of which all learn, then corrections of it, of which the decoder learns."""
        old = np.random.RandomState(int(random.integers(1 << 32)))  # as the simulated prompts are published
        pieces, masks = zip(*(self._example(random) for _ in range(self.settings.batch)), strict=True)
        wanted = np.concatenate(masks)
        target = torch.from_numpy(wanted)[:, None].to(device)
        features = self._encoded(pieces, device)
        asked = self.first_prompts(wanted, bool(old.randint(2)), old, device)
        low, loss = self.round(features, asked, target)
        yield loss
        features = features.detach()
        bare = self.rounds_without_clicks(old)
        for number in range(self.settings.rounds):
            asked = self.correction(low, wanted, old, clicks=number not in bare)
            low, loss = self.round(features, asked, target, learns_prompts=False)
            yield loss

    def round(
        self, features: Tensor, asked: Asked, wanted: Tensor, *, learns_prompts: bool = True
    ) -> tuple[Tensor, losses.Loss]:
        """The best of three answers to each prompt, logits of (B, 1, side / 4, side / 4), and the loss.

        Parameters
        ----------
        features : Tensor
            (B, C, h, w), of the image encoder.
        asked : tuple
        wanted : Tensor
            (B, 1, side, side), 0 and 1.
        learns_prompts : bool
            Whether the prompt encoder learns.
        """
        points, boxes, masks = asked
        with torch.set_grad_enabled(learns_prompts and torch.is_grad_enabled()):
            sparse, dense = self.network.prompt_encoder(points=points, boxes=boxes, masks=masks)
        three, expected = self.network.mask_decoder(
            image_embeddings=features,
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return self.loss(three.float(), expected.float(), wanted)

    @staticmethod
    def loss(logits: Tensor, expected: Tensor, wanted: Tensor) -> tuple[Tensor, losses.Loss]:
        """The answer of the highest expected IoU of each row, without gradients, and its loss at full size."""
        best = expected.argmax(1, keepdim=True)
        low = logits.gather(1, best[..., None, None].expand(-1, -1, *logits.shape[-2:]))
        large = F.interpolate(low, wanted.shape[-2:], mode="bilinear", align_corners=False)
        return low.detach(), losses.prompted_masks(large, wanted, expected.gather(1, best))

    def first_prompts(
        self, wanted: np.ndarray, boxes: bool, random: np.random.RandomState, device: torch.device
    ) -> Asked:
        """For each mask, (B, side, side), a shifted box around its largest piece, or a point anywhere in it."""
        if boxes:
            found = np.concatenate([shifted_boxes(mask, 1, self.settings.jitter, random) for mask in wanted])
            return None, _tensor(found, device), None
        points, labels = zip(*(first_points(mask, 1, random) for mask in wanted), strict=True)
        return (_tensor(np.stack(points), device), _tensor(np.stack(labels), device)), None, None

    def rounds_without_clicks(self, random: np.random.RandomState) -> set[int]:
        """The last round, and one that is drawn among those after the first."""
        last = self.settings.rounds - 1
        return {last, random.randint(1, last)} if last > 1 else {last}

    def correction(self, low: Tensor, wanted: np.ndarray, random: np.random.RandomState, *, clicks: bool) -> Asked:
        """The last answer as a mask, with some clicks on what is wrong with it.

        Parameters
        ----------
        low : Tensor
            Logits of the last answer, (B, 1, side / 4, side / 4).
        wanted : ndarray of bool
            (B, side, side).
        random : RandomState
        clicks : bool
        """
        if not clicks:
            return None, None, low.sigmoid()
        count = _CLICKS[random.randint(len(_CLICKS))]
        large = F.interpolate(low, wanted.shape[-2:], mode="bilinear", align_corners=False)
        points, labels = correcting_points(large[:, 0].cpu().numpy() > 0, wanted, count, random)
        return (_tensor(points, low.device), _tensor(labels, low.device)), None, low.sigmoid()

    def answer(
        self, model: Planar, piece: Slice, embedding: Embedding, values: Sequence[int]
    ) -> Sequence[Sequence[np.ndarray]]:
        """With boxes around structures, and with a click in the middle of each."""
        boxed, clicked = [], []
        for value in values:
            mask = piece.labels == value
            tight = Box.of_mask(mask)
            index = _middle(mask)
            if len(piece.box.low) == 3:
                place = piece.box.low[0]
                tight = Box((place, *tight.low), (place + 1, *tight.high))
                index = (place, *index)
            boxed.append(model.decode(embedding, Prompts((tight,)), None))
            clicked.append(model.decode(embedding, Prompts((Point(index),)), None))
        return [
            [(model.restore(logits) > 0).reshape(piece.labels.shape) for logits in each] for each in (boxed, clicked)
        ]

    def _example(self, random: np.random.Generator) -> tuple[Slice, np.ndarray]:
        """A slice, and masks of what is in it, (masks, side, side)."""
        piece, first = self.drawn(random)
        present = [mask for mask in (self.wanted(piece, value) for value in piece.values) if mask.any()] or [first]
        return piece, np.stack([present[number] for number in random.integers(len(present), size=self.settings.masks)])

    def _encoded(self, pieces: Sequence[Slice], device: torch.device) -> Tensor:
        """(slices x masks, C, h, w)."""
        if self.encoder_stays:
            features = torch.stack([self.features(piece, device) for piece in pieces])
        else:
            features = self.network.image_encoder(torch.stack([self.seen(piece) for piece in pieces]).to(device))
        return features.repeat_interleave(self.settings.masks, 0)


def mark(network: PromptableNetwork, settings: SamMed2dSettings) -> None:
    """Have learnt the adapters, the prompt encoder and the mask decoder, but for what never gets a gradient.

    That is the reading of prompts that is never asked for, and what takes masks in: the prompt encoder does not learn
    in the rounds with masks.
    """
    for name, parameter in network.named_parameters():
        part, _, rest = name.partition(".")
        if part == "image_encoder":
            chosen = settings.adapters and ".Adapter." in name
        elif part == "prompt_encoder":
            chosen = not rest.startswith("mask_downscaling.")
            chosen = chosen and not (settings.published_freezing and rest.startswith(_OF_POINTS))
        else:
            chosen = not rest.startswith("output_hypernetworks_mlps.0.")
        parameter.requires_grad_(chosen)


def _middle(mask: np.ndarray) -> tuple[int, ...]:
    """The pixel farthest from the edge of a mask."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return tuple(int(number) for number in np.unravel_index(depth.argmax(), mask.shape))


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)
