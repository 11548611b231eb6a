"""How far several answers about one object agree: with one another, and with its mask as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import cut
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt


@dataclass(frozen=True)
class Agreement:
    """Answers compared where all of them say something.

    Parameters
    ----------
    part : Box
        The part of the image that they are compared in: a slice, if one of them is about a slice only.
    voxels : dict of str to int
        Of each answer, in that part.
    dice : dict of str to float
        Overlap of each answer with the object's mask in that part, 0 to 1; NaN where both are empty.
    disagreement : ndarray of float32
        For every voxel of `box`, the share of the answers that differ from the majority, 0 to 0.5.
    box : Box or None
        Around all answers inside `part`; None where they are all empty.
    """

    part: Box
    voxels: dict[str, int]
    dice: dict[str, float]
    disagreement: np.ndarray
    box: Box | None


def agreement(answers: Mapping[str, Prediction], mask: MaskPrompt | None, image: Box) -> Agreement:
    """Compare answers to the same prompts.

    Parameters
    ----------
    answers : mapping of str to Prediction
        By model.
    mask : MaskPrompt or None
        The object as it is.
    image : Box
        All of the image, which is compared in where there are no answers, or none about the same part.
    """
    part: Box | None = image
    for answer in answers.values():
        part = None if part is None else part.intersect(answer.scope)
    part = part or image
    found = {name: cut(_mask(answer), part) for name, answer in answers.items()}
    there = [one for one in found.values() if one is not None]
    known = cut(mask, part)
    box = None
    for one in there:
        box = one.extent if box is None else box.union(one.extent)
    votes = np.zeros((0,) * image.ndim if box is None else box.shape, np.uint16)
    for one in there:
        votes[one.extent.shift([-low for low in box.low]).slices] += one.mask
    differ = np.minimum(votes, len(answers) - votes).astype(np.float32) / max(len(answers), 1)
    return Agreement(
        part,
        {name: 0 if one is None else int(np.count_nonzero(one.mask)) for name, one in found.items()},
        {name: dice(one, known) for name, one in found.items()},
        differ,
        box,
    )


def dice(one: MaskPrompt | None, other: MaskPrompt | None) -> float:
    """Twice what two masks have in common over what they have; NaN where both are empty."""
    sizes = sum(int(np.count_nonzero(mask.mask)) for mask in (one, other) if mask is not None)
    if not sizes:
        return math.nan
    if one is None or other is None:
        return 0.0
    common = one.extent.intersect(other.extent)
    if common is None:
        return 0.0
    parts = [m.mask[common.shift([-o for o in m.offset]).slices] for m in (one, other)]
    return 2 * int(np.count_nonzero(parts[0] & parts[1])) / sizes


def _mask(answer: Prediction) -> MaskPrompt | None:
    return MaskPrompt(answer.mask, answer.box.low) if answer.mask.any() else None
