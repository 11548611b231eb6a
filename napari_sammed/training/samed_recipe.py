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
from napari_sammed.training.schedules import polynomial

_TURN = 20  # degrees, at most


@dataclass(frozen=True)
class Slice:
    """What is learnt from.

    Parameters
    ----------
    pixels : ndarray of float32
        Grey values 0 to 1, in the orientation of `napari_sammed.models.samed`.
    labels : ndarray of uint8
        Classes, of the same shape.
    """

    pixels: np.ndarray
    labels: np.ndarray


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


class SamedTask:
    """A `napari_sammed.training.fitting.Task`.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("samed")`` or ``"samed_s"`` with the weights of SAM loaded; what is learnt is marked here.
    train, held_out : sequence of Slice
    settings : SamedSettings

    Raises
    ------
    InputError
        If there is nothing to learn from, or a label that the network has no class for.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        train: Sequence[Slice],
        held_out: Sequence[Slice],
        settings: SamedSettings | None = None,
    ) -> None:
        if not train:
            raise InputError("There are no slices to learn from.")
        self.classes = network.mask_decoder.num_mask_tokens - 1
        largest = max(int(item.labels.max()) for item in (*train, *held_out))
        if largest > self.classes:
            raise InputError(f"There is a label {largest}, but the network knows {self.classes} classes.")
        self.network = network
        self.settings = settings or SamedSettings()
        self._train, self._held_out = train, held_out
        self._side = network.prompt_encoder.input_size[0]
        mark(network)

    def optimizer(self) -> torch.optim.Optimizer:
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(learnt, self.settings.rate, (0.9, 0.999), weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        of = self.settings
        return polynomial(step, of.rate, of.steps, warm_up=of.warm_up, exponent=of.exponent, late=True)

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[losses.Loss]:
        chosen = random.choice(len(self._train), self.settings.batch, replace=len(self._train) < self.settings.batch)
        items = [self._train[index] for index in chosen]
        if self.settings.augmented:
            items = [augmented(item, random) for item in items]
        logits = self._logits([item.pixels for item in items], device)
        size = logits.shape[-1]
        wanted = np.stack([small_labels(item.labels, self._side, size) for item in items])
        yield losses.classes(
            logits.float(), torch.from_numpy(wanted).to(device), cross=self.settings.cross, dice=self.settings.dice
        )

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Mean Dice of the classes over the slices that are kept, pixels of all slices together."""
        common, both = np.zeros(self.classes), np.zeros(self.classes)
        for item in self._held_out or self._train:
            logits = F.interpolate(self._logits([item.pixels], device).float(), self._side, mode="bilinear")
            found = zoom(logits[0].argmax(0).byte().cpu().numpy(), item.labels.shape, order=0)
            for number in range(self.classes):
                mask, true = found == number + 1, item.labels == number + 1
                common[number] += 2 * (mask & true).sum()
                both[number] += mask.sum() + true.sum()
        seen = both > 0
        dice = common[seen] / both[seen]
        each = {f"class {number + 1}": float(value) for number, value in zip(np.flatnonzero(seen), dice, strict=True)}
        return {"score": float(dice.mean()) if seen.any() else 0.0, **each}

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
