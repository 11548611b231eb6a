"""Slices of what is learnt from, as the networks of flat images see them, and how good their answers are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from skimage.transform import resize

from napari_sammed.errors import InputError
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.models.frames import Frame
from napari_sammed.training.material import Example, Material

Answer = Callable[["Slice", Sequence[int]], Sequence[Sequence[np.ndarray]]]
"""For each kind of prompt the masks, bool (rows, columns), of label values of a slice."""

Nearest = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
"""Resizes a mask to rows and columns."""

_TRIES = 100  # draws until one has an object that is still there in the network's frame


@dataclass(frozen=True)
class Slice:
    """A flat image, or a slice along the first axis of a volume.

    Parameters
    ----------
    key : tuple of int
        Number of the example, and the slice's index.
    example : Example
    view : int
        0 for the slice as it is; any other number for a way in which it is varied.
    """

    key: tuple[int, int]
    example: Example
    view: int = 0

    @property
    def box(self) -> Box:
        """Where it lies in the image."""
        shape, index = self.example.labels.shape, self.key[1]
        return Box.of_shape(shape) if len(shape) == 2 else Box((index, 0, 0), (index + 1, *shape[1:]))

    @property
    def labels(self) -> np.ndarray:
        """(rows, columns)."""
        labels = self.example.labels
        return np.asarray(labels if labels.ndim == 2 else labels[self.key[1]])

    @property
    def values(self) -> list[int]:
        """Of what is learnt and is here."""
        return [int(value) for value in np.unique(self.labels) if int(value) in self.example.names]


class Slices:
    """The slices of material, each structure drawn as often as any other.

    Parameters
    ----------
    material : Material

    Raises
    ------
    InputError
        If labels do not lie on their image, or nothing that is named can be found.
    """

    def __init__(self, material: Material) -> None:
        self.material = material
        self._numbers = {id(example): number for number, example in enumerate(material.train)}
        self._places: dict[tuple[int, int], np.ndarray] = {}
        for example in (*material.train, *material.held_out):
            if example.labels.shape != example.image.grid.shape:
                raise InputError(
                    f"The labels of {example.name} have the shape {example.labels.shape}, its image has "
                    f"{example.image.grid.shape}: they have to lie on one grid."
                )
            for value, name in example.names.items():
                places = _places(example, value)
                if not len(places):
                    raise InputError(
                        f"The label {value} ({name}) is nowhere in {example.name}: leave it out of its names."
                    )
                self._places[id(example), value] = places

    def draw(self, random: np.random.Generator) -> tuple[Slice, int]:
        """A slice, and the label value of something in it."""
        example, value = self.material.draw(random)
        places = self._places[id(example), value]
        return Slice((self._numbers[id(example)], int(places[random.integers(len(places))])), example), value

    def measured(self, most: int) -> Iterator[tuple[Slice, list[int]]]:
        """Slices to measure with, and what to look for in each: some of each structure, spread evenly over an image.

        Those that are learnt from, where nothing is held out.

        Parameters
        ----------
        most : int
            Slices of each structure and image.
        """
        for number, example in enumerate(self.material.held_out or self.material.train):
            wanted: dict[int, list[int]] = {}
            for value in sorted(example.names):
                places = self._places[id(example), value]
                chosen = np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)
                for place in places[chosen]:
                    wanted.setdefault(int(place), []).append(value)
            for place in sorted(wanted):
                # Of another number than all that are learnt from, so that both can be kept under their keys.
                yield Slice((-1 - number if self.material.held_out else number, place), example), wanted[place]

    def measure(self, answer: Answer, most: int) -> dict[str, float]:
        """Dice by structure, mean over its slices, at the image's own resolution; "score" is the mean of them."""
        found: dict[str, list[float]] = {}
        for piece, values in self.measured(most):
            labels = piece.labels
            for masks in answer(piece, values):
                for value, mask in zip(values, masks, strict=True):
                    found.setdefault(piece.example.names[value], []).append(dice(mask, labels == value))
        by_name = {name: float(np.mean(each)) for name, each in sorted(found.items())}
        return {"score": float(np.mean(list(by_name.values()))), **by_name}


def _places(example: Example, value: int) -> np.ndarray:
    """Indices of the slices with a label value."""
    if example.labels.ndim == 2:
        return np.zeros(1, int) if (example.labels == value).any() else np.zeros(0, int)
    known = example.slices.get(value)
    return np.flatnonzero((example.labels == value).any((1, 2))) if known is None else np.asarray(known)


def drawn(draw: Callable[[], tuple[Slice, np.ndarray]]) -> tuple[Slice, np.ndarray]:
    """Draw until the object is still there in the frame: what is thin can vanish when a slice is made smaller."""
    for _ in range(_TRIES):
        piece, mask = draw()
        if mask.any():
            return piece, mask
    raise InputError(
        "All that is labelled is so small that the network, which sees slices made smaller, cannot see it: "
        "learn with images that are cut to its surroundings."
    )


def in_frame(mask: np.ndarray, frame: Frame, nearest: Nearest) -> np.ndarray:
    """A mask of a slice as it lies in the network's input: bool of (side, side)."""
    result = np.zeros((frame.side, frame.side), bool)
    result[frame.slices] = nearest(mask, frame.shape)
    return result


def nearest_centre(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a mask like scikit-image's ``resize`` of order 0: the pixel under the centre of each new one."""
    return resize(mask, shape, order=0, preserve_range=True, anti_aliasing=False).astype(bool)
