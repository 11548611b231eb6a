"""One question put to the backend, and the same question again."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sammed.backend.base import Backend, ClassMap, ImageId, Prediction
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.errors import InputError, WeightsError
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits, ModelCard
from napari_sammed.prompts import MaskPrompt


@dataclass(frozen=True)
class Kept:
    """The answers to a question, with their logits, for the questions that start from them."""

    answers: tuple[Prediction, ...]

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        readings = [reading for answer in self.answers for reading in answer.readings]
        return sum(r.mask.nbytes + (0 if r.logits is None else r.logits.values.nbytes) for r in readings)


def check(question: Question, grid: Grid) -> None:
    """Refuse boxes, axes and slices that the image does not have.

    Raises
    ------
    InputError
    """
    arguments = question.arguments
    if question.kind == "refine":  # what of its region lies outside is left out
        _check_axes(arguments["region"], grid)
    else:
        check_region(arguments.get("region"), grid)
    for region in arguments.get("regions", ()):
        check_region(region, grid)
    within = arguments.get("within")
    if within is not None:
        _check_axes(within, grid)
        if within.intersect(grid.box) is None:
            raise InputError(f"The box from {within.low} to {within.high} lies outside the image of {grid.shape}.")
    axis = arguments.get("axis")
    if axis is not None and not 0 <= axis < grid.ndim:
        raise InputError(f"There is no axis {axis} in an image of {grid.ndim} axes.")
    for index in arguments.get("only", ()):
        if not 0 <= index < grid.shape[axis]:
            raise InputError(f"There is no slice {index} along axis {axis} of an image of shape {grid.shape}.")
    for anchor in arguments.get("anchors", ()):
        _check_anchor(anchor, axis, grid)


def put(
    backend: Backend, image: ImageId, question: Question, previous: Logits | None = None, **how: Any
) -> tuple[Prediction, ...] | ClassMap:
    """Ask the backend; `how` are progress, cancel, idle and so on, as the method takes them."""
    if previous is not None:
        how["previous"] = previous
    found = getattr(backend, question.kind)(image, question.model, **question.arguments, **how)
    if isinstance(found, ClassMap):
        return found
    return (found,) if isinstance(found, Prediction) else tuple(found)


def digest(answer: Prediction | ClassMap) -> str:
    """Of what an answer says, in all its readings."""
    said = hashlib.blake2b(digest_size=16)
    if isinstance(answer, ClassMap):
        said.update(f"{answer.box} {answer.classes}".encode())
        said.update(np.ascontiguousarray(answer.labels).tobytes())
        return said.hexdigest()
    for reading in answer.readings:
        said.update(f"{reading.box} {reading.scope} {reading.silent}".encode())
        said.update(np.packbits(reading.mask).tobytes())
    return said.hexdigest()


def same(one: Question, other: Question) -> bool:
    """Whether two questions ask the same, at whatever revision."""
    first, second = one.at(None).to_frame(), other.at(None).to_frame()
    return (
        first.header == second.header
        and len(first.arrays) == len(second.arrays)
        and all(map(np.array_equal, first.arrays, second.arrays))
    )


def available(backend: Backend) -> dict[str, ModelCard]:
    """Cards, by name, of the models whose weights are on this machine, or that need none; reads the disk."""
    names = backend.available() if isinstance(backend, LocalBackend) else backend.installed()
    return {name: backend.card(name) for name in names}


def check_available(backend: Backend, name: str, names: Container[str]) -> None:
    """Refuse models that are not installed: nothing is fetched because a client asks for it.

    Raises
    ------
    InputError
        If there is no such model at all.
    WeightsError
    """
    if name not in names:
        card = backend.card(name)
        raise WeightsError(
            f"The server has no weights of {card.title}: choose another model, or ask whoever runs the server to fetch "
            f"them with `napari-sammed models pull {card.name}`."
        )


def check_region(region: Box | None, grid: Grid) -> None:
    """Refuse a part of an image that is not inside of it."""
    if region is not None:
        _check_axes(region, grid)
        if region.intersect(grid.box) != region:
            raise InputError(
                f"The region from {region.low} to {region.high} is not inside the image of shape {grid.shape}."
            )


def _check_axes(item: Box | MaskPrompt, grid: Grid) -> None:
    if item.ndim != grid.ndim:
        raise InputError(f"What has {item.ndim} axes does not fit an image of {grid.ndim} (shape {grid.shape}).")


def _check_anchor(anchor: MaskPrompt, axis: int, grid: Grid) -> None:
    _check_axes(anchor, grid)
    if anchor.mask.shape[axis] != 1:
        raise InputError(f"A mask to go on from is one voxel thick along axis {axis}, not {anchor.mask.shape[axis]}.")
