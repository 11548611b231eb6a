"""SAM-Med3D's recipe: objects in cubes of 192 mm, found in rounds of clicks on what is still wrong.

Reference sheet ``sam_med3d``, sections 4, 5 and 8; Wang et al., SAM-Med3D (2023), and the released training script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.evaluation.clicks import innermost, next_click
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models.sam_med3d import SAMMed3D
from napari_sammed.networks import PromptableNetwork, optimized
from napari_sammed.prompts import Point, Prompts
from napari_sammed.training import cube_draws, losses
from napari_sammed.training.kept import Kept
from napari_sammed.training.material import Example, Material
from napari_sammed.training.objects import Objects
from napari_sammed.training.schedules import stepped

_FOUND = 0.5  # logits above it count as found while learning, where clicks are drawn; as published
_AS_IS = Window.preset("as-is")
LEARNS = ("all", "decoder")
"""All, as published; prompt encoder and mask decoder, with the image encoder as it is."""


@dataclass(frozen=True)
class SamMed3dSettings:
    """The published constants.

    Parameters
    ----------
    learns : {"all", "decoder"}
        With the second, what the image encoder says of a cube is computed once and kept.
    rate : float
        Of the image encoder; of the published fine-tuning (from random weights it was 8e-4).
    share : float
        Rate of prompt encoder and mask decoder, in that of the image encoder.
    steps : int
        Of the whole run; 200 times about 75 000 masks, as turbo was fine-tuned.
    falls : tuple of float
        Shares of the run after which the rate falls to a tenth; published after epochs 120 and 180 of 200.
    decay : float
        Of weights.
    batch : int
        Cubes at once. With batches of one and 12 times as much accumulation gradients are the same, in less memory.
    accumulate : int
        Batches at a step, for `napari_sammed.training.fitting.Run`.
    rounds : int
        Of an object, the first one with a click anywhere inside.
    without_click : tuple of int
        First and last of the rounds (0-based) of which one, drawn by lot, has no click but the answer before alone; the
        last round has none either.
    all_clicks : bool
        Whether a round is told all clicks so far, instead of the newest one.
    least : int
        Samples of 1.5 mm; objects with so many or fewer in their cube are left out.
    ct_limits : tuple of float or None
        To which grey values of CT are cut, for images of which that is known.
    mirrored : bool
        Cubes are mirrored at random along each axis.
    kept : int
        Bytes of memory for what the encoder says of cubes, where it does not learn.
    measured, clicks : int
        Objects of each structure to measure with, and clicks on each: the first one innermost, further ones innermost
        in the largest mistake.
    """

    learns: str = "all"
    rate: float = 8e-5
    share: float = 0.1
    steps: int = 62_500
    falls: tuple[float, ...] = (0.6, 0.9)
    decay: float = 0.1
    batch: int = 12
    accumulate: int = 20
    rounds: int = 11
    without_click: tuple[int, int] = (2, 8)
    all_clicks: bool = False
    least: int = 1000
    ct_limits: tuple[float, float] | None = (-1000, 1000)
    mirrored: bool = True
    kept: int = 1 << 30
    measured: int = 20
    clicks: int = 1

    def check(self) -> None:
        """Refuse what makes no sense; InputError."""
        if self.learns not in LEARNS:
            raise InputError(f'What learns is one of {", ".join(LEARNS)}, not "{self.learns}".')
        for name in ("batch", "rounds", "measured", "clicks"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, not {getattr(self, name)}.")


PUBLISHED = SamMed3dSettings()
SMALL = SamMed3dSettings(learns="decoder", rate=1e-3, steps=200, batch=2, accumulate=1, measured=5)
"""For small data and computers without a GPU: ours."""


class SamMed3dTask:
    """A `napari_sammed.training.fitting.Task`.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("sam-med3d")`` with its weights loaded; what is learnt is marked here.
    material : Material
        Volumes.
    settings : SamMed3dSettings, optional

    Raises
    ------
    InputError
        For settings that make no sense, flat images, and if no object is large enough.
    """

    def __init__(
        self, network: PromptableNetwork, material: Material, settings: SamMed3dSettings | None = None
    ) -> None:
        self.network = network
        self.settings = settings or PUBLISHED
        self.settings.check()
        self._side = network.prompt_encoder.input_size[0]
        self._objects = Objects(material, "SAM-Med3D", self._unfit)
        self._numbers = {id(example): number for number, example in enumerate(material.train)}
        self._kept = Kept(self.settings.kept)
        self._still: tuple[torch.device, PromptableNetwork] | None = None
        mark(network, self.settings.learns)

    def _unfit(self, example: Example, value: int, box: Box) -> str:
        found = cube_draws.target(example, value, box, self._side)
        size = 0 if found is None else int(found.mask.sum())
        least = self.settings.least
        return "" if size > least else f"{size} samples of 1.5 mm are not more than {least}"

    def optimizer(self) -> torch.optim.Optimizer:
        encoder, rest = [], []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                (encoder if name.startswith("image_encoder.") else rest).append(parameter)
        groups = [{"params": encoder}] if encoder else []
        groups.append({"params": rest, "share": self.settings.share})
        return torch.optim.AdamW(groups, self.settings.rate, (0.9, 0.999), weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        return stepped(step, self.settings.rate, self.settings.steps, falls=self.settings.falls)

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        drawn = [self._drawn(random, device) for _ in range(self.settings.batch)]
        seen, masks = zip(*drawn, strict=True)
        features = torch.cat(seen)
        if self.settings.learns == "all":
            features = self.network.image_encoder(features)
        wanted = torch.from_numpy(np.stack(masks))[:, None].to(device)
        each = [losses.box_masks(logits.float(), wanted) for logits in self.rounds(features, np.stack(masks), random)]
        total = torch.stack([loss.total for loss in each]).sum()
        yield losses.Loss(total, {"first": each[0].total.item(), "last": each[-1].total.item()})

    def _drawn(self, random: np.random.Generator, device: torch.device) -> tuple[Tensor, np.ndarray]:
        """What the network, or the part of it that learns, sees of an object; and its mask, (side, side, side)."""
        example, value, box = self._objects.draw(random)
        axes = tuple(np.flatnonzero(random.random(3) < 0.5).tolist()) if self.settings.mirrored else ()
        key = self._numbers[id(example)], value

        @cache
        def target() -> cube_draws.Target:
            return cast(cube_draws.Target, cube_draws.target(example, value, box, self._side))

        def cube() -> Tensor:
            samples = cube_draws.samples(example, target().region, self.settings.ct_limits)
            return torch.from_numpy(cube_draws.mirrored(samples, axes))[None, None].to(device)

        if self.settings.learns == "all":
            return cube(), cube_draws.mirrored(target().mask, axes)
        bits = self._kept.get(key, lambda: torch.from_numpy(np.packbits(target().mask)))
        features = self._kept.get((*key, axes), lambda: self._encoder(device)(cube()).float().cpu())
        mask = np.unpackbits(bits.numpy()).astype(bool).reshape([self._side] * 3)
        return features.to(device), cube_draws.mirrored(mask, axes)

    def _encoder(self, device: torch.device) -> torch.nn.Module:
        """The image encoder, where it does not learn, in its faster form."""
        if self._still is None or self._still[0] != device:
            self._still = device, optimized(self.network)
        return self._still[1].image_encoder

    def rounds(self, features: Tensor, masks: np.ndarray, random: np.random.Generator) -> Iterator[Tensor]:
        """Answers round by round, each with the one before as its mask prompt.

        Parameters
        ----------
        features : Tensor
            (B, C, g, g, g), of the image encoder.
        masks : ndarray of bool
            (B, side, side, side), of the objects.
        random : Generator

        Yields
        ------
        Tensor
            Logits, (B, 1, side, side, side); gradients go through all rounds.
        """
        low = features.new_zeros((len(masks), 1, *self.network.prompt_encoder.mask_input_size))
        found = np.zeros(masks.shape, bool)
        clicks: list[tuple[Tensor, Tensor]] = []
        first, last = self.settings.without_click
        left_out = int(random.integers(first, last + 1))
        for number in range(self.settings.rounds):
            points, labels = cube_draws.clicked(found, masks, random)
            clicks.append((torch.from_numpy(points).to(features.device), torch.from_numpy(labels).to(features.device)))
            said = clicks if self.settings.all_clicks else clicks[-1:]
            mute = number in (left_out, self.settings.rounds - 1) and number > 0
            low = self._answers(features, low, [] if mute else said)
            logits = F.interpolate(low, masks.shape[1:], mode="trilinear", align_corners=False)
            found = logits.detach()[:, 0].float().cpu().numpy() > _FOUND
            yield logits

    def _answers(self, features: Tensor, before: Tensor, clicks: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        prompt_encoder = self.network.prompt_encoder
        points = None
        if clicks:
            points = torch.cat([places for places, _ in clicks], 1), torch.cat([labels for _, labels in clicks], 1)
        sparse, dense = prompt_encoder(points=points, masks=before)
        low, _ = self.network.mask_decoder(
            image_embeddings=features,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return low

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Dice after a click, or some, as a user of the model would have it; see `Objects.measure`."""
        model = SAMMed3D(self.network, device=device)

        def answer(example: Example, value: int, box: Box) -> tuple[np.ndarray, Box]:
            grid = example.image.grid
            inside = innermost(np.asarray(example.labels[box.slices]) == value, grid.spacing)
            clicks = [Point(tuple(i + low for i, low in zip(inside, box.low, strict=True)))]
            region = model.plan(grid, Prompts(tuple(clicks)), None)
            embedding = model.embed(example.image, region, _AS_IS)
            logits = None
            while True:
                logits = model.decode(embedding, Prompts(tuple(clicks)), logits)
                mask = model.restore(logits) > 0
                if len(clicks) == self.settings.clicks:
                    break
                click = next_click(mask, np.asarray(example.labels[region.box.slices]) == value, grid.spacing)
                if click is None:
                    break
                place = tuple(i + low for i, low in zip(click.index, region.box.low, strict=True))
                clicks.append(Point(place, click.positive))
            return mask, region.box

        return self._objects.measure(answer, self.settings.measured)


def mark(network: PromptableNetwork, learns: str = "all") -> None:
    """Have learnt what the published script changes to some end.

    Without what its loss does not reach: the code for "no mask", which is never said, the estimate of the IoU, and the
    masks of an ambiguous prompt.
    """
    unused = (
        "prompt_encoder.no_mask_embed.",
        "mask_decoder.iou_prediction_head.",
        *(f"mask_decoder.output_hypernetworks_mlps.{n}." for n in range(1, network.mask_decoder.num_mask_tokens)),
    )
    for name, parameter in network.named_parameters():
        still = learns == "decoder" and name.startswith("image_encoder.")
        parameter.requires_grad_(not still and not name.startswith(unused))
