"""The click network's recipe for data of one's own: it goes on learning from the weights in the package, slowly.

Pictures are slices of the examples, half of them as the program shows them, the other half with another contrast, cut
and turned. LiteMedSAM encodes each once. Structures are clicked through as in `napari_sammed.training.click_learning`;
nothing is mixed in that is not in the material.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from napari_sammed.backend import reductions
from napari_sammed.errors import InputError
from napari_sammed.evaluation.clicks import next_click
from napari_sammed.evaluation.metrics import dice
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.click import Click
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.prompts import Point, Prompts
from napari_sammed.training.click_draws import OBJECTS, draw
from napari_sammed.training.click_learning import clicked
from napari_sammed.training.click_pictures import Encoded, encode
from napari_sammed.training.losses import Loss
from napari_sammed.training.material import Example, Material
from napari_sammed.training.pictures import LEAST, Picture, Source, fitted
from napari_sammed.training.schedules import cosine
from napari_sammed.volume import Volume

_KINDS = {"as-is": "8-bit", "soft-tissue": "ct"}  # of sources of pictures, by the window that suits the image
_TRIES = 50  # draws without anything large enough in them


@dataclass(frozen=True)
class ClickRecipeSettings:
    """What the network in the package was trained with, but for a lower rate.

    Parameters
    ----------
    rate : float
        The highest learning rate; the network was trained with 0.001, and at last with 0.0006.
    warm_up, steps : int
        Steps of its rise, and after which it is low.
    batch : int
        Pictures at a step.
    pictures : int
        Different ones that are drawn from the examples, and encoded once; each takes 2 MB of memory.
    decay : float
        Of weights.
    clicks : int
        After which the answer is measured.
    slices : int
        To measure on, of each structure.
    """

    rate: float = 2e-4
    warm_up: int = 20
    steps: int = 300
    batch: int = 3
    pictures: int = 120
    decay: float = 0.01
    clicks: int = 5
    slices: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "pictures", "clicks", "slices"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, not {getattr(self, name)}.")
        if not self.rate > 0:
            raise InputError(f"The rate is above 0, not {self.rate:g}.")


SMALL = ClickRecipeSettings()
PUBLISHED = ClickRecipeSettings(rate=1e-3, warm_up=50, steps=1500, pictures=665)
"""As the network in the package was trained, from nothing."""


@dataclass
class _Measured:
    """A structure on a slice (None in a flat image) to measure on, and what needs to be computed only once."""

    example: Example
    value: int
    index: int | None
    embedding: Embedding | None = None
    first: Logits | None = None


class ClickRecipeTask:
    """A `napari_sammed.training.fitting.Task`; runs of it had `Run.clip` 1 and `Run.average` 0.99.

    Parameters
    ----------
    network : ClickHead
        `napari_sammed.models.click.shipped_head`, or another one.
    material : Material
    settings : ClickRecipeSettings, optional
    boxes : LiteMedSAM, optional
        Loaded where it is needed if not given.

    Raises
    ------
    InputError
        Where nothing that is labelled is large enough.
    """

    def __init__(
        self,
        network: ClickHead,
        material: Material,
        settings: ClickRecipeSettings | None = None,
        boxes: LiteMedSAM | None = None,
    ) -> None:
        self.network = network.requires_grad_(True)
        self.settings = settings or ClickRecipeSettings()
        self._material, self._boxes = material, boxes
        self._encoded: dict[int, Encoded] = {}
        self._measured = _to_measure(material, self.settings.slices)
        self._click: Click | None = None
        self._picture(0)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), self.settings.rate, weight_decay=self.settings.decay)

    def rate(self, step: int) -> float:
        return cosine(step, self.settings.rate, self.settings.steps, warm_up=self.settings.warm_up)

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[Loss]:
        boxes = self._model(device)
        parts = []
        for number in random.integers(self.settings.pictures, size=self.settings.batch):
            drawn = draw(self._picture_encoded(int(number), boxes), random, OBJECTS)
            if drawn is not None:
                parts.append(clicked(self.network, boxes.network, drawn.to(device), random))
        if parts:
            mean = torch.stack([part.total for part in parts]).mean()
            yield Loss(mean, {"Dice": float(np.mean([part.parts["Dice"] for part in parts]))})

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Mean Dice after the last click, as the program answers clicks: each in the middle of the largest mistake."""
        boxes = self._model(device)
        if self._click is None:
            self._click = Click(boxes.network, boxes.weights_hash, device, head=copy.deepcopy(self.network))
        self._click.head.load_state_dict(self.network.state_dict())
        found: dict[str, list[float]] = {}
        for item in self._measured:
            found.setdefault(item.example.names[item.value], []).append(self._dice(self._click, item))
        each = {name: float(np.mean(values)) for name, values in sorted(found.items())}
        return {"score": float(np.mean(list(each.values()))) if each else 0.0, **each}

    def _dice(self, model: Click, item: _Measured) -> float:
        """After the last click on one structure of one slice."""
        image = item.example.image
        truth = _slice(item.example.labels, item.index) == item.value
        spacing = image.grid.spacing[-2:]
        prompts, previous, mask = Prompts(), None, np.zeros_like(truth)
        for number in range(self.settings.clicks):
            click = next_click(mask, truth, spacing)
            if click is None:
                break
            place = click.index if item.index is None else (float(item.index), *click.index)
            prompts = prompts.add(Point(tuple(place), click.positive))
            if item.embedding is None:
                region = model.plan(image.grid, prompts, None)
                item.embedding = model.embed(image, region, Window.auto(image))
            if number:
                previous, _ = reductions.answer(model, item.embedding, prompts, previous)
            else:  # by boxes alone, so it is always the same
                item.first = item.first or reductions.answer(model, item.embedding, prompts, None)[0]
                previous = item.first
            mask = (model.restore(previous) > 0).reshape(truth.shape)
        return dice(mask, truth)

    def _model(self, device: torch.device) -> LiteMedSAM:
        if self._boxes is None or self._boxes.device != device:
            from napari_sammed.models.registry import load

            self._boxes, self._click = load("litemedsam", device=str(device)), None
        return self._boxes

    def _picture_encoded(self, number: int, boxes: LiteMedSAM) -> Encoded:
        if number not in self._encoded:
            picture = self._picture(number)
            image = Volume.from_array(picture.pixels, rgb=picture.pixels.ndim > 2)
            self._encoded[number] = Encoded.of(picture, encode(boxes, image))
        return self._encoded[number]

    def _picture(self, number: int) -> Picture:
        """The same each time for a number."""
        random = np.random.default_rng(number)
        for _ in range(_TRIES):
            example, value = self._material.draw(random)
            picture = _picture(example, _any_slice(example, value, random), random)
            if len(picture.masks):
                return picture
        raise InputError(
            f"Nothing that is labelled can be clicked on: on {_TRIES} slices it covers less than {LEAST} of 65,536 "
            "pixels, or all."
        )


