"""Images as SAMed sees them: axial slices of grey values 0 to 1, with classes numbered by the names of structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.intensity import Window
from napari_sammed.models.axial import AxialView
from napari_sammed.models.samed import TRAINED_WINDOW, scaled
from napari_sammed.training.material import Example, Material
from napari_sammed.volume import Volume

_PERCENTILES = Window.preset("percentiles")


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


class Slices(Sequence[Slice]):
    """The axial slices of an example, each read when it is asked for.

    Parameters
    ----------
    example : Example
    classes : sequence of str
        Names of the classes 1, 2, ...
    window : Window
        Of images that are not 8-bit.

    Raises
    ------
    InputError
        For an image in colour.
    """

    def __init__(self, example: Example, classes: Sequence[str], window: Window) -> None:
        image = example.image
        if image.channels != 1:
            raise InputError(f"{example.name} is in colour, and SAMed learns from grey images: choose another recipe.")
        self.example = example
        self._window = Window.preset("as-is") if image.dtype == np.uint8 else window
        self._limits = self._window.limits(image)
        view = AxialView.of(image.grid, rows="A", columns="L")
        self._stack, self._labels = view.turn(image.array), view.turn(example.labels)
        self._class_of = np.zeros(int(np.iinfo(example.labels.dtype).max) + 1, np.uint8)
        for value, name in example.names.items():
            self._class_of[value] = classes.index(name) + 1

    def __len__(self) -> int:
        return len(self._stack)

    def __getitem__(self, index: int) -> Slice:  # type: ignore[override]
        labels = self._class_of[self._labels[index]]
        return Slice(scaled(np.asarray(self._stack[index]), self._window, self._limits), labels)

    def labelled(self) -> np.ndarray:
        """Indices of the slices in which there is something."""
        return np.array([i for i in range(len(self)) if self._class_of[self._labels[i]].any()], int)

    def some(self, count: int) -> np.ndarray:
        """Indices of at most so many slices, spread evenly from a little before what is labelled to a little behind;
        of all for 0."""
        there = self.labelled()
        if count == 0 or not len(there):
            return np.arange(len(self))[: count or None]
        margin = (there[-1] - there[0]) // 8 + 1
        low, high = max(there[0] - margin, 0), min(there[-1] + margin, len(self) - 1)
        return np.unique(np.linspace(low, high, min(count, high - low + 1)).round().astype(int))


def class_names(material: Material) -> tuple[str, ...]:
    """Names of the classes 1, 2, ...: in the order of the label values."""
    return tuple(dict.fromkeys(name for _, name in sorted(material.names.items())))


def window_for(images: Sequence[Volume]) -> Window:
    """SAMed's own window for CT; percentiles where any image is something else (8-bit ones are taken as they are)."""
    others = [image for image in images if image.dtype != np.uint8]
    ct = all(Window.auto(image).kind == "soft-tissue" for image in others)
    return TRAINED_WINDOW if ct else _PERCENTILES
