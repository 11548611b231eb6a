"""SegVol's recipe without texts: points and boxes in CT volumes, beside real masks pieces of like grey values.

Reference sheet ``segvol``, section 7; Du et al., SegVol (2023), and the released training script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import zooming
from napari_sammed.models.base import Embedding
from napari_sammed.models.segvol import SegVol
from napari_sammed.models.segvol_published import published
from napari_sammed.models.segvol_windows import measured
from napari_sammed.networks import SegVolNetwork
from napari_sammed.prompts import Prompts
from napari_sammed.training import losses, pseudo_masks, window_draws
from napari_sammed.training.kept import Kept
from napari_sammed.training.material import Example, Material
from napari_sammed.training.objects import Objects
from napari_sammed.training.schedules import warmed_cosine
from napari_sammed.training.window_draws import Look, View

LEARNS = ("all", "decoder")
"""All but the text branch, as published; prompt encoder and mask decoder, with the image encoder as it is."""

SETS = (("points",), ("box",), ("points", "box"))
"""What the network is asked of each object, without texts."""

_PUBLISHED_SETS = 6  # those without a text and as many with one, or with nothing else
_PSEUDO_SETS = 6
_AS_IS = Window.preset("as-is")


@dataclass(frozen=True)
class SegVolSettings:
    """How SegVol learns; the values are the published ones.

    The published script adds the losses of six sets of prompts, all of which it uses at each step: points, a box, both,
    a text, and points or a box with a text. Without texts points, box and both are left. Each of these counts twice, so
    that together they weigh as much against the pieces of like grey values as the six did.

    Parameters
    ----------
    learns : {"all", "decoder"}
    rate : float
        The highest one.
    steps : int
        After which it would be 0; 500 epochs of about 149 000 masks, of which four fifths are learnt from, 32 a step.
    rise : float
        Share of the steps in which the rate rises; 10 epochs.
    decay : float
        Of weights.
    batch : int
        Windows at once.
    accumulate : int
        Batches at a step, for `napari_sammed.training.fitting.Run`; published were eight devices.
    whole : float
        Share of the windows that show a whole volume; the others show a part one to one.
    flip, change, much : float
        How what is seen is varied, see `napari_sammed.training.window_draws.Look`.
    pseudo : float
        Weight of what is learnt from pieces of like grey values; 0 for nothing, and no time spent on them.
    kept : int
        Bytes of memory for these pieces, which take seconds to find in a volume.
    least : int
        Voxels of the image; smaller objects are left out.
    measured : int
        Objects of each structure to measure with, by the box of each.
    zoomed_in : bool
        Whether measuring looks closer where the whole volume in one window gave an answer, as published; that takes
        many windows.
    """

    learns: str = "all"
    rate: float = 1e-4
    steps: int = 1_860_000
    rise: float = 0.02
    decay: float = 1e-5
    batch: int = 4
    accumulate: int = 8
    whole: float = 0.5
    flip: float = 0.2
    change: float = 0.1
    much: float = 0.1
    pseudo: float = 0.1
    kept: int = 1 << 30
    least: int = 10
    measured: int = 20
    zoomed_in: bool = False

    def check(self) -> None:
        """Refuse what makes no sense; InputError."""
        if self.learns not in LEARNS:
            raise InputError(f'What learns is one of {", ".join(LEARNS)}, not "{self.learns}".')
        for name in ("batch", "steps", "measured", "least"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, not {getattr(self, name)}.")
        for name in ("whole", "rise", "flip", "change"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a share, 0 to 1, not {getattr(self, name)}.")


PUBLISHED = SegVolSettings()
SMALL = SegVolSettings(learns="decoder", steps=200, batch=1, accumulate=1, measured=5)
"""For small data and one device: ours."""


class SegVolTask:
    """A `napari_sammed.training.fitting.Task`.

    Parameters
    ----------
    network : SegVolNetwork
        ``networks.create("segvol")`` with its weights loaded; what is learnt is marked here.
    material : Material
        Volumes.
    settings : SegVolSettings, optional

    Raises
    ------
    InputError
        For settings that make no sense, flat images, and if no object is large enough.
    """

    def __init__(self, network: SegVolNetwork, material: Material, settings: SegVolSettings | None = None) -> None:
        self.network = network
        self.settings = settings or PUBLISHED
        self.settings.check()
        self._window = tuple(network.prompt_encoder.input_size)
        self._objects = Objects(material, "SegVol", self._unfit)
        self._numbers = {id(example): number for number, example in enumerate(material.train)}
        self._look = Look(self.settings.flip, self.settings.change, self.settings.much)
        self._pieces = Kept(self.settings.kept)
        mark(network, self.settings.learns)

    def _unfit(self, example: Example, value: int, box: Box) -> str:
        size, least = int((np.asarray(example.labels[box.slices]) == value).sum()), self.settings.least
        if size < least:
            return f"{size} voxels are fewer than {least}"
        try:
            foreground = measured(example.image)[1]
        except InputError as error:
            raise InputError(f"{example.name}: {error}") from None
        if foreground.intersect(box) is None:
            return "it lies where the image is as dark as air, which the network does not see"
        return ""

    def optimizer(self) -> torch.optim.Optimizer:
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(learnt, self.settings.rate, weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        of = self.settings
        return warmed_cosine(step, of.rate, of.steps, warm_up=round(of.rise * of.steps))

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        drawn = [self._drawn(random) for _ in range(self.settings.batch)]
        images = np.stack([seen.image for seen, _ in drawn]).astype(np.float32)
        with torch.set_grad_enabled(self.settings.learns == "all"):
            features = self.network.image_encoder(torch.from_numpy(images)[:, None].to(device))
        masks = np.stack([seen.labels == value for seen, value in drawn])
        prompts = {
            "points": [np.stack(each) for each in zip(*(window_draws.points(m, random) for m in masks), strict=True)],
            "box": [np.stack([zooming.bounds(mask) for mask in masks])],
        }
        each = [self._loss(features, masks, {name: prompts[name] for name in kinds}) for kinds in SETS]
        total = torch.stack([loss.total for loss in each]).sum() * (_PUBLISHED_SETS / len(SETS))
        parts = {" and ".join(kinds): loss.total.item() for kinds, loss in zip(SETS, each, strict=True)}
        if self.settings.pseudo:
            asked = list(self._asked_of_pieces([seen for seen, _ in drawn], random))
            further = torch.stack([self._loss(features, *question).total for question in asked]).sum()
            total = total + self.settings.pseudo * further
            parts["pieces"] = further.item()
        yield losses.Loss(total, parts)

    def _drawn(self, random: np.random.Generator) -> tuple[View, int]:
        """A view of a volume, and the label value of an object in it."""
        while True:  # ends: every window around a voxel of the object shows it
            example, value, box = self._objects.draw(random)
            if random.random() < self.settings.whole:
                region = window_draws.whole(example, self._window)
            else:
                region = window_draws.closer(example, value, box, self._window, random)
            seen = window_draws.view(example, region, self._pieces_of(example) if self.settings.pseudo else None)
            there = [int(v) for v in np.unique(seen.labels) if int(v) in example.names]
            if there:  # beside the object, the window may show another one
                value = value if value in there else there[random.integers(len(there))]
                return window_draws.varied(seen, random, self._look), value

    def _pieces_of(self, example: Example) -> np.ndarray:
        """Pieces of like grey values of a volume's foreground, as it lies in the window."""

        def find() -> Tensor:
            seen = window_draws.view(example, window_draws.whole(example, self._window))
            least = max(1, round(1000 * seen.image.size / 2**21))  # of the published window
            return torch.from_numpy(pseudo_masks.pieces(seen.image, least=least).astype(np.int16))

        return self._pieces.get(self._numbers[id(example)], find).numpy()

    def _asked_of_pieces(
        self, views: Sequence[View], random: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, Mapping[str, list[np.ndarray]]]]:
        """Masks, and points or boxes of them, in turn; of a piece of each view, drawn anew each time."""
        pieces = [pseudo_masks.cleaned(view.pseudo, view.labels) for view in views]
        for number in range(_PSEUDO_SETS):
            masks, prompts = [], []
            for found in pieces:
                known = np.unique(found[found != pseudo_masks.NOTHING])
                if not len(known):  # all of it is in shreds: then the whole window is one
                    found, known = np.zeros_like(found), np.zeros(1, int)
                chosen = int(known[random.integers(len(known))])
                if number % 2 == 0:
                    masks.append(found == chosen)
                    prompts.append(window_draws.points(masks[-1], random, fewest=4))
                else:
                    box, mask = window_draws.in_box(found, chosen)
                    masks.append(mask)
                    prompts.append((box,))
            kind = "points" if number % 2 == 0 else "box"
            yield np.stack(masks), {kind: [np.stack(each) for each in zip(*prompts, strict=True)]}

    def _loss(self, features: Tensor, masks: np.ndarray, prompts: Mapping[str, list[np.ndarray]]) -> losses.Loss:
        """Of the answers to prompts, (B, ...) each."""
        there = {name: [torch.from_numpy(a).to(features.device) for a in arrays] for name, arrays in prompts.items()}
        sparse, dense = self.network.prompt_encoder(
            points=tuple(there["points"]) if "points" in there else None,
            boxes=there["box"][0] if "box" in there else None,
        )
        low, _ = self.network.mask_decoder(
            image_embeddings=features,
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        logits = F.interpolate(low.float(), self._window, mode="trilinear", align_corners=False)
        return losses.window_masks(logits, torch.from_numpy(masks)[:, None].to(features.device))

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Dice of what the network answers to the box of each object; see `Objects.measure`."""
        model = SegVol(self.network, device=device)
        last: list[tuple[Example, Embedding]] = []

        def answer(example: Example, value: int, box: Box) -> tuple[np.ndarray, Box]:
            prompts = Prompts((box,))
            if measured(example.image)[1].intersect(box) is None:
                return np.zeros(box.shape, bool), box  # where the image is as dark as air
            if self.settings.zoomed_in:
                return published(model, example.image, prompts) > 0, example.image.grid.box
            if not last or last[0][0] is not example:
                region = model.plan(example.image.grid, prompts, None)
                last[:] = [(example, model.embed(example.image, region, _AS_IS))]
            logits = model.decode(last[0][1], prompts, None)
            return model.restore(logits) > 0, logits.region.box

        return self._objects.measure(answer, self.settings.measured)


def mark(network: SegVolNetwork, learns: str = "all") -> None:
    """Have learnt what the published script changes to some end, without the text branch.

    Without what its loss does not reach: convolutions for mask prompts, which the network does not have; the estimate
    of the IoU, and the masks of an ambiguous prompt.
    """
    unused = (
        "text_encoder.",
        "mask_decoder.txt_align_upscaled_embedding.",
        "prompt_encoder.mask_downscaling.",
        "mask_decoder.iou_prediction_head.",
        *(f"mask_decoder.output_hypernetworks_mlps.{n}." for n in range(1, network.mask_decoder.num_mask_tokens)),
    )
    for name, parameter in network.named_parameters():
        still = learns == "decoder" and name.startswith("image_encoder.")
        parameter.requires_grad_(not still and not name.startswith(unused))