def _picture(example: Example, index: int | None, random: np.random.Generator) -> Picture:
    labels = _slice(example.labels, index)
    labels = np.where(np.isin(labels, list(example.names)), labels, 0)
    pixels, window = _slice(example.image.array, index), Window.auto(example.image)
    source = Source(pixels, labels, example.image.grid.spacing[-2:], _KINDS.get(window.kind, "mr"))
    if random.random() < 0.5:
        return source.picture(random)
    shown = window.apply(pixels, window.limits(example.image)).astype(np.float32) / 255
    pixels, labels = Source(shown, labels, source.spacing, "8-bit").square()
    masks = [labels == value for value in np.unique(labels) if value]
    return fitted(pixels, np.stack(masks) if masks else np.zeros((0, *labels.shape), bool))


def _slice(array: np.ndarray, index: int | None) -> np.ndarray:
    return array if index is None else array[index]


def _slices_of(example: Example, value: int) -> np.ndarray:
    """Where a structure is, along the first axis of a volume."""
    if value in example.slices:
        return np.asarray(example.slices[value])
    return np.flatnonzero((example.labels == value).any(axis=(1, 2)))


def _any_slice(example: Example, value: int, random: np.random.Generator) -> int | None:
    return None if example.labels.ndim == 2 else int(random.choice(_slices_of(example, value)))


def _to_measure(material: Material, count: int) -> list[_Measured]:
    """So many slices of each structure, taken from all held-out examples in turn; evenly from where it is large."""
    offered: dict[str, list[list[_Measured]]] = {}
    for example in material.held_out or material.train:
        for value, name in example.names.items():
            if example.labels.ndim == 2:
                places: list[int | None] = [None] if (example.labels == value).any() else []
            else:
                indices = _slices_of(example, value)
                sizes = np.array([(example.labels[index] == value).sum() for index in indices])
                large = indices[sizes >= sizes.max(initial=0) / 2]
                chosen = np.linspace(0, len(large) - 1, min(count, len(large)) + 2)[1:-1].round().astype(int)
                places = [int(index) for index in large[np.unique(chosen)]] if len(large) else []
            offered.setdefault(name, []).append([_Measured(example, value, place) for place in places])
    return [
        item
        for name in sorted(offered)
        for item in [queue[turn] for turn in range(count) for queue in offered[name] if turn < len(queue)][:count]
    ]
