"""SAMed's recipe: organs without prompts, learnt with low-rank updates of a SAM encoder and a decoder of its own.

Reference sheet ``samed``, section 5; Zhang and Liu, Customized Segment Anything Model for Medical Image Segmentation
(2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.models.samed import to_frame, zoom
from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.official_files import is_lora_key
from napari_sammed.training import losses
from napari_sammed.training.material import Material
from napari_sammed.training.samed_slices import Slice, Slices, class_names, window_for
from napari_sammed.training.schedules import polynomial

_TURN = 20  # degrees, at most


@dataclass(frozen=True)
class SamedSettings:
    """The published constants.

    Parameters
    ----------
    rate : float
        The highest learning rate.
    warm_up, steps : int
        Steps of its rise, and after which it would be 0; training stopped at four fifths of them.
    exponent : float
        Of its fall.
    batch : int
        Slices at a step.
    decay : float
        Of weights.
    cross, dice : float
        Weights of the losses.
    sampled_size : int
        Rows, and columns, to which slices are brought first.
    augmented : bool
        Turned and mirrored at random.
    rank : int
        Of the updates; the network has it.
    labelled : float
        Share of the slices of a step that are drawn from those in which there is something; 0 for all as they come, as
        published.
    measured : int
        Slices of a case at most that are measured, spread evenly over what is labelled; 0 for all.
    """

    rate: float = 0.005
    warm_up: int = 250
    steps: int = 18_600
    exponent: float = 0.9
    batch: int = 24
    decay: float = 0.1
    cross: float = 0.2
    dice: float = 0.8
    sampled_size: int = 224
    augmented: bool = True
    rank: int = 4
    labelled: float = 0.0
    measured: int = 0


PUBLISHED = SamedSettings()
"""A batch of 24 on two GPUs; training stopped at step 14,880."""
SMALL = SamedSettings(rate=0.002, warm_up=50, steps=1250, batch=4, labelled=0.75, measured=24)
"""Ours, for some volumes and one device."""
STOPPED = 0.8
"""Share of the steps of the schedule after which training ended."""


class SamedTask:
    """A `napari_sammed.training.fitting.Task`.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("samed")`` or ``"samed_s"`` with the weights of SAM loaded; what is learnt is marked here.
    material : Material
        Grey images; where nothing is held out, what is learnt from is measured.
    settings : SamedSettings, optional

    Attributes
    ----------
    classes : tuple of str
        Names of the classes 1, 2, ...
    window : Window
        In which images that are not 8-bit are seen.

    Raises
    ------
    InputError
        If the network has another number of classes, or an image is in colour.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        material: Material,
        settings: SamedSettings | None = None,
    ) -> None:
        self.classes = class_names(material)
        count = network.mask_decoder.num_mask_tokens - 1
        if count != len(self.classes):
            raise InputError(f"There are {len(self.classes)} structures, but the network knows {count} classes.")
        self.network = network
        self.settings = settings or SamedSettings()
        self.window = window_for([example.image for example in material.train])
        self._train = [Slices(example, self.classes, self.window) for example in material.train]
        self._measured = [Slices(example, self.classes, self.window) for example in material.held_out or material.train]
        self._all = [(case, index) for case, slices in enumerate(self._train) for index in range(len(slices))]
        self._labelled = [(case, int(i)) for case, slices in enumerate(self._train) for i in slices.labelled()]
        self._side = network.prompt_encoder.input_size[0]
        mark(network)

    def optimizer(self) -> torch.optim.Optimizer:
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(learnt, self.settings.rate, (0.9, 0.999), weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        of = self.settings
        return polynomial(step, of.rate, of.steps, warm_up=of.warm_up, exponent=of.exponent, late=True)

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        items = [self._train[case][index] for case, index in self._drawn(random)]
        if self.settings.augmented:
            items = [augmented(item, random) for item in items]
        logits = self._logits([item.pixels for item in items], device)
        size = logits.shape[-1]
        wanted = np.stack([small_labels(item.labels, self._side, size) for item in items])
        yield losses.classes(
            logits.float(), torch.from_numpy(wanted).to(device), cross=self.settings.cross, dice=self.settings.dice
        )

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Dice of each structure, as its mean over the cases that have it, and the mean of these."""
        found: dict[str, list[float]] = {name: [] for name in self.classes}
        for slices in self._measured:
            common, both, there = np.zeros((3, len(self.classes)))
            for index in slices.some(self.settings.measured):
                item = slices[index]
                logits = F.interpolate(self._logits([item.pixels], device).float(), self._side, mode="bilinear")
                labels = zoom(logits[0].argmax(0).byte().cpu().numpy(), item.labels.shape, order=0)
                for number in range(len(self.classes)):
                    mask, true = labels == number + 1, item.labels == number + 1
                    common[number] += 2 * (mask & true).sum()
                    both[number] += mask.sum() + true.sum()
                    there[number] += true.sum()
            for name, numerator, denominator, size in zip(self.classes, common, both, there, strict=True):
                if size:
                    found[name].append(float(numerator / denominator))
        dice = {name: float(np.mean(values)) for name, values in found.items() if values}
        return {"score": float(np.mean(list(dice.values()))) if dice else 0.0, **dice}

    def _drawn(self, random: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Cases and slices of a step."""
        filled = round(self.settings.batch * self.settings.labelled)
        for places, count in ((self._labelled, filled), (self._all, self.settings.batch - filled)):
            for number in random.choice(len(places), count, replace=len(places) < count):
                yield places[number]

    def _logits(self, slices: Sequence[np.ndarray], device: torch.device) -> Tensor:
        inputs = np.stack([to_frame(pixels, self.settings.sampled_size, self._side) for pixels in slices])
        images = torch.from_numpy(inputs)[:, None].to(device).expand(-1, 3, -1, -1)
        sparse, dense = self.network.prompt_encoder(points=None, boxes=None, masks=None)
        maps, _ = self.network.mask_decoder(
            image_embeddings=self.network.image_encoder(images),
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return maps


def mark(network: PromptableNetwork) -> None:
    """Have learnt what SAMed learns: the updates, the prompt encoder and the mask decoder.

    Of SAMed_s, whose decoder has updates as well, the decoder's transformer stays as it is below them.
    """
    in_decoder = any(is_lora_key(name) for name, _ in network.mask_decoder.named_parameters("mask_decoder"))
    for name, parameter in network.named_parameters():
        frozen = name.startswith("image_encoder.") or (in_decoder and name.startswith("mask_decoder.transformer."))
        parameter.requires_grad_(is_lora_key(name) or not frozen)


def augmented(item: Slice, random: np.random.Generator) -> Slice:
    """A slice turned by quarters and mirrored, or turned a little, or as it is."""
    if random.random() < 0.5:
        quarters, axis = int(random.integers(4)), int(random.integers(2))
        return Slice(*(np.flip(np.rot90(array, quarters), axis) for array in (item.pixels, item.labels)))
    if random.random() < 0.5:
        angle = int(random.integers(-_TURN, _TURN))
        return Slice(*(ndimage.rotate(array, angle, order=0, reshape=False) for array in (item.pixels, item.labels)))
    return item


def small_labels(labels: np.ndarray, side: int, size: int) -> np.ndarray:
    """Labels at the size of the network's maps, by way of the size of its input."""
    return zoom(zoom(np.ascontiguousarray(labels), (side, side), order=0), (size, size), order=0)
