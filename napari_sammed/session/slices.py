"""What is known of an object slice by slice: where it was marked, what its propagations said, what they miss by now.

Pure bookkeeping on a history. Slices are indices along an axis of the image array.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import slice_mask
from napari_sammed.backend.propagation import ways
from napari_sammed.backend.slicing import extent_of
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session.actions import Action
from napari_sammed.session.history import History

Part: TypeAlias = Literal["all", "changed", "up", "down"]
"""Which slices a propagation goes to: all of them, those for which something has changed since the last one, or those
above or below the slice that was marked last (of higher or lower indices)."""


@dataclass(frozen=True)
class KnownSlices:
    """What is known of an object's slices across an axis.

    Parameters
    ----------
    scores : dict of int to float
        Slice -> the model's confidence 0..1, for slices that were answered one by one and not marked.
    marked : frozenset of int
        Slices where the user prompted or painted.
    """

    scores: dict[int, float] = field(default_factory=dict)
    marked: frozenset[int] = frozenset()


def known_slices(history: History, label: int, axis: int) -> KnownSlices:
    """Scores of an object's slices by its latest answers, and which of them the user marked."""
    scores: dict[int, float] = {}
    for _, answer in history.counted(label):
        spoken = spoken_of(answer, axis) or range(answer.scope.low[axis], answer.scope.high[axis])
        for index in spoken:
            scores.pop(index, None)
        if answer.axis == axis:
            scores |= answer.slice_scores
    marked = frozenset(_marked(history, label, axis))
    return KnownSlices({index: score for index, score in scores.items() if index not in marked}, marked)


def anchors(history: History, label: int, axis: int, until: Action | None = None) -> tuple[MaskPrompt, ...]:
    """The slices where an object is known best, to propagate from, now or at an action.

    Those that were prompted or edited by hand since the object was last cleared; else the slice with most voxels.

    Raises
    ------
    InputError
        If there is no mask.
    """
    mask = history.mask(label, before=until)
    if mask is None:
        raise InputError(f"Object {label} has no mask yet to propagate: click, draw a box or paint first.")
    start = mask.extent.low[axis]
    counts = np.moveaxis(mask.mask, axis, 0).sum(axis=(1, 2))
    marked = set(_marked(history, label, axis, until))
    chosen = [start + i for i in np.flatnonzero(counts).tolist() if start + i in marked]
    return tuple(slice_mask(mask, axis, index) for index in chosen or [start + int(np.argmax(counts))])


def slices_of(history: History, label: int, axis: int, part: Part, fresh: Action, grid: Box) -> tuple[int, ...]:
    """The slices that a part of a propagation goes to, rising; empty for all.

    Parameters
    ----------
    history : History
    label : int
    axis : int
    part : Part
    fresh : Action
        What would be asked: its model, window and limits. (Its id means nothing.)
    grid : Box
        The whole image.

    Raises
    ------
    InputError
        If there is nothing to do.
    """
    scope = grid if fresh.region is None else fresh.region
    if part == "changed":
        return _changed(history, label, axis, fresh, scope)
    if part == "all":
        return ()
    known = [anchor.offset[axis] for anchor in anchors(history, label, axis)]
    start = next((index for index in reversed(_marked(history, label, axis)) if index in known), known[0])
    indices = range(start + 1, scope.high[axis]) if part == "up" else range(scope.low[axis], start)
    if not indices:
        side = "above" if part == "up" else "below"
        raise InputError(f"There is no slice {side} slice {start}, the one that was marked last, to propagate to.")
    return tuple(indices)


def spoken_of(answer: Prediction, axis: int) -> set[int] | None:
    """The slices that an answer speaks of; None for all of its scope."""
    if not answer.silent:
        return None
    silent = {index for box in answer.silent for index in range(box.low[axis], box.high[axis])}
    return set(range(answer.scope.low[axis], answer.scope.high[axis])) - silent


def ranges(indices: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Rising slices as ranges, each the first and one past the last."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return tuple(found)


def _marked(history: History, label: int, axis: int, until: Action | None = None) -> list[int]:
    """Slices that were prompted or edited by hand since the object was last cleared, in the order of the actions."""
    known = history.standing(label, until)
    found = []
    for action in history.since_clear(label, until):
        prompt = known.get(action.id)
        region = action.region or (extent_of(prompt) if prompt is not None else None)
        if (prompt is not None or action.do == "edit") and region is not None and region.shape[axis] == 1:
            found.append(region.low[axis])
    return found


def _changed(history: History, label: int, axis: int, fresh: Action, scope: Box) -> tuple[int, ...]:
    """Slices whose answer would start from another slice, mask, model or window now, or was not reached before.

    Ways from the anchors are done again as a whole. Ways that nobody has asked for yet come last: a user who went only
    up, and corrects there, does not want to go down now.
    """
    asked, answered = _propagated(history, label, axis)
    known = {anchor.offset[axis]: anchor for anchor in anchors(history, label, axis)}
    changed: list[int] = []
    unasked: list[int] = []
    every = 0
    for start, indices in ways(sorted(known), scope, axis):
        every += len(indices)
        if all(answered.get(index) == (known[start], *_how(fresh)) for index in indices):
            continue
        (unasked if asked.isdisjoint(indices) else changed).extend(indices)
    wanted = changed or unasked
    if not wanted:
        raise InputError(
            "Nothing has changed since this object was propagated: correct it on a slice first, or propagate "
            "everything again."
        )
    return () if len(wanted) == every else tuple(sorted(wanted))


def _propagated(history: History, label: int, axis: int) -> tuple[set[int], dict[int, tuple[object, ...]]]:
    """Slices that propagations were asked for since the object was last cleared, and what each was answered from."""
    standing = {action.id for action in history.since_clear(label)}
    asked: set[int] = set()
    answered: dict[int, tuple[object, ...]] = {}
    for action, answer in history.counted(label):
        if action.do != "propagate" or action.axis != axis or action.id not in standing:
            continue
        first, end = answer.scope.low[axis], answer.scope.high[axis]
        for part in action.slices or ((first, end),):
            asked.update(range(*part))
        spoken = spoken_of(answer, axis) or set(range(first, end))
        known = {anchor.offset[axis]: anchor for anchor in anchors(history, label, axis, action)}
        for start, indices in ways(sorted(known), answer.scope, axis):
            answered |= {index: (known[start], *_how(action)) for index in indices if index in spoken}
    return asked, answered


def _how(action: Action) -> tuple[object, ...]:
    return action.model, action.window, action.region
