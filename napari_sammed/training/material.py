"""What is learnt from, ready to be drawn from: the recipes see nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.volume import Volume


@dataclass(frozen=True)
class Example:
    """An image and what is labelled in it.

    Parameters
    ----------
    name, patient : str
    image : Volume
        Its array may lie in a file that is read as it is needed.
    labels : ndarray of uint8 or uint16
        On the image's grid, (y, x) or (z, y, x); 0 is the background.
    names : mapping of int to str
        Of the label values that are learnt; other values are background.
    slices : mapping of int to ndarray
        Label value to the indices along axis 0 at which it is, of volumes.
    """

    name: str
    patient: str
    image: Volume
    labels: np.ndarray
    names: Mapping[int, str]
    slices: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """Examples to learn from, and others to measure with.

    Parameters
    ----------
    train, held_out : tuple of Example
        Of different patients.
    names : mapping of int to str
        All label values that are learnt.

    Raises
    ------
    InputError
        If there is nothing to learn from.
    """

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    names: Mapping[int, str]

    def __post_init__(self) -> None:
        if not any(example.names for example in self.train):
            raise InputError("There is nothing labelled to learn from.")

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[tuple[Example, int]]]:
        """Names of structures to the examples, and their label values, that have them."""
        found: dict[str, list[tuple[Example, int]]] = {}
        for example in self.train:
            for value, name in example.names.items():
                found.setdefault(name, []).append((example, value))
        return found

    def draw(self, random: np.random.Generator) -> tuple[Example, int]:
        """An example and one of its label values; each structure is drawn as often as any other, however rare it is."""
        names = sorted(self.by_name)
        owners = self.by_name[names[random.integers(len(names))]]
        return owners[random.integers(len(owners))]
