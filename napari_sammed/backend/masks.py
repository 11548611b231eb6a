"""Masks of objects in their places: an answer applied, a part cut out, a slice taken out, the box around several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt


def apply(mask: MaskPrompt | None, answer: Prediction, kept: Sequence[Box] = ()) -> MaskPrompt | None:
    """The object's mask after an answer: replaced where the answer speaks of it, untouched elsewhere, and in `kept`."""
    kept = (*kept, *answer.silent)
    if not kept and (mask is None or mask.extent.intersect(answer.scope) == mask.extent):
        return MaskPrompt(answer.mask, answer.box.low) if answer.mask.any() else None
    frame = answer.box if mask is None else answer.box.union(mask.extent)
    before = np.zeros(frame.shape, bool)
    if mask is not None:
        before[_within(mask.extent, frame)] = mask.mask
    after = before.copy()
    said = answer.scope.intersect(frame)
    if said is not None:
        after[_within(said, frame)] = False
    after[_within(answer.box, frame)] |= answer.mask
    for box in kept:
        common = box.intersect(frame)
        if common is not None:
            after[_within(common, frame)] = before[_within(common, frame)]
    return MaskPrompt(after, frame.low) if after.any() else None


def cut(mask: MaskPrompt | None, box: Box) -> MaskPrompt | None:
    """The part of a mask inside a box; None where there is none."""
    common = None if mask is None else mask.extent.intersect(box)
    if mask is None or common is None:
        return None
    part = mask.mask[common.shift([-low for low in mask.offset]).slices]
    return MaskPrompt(part, common.low) if part.any() else None


def voxels_in(mask: MaskPrompt | None, box: Box) -> np.ndarray:
    """A box of the image, filled with the part of a mask that lies in it: boolean, of the box's shape."""
    found = np.zeros(box.shape, bool)
    part = cut(mask, box)
    if part is not None:
        found[_within(part.extent, box)] = part.mask
    return found


def slice_mask(mask: MaskPrompt, axis: int, index: int) -> MaskPrompt:
    """One slice of a mask."""
    offset = list(mask.offset)
    picked = mask.mask.take([index - offset[axis]], axis=axis)
    offset[axis] = index
    return MaskPrompt(picked, tuple(offset))


def span_of(masks: Iterable[MaskPrompt | None]) -> Box | None:
    """The smallest box that holds all masks; None if there are none."""
    box = None
    for mask in masks:
        if mask is not None:
            box = mask.extent if box is None else box.union(mask.extent)
    return box


def changed(before: MaskPrompt | None, after: MaskPrompt | None) -> Box | None:
    """The smallest box of the voxels that only one of two masks of an object has; None if they are the same."""
    frame = None if before is after else span_of((before, after))
    if frame is None:
        return None
    differ = np.zeros(frame.shape, bool)
    for mask in (before, after):
        if mask is not None:
            differ[_within(mask.extent, frame)] ^= mask.mask
    found = Box.of_mask(differ)
    return None if found is None else found.shift(frame.low)


def _within(box: Box, frame: Box) -> tuple[slice, ...]:
    return box.shift([-low for low in frame.low]).slices
