"""Objects in volumes, drawn to be learnt from, and how well a network segments those that are kept to measure with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from scipy import ndimage

from napari_sammed.errors import InputError
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.training.material import Example, Material

Unfit: TypeAlias = Callable[[Example, int, Box], str]
"""Why an object (its label value, the box of it) cannot be learnt from; empty if it can."""

Answer: TypeAlias = Callable[[Example, int, Box], tuple[np.ndarray, Box]]
"""A mask of an object, and the box of the image that it fills; there is nothing outside of it."""


class Objects:
    """What is labelled in the volumes of some material, found as it is needed.

    Parameters
    ----------
    material : Material
    title : str
        Of the system that learns, for messages.
    unfit : callable
        Asked once of each object.

    Raises
    ------
    InputError
        For flat images, for labels that do not lie on their image, and if nothing can be learnt from.
    """

    def __init__(self, material: Material, title: str, unfit: Unfit) -> None:
        for example in (*material.train, *material.held_out):
            grid = example.image.grid
            if grid.ndim != 3:
                raise InputError(
                    f"{title} learns from volumes, but {example.name} is a flat image of {grid.shape}: choose a recipe "
                    "for flat images, or leave it out."
                )
            if example.labels.shape != grid.shape:
                raise InputError(
                    f"The labels of {example.name} have the shape {example.labels.shape}, its image has {grid.shape}: "
                    "they have to lie on one grid."
                )
        self.material = material
        self._unfit = unfit
        self._boxes: dict[int, dict[int, Box]] = {}
        self._reasons: dict[tuple[int, int], str] = {}
        reasons = []
        for example, value in _objects(material.train):
            reasons.append(f"{example.names[value]} of {example.name}: {self._reason(example, value)}")
            if not self._reason(example, value):
                return
        more = f", and so on for {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise InputError(f"There is nothing that {title} could learn from: {reasons[0]}{more}.")

    def box(self, example: Example, value: int) -> Box | None:
        """Where an object is in its image; None if it is nowhere."""
        known = self._boxes.get(id(example))
        if known is None:
            places = ndimage.find_objects(np.asarray(example.labels))
            known = {
                number: Box(tuple(part.start for part in place), tuple(part.stop for part in place))
                for number, place in enumerate(places, start=1)
                if place is not None
            }
            self._boxes[id(example)] = known
        return known.get(value)

    def draw(self, random: np.random.Generator) -> tuple[Example, int, Box]:
        """One of the objects that can be learnt from, each structure as often as any other."""
        while True:  # ends: the constructor has seen one that can
            example, value = self.material.draw(random)
            if not self._reason(example, value):
                return example, value, self.box(example, value)

    def _reason(self, example: Example, value: int) -> str:
        key = id(example), value
        if key not in self._reasons:
            box = self.box(example, value)
            self._reasons[key] = "it is nowhere in the image" if box is None else self._unfit(example, value, box)
        return self._reasons[key]

    def measure(self, answer: Answer, most: int) -> Mapping[str, float]:
        """Dice of what is kept to measure with, at the image's own resolution.

        Parameters
        ----------
        answer : callable
        most : int
            Objects of each structure, spread evenly over the examples.

        Returns
        -------
        dict of str to float
            By structure, mean over its objects; "score" is the mean over structures. Of what is learnt from, where
            nothing is kept.
        """
        by_name: dict[str, list[tuple[Example, int, Box]]] = {}
        for example, value in _objects(self.material.held_out or self.material.train):
            box = self.box(example, value)
            if box is not None:
                by_name.setdefault(example.names[value], []).append((example, value, box))
        chosen = []
        for objects in by_name.values():
            places = np.linspace(0, len(objects) - 1, min(most, len(objects))).round().astype(int)
            chosen += [objects[place] for place in places]
        found: dict[str, list[float]] = {name: [] for name in sorted(by_name)}
        numbers = {id(example): number for number, example in enumerate(self.material.held_out or self.material.train)}
        for example, value, box in sorted(chosen, key=lambda one: numbers[id(one[0])]):  # image by image
            found[example.names[value]].append(_dice(answer, example, value, box))
        means = {name: float(np.mean(each)) for name, each in found.items()}
        return {"score": float(np.mean(list(means.values()))) if means else 0.0, **means}


def _objects(examples: tuple[Example, ...]) -> list[tuple[Example, int]]:
    return [(example, value) for example in examples for value in sorted(example.names)]


def _dice(answer: Answer, example: Example, value: int, box: Box) -> float:
    mask, where = answer(example, value, box)
    both = where.union(box)  # all there is of either
    found = np.zeros(both.shape, bool)
    found[where.shift([-low for low in both.low]).slices] = mask
    return dice(found, np.asarray(example.labels[both.slices]) == value)
