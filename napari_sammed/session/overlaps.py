"""Where a newer answer reaches into another object and the user has not said yet whose voxels they are.

With the overlap rule "ask" such voxels are withheld from the newer object: they stay with the object that had them,
shown and saved, until the user decides. What is withheld is written down with the answer, so that it depends on
nothing that comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import apply, cut, span_of
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session.actions import Action, ObjectState

Withheld = tuple[MaskPrompt | None, ...]
"""Of each reading of an answer: the voxels that another object had when it came."""


@dataclass(frozen=True)
class Contest:
    """Voxels that two objects claim.

    Parameters
    ----------
    label : int
        The object whose newer answer reaches there.
    holder : int
        The object that has them.
    mask : MaskPrompt
        The voxels.
    """

    label: int
    holder: int
    mask: MaskPrompt

    @property
    def voxels(self) -> int:
        """How many they are."""
        return int(np.count_nonzero(self.mask.mask))


def withheld_from(
    answer: Prediction, painted: MaskPrompt | None, label: int, labels_in: Callable[[Box], np.ndarray]
) -> Withheld:
    """The voxels of each reading of an answer that other objects have.

    Parameters
    ----------
    answer : Prediction
    painted : MaskPrompt or None
        What belongs to the object whatever the answer says.
    label : int
        Of the object that it is about.
    labels_in : callable
        Gives the label image, without the answer, inside a box.
    """
    masks = [MaskPrompt(r.mask, r.box.low) if r.mask.any() else None for r in answer.readings]
    box = span_of([painted, *masks])
    if box is None:
        return ()
    labels = labels_in(box)
    others = (labels != 0) & (labels != label)
    found = []
    for mask in masks if others.any() else ():
        claimed = np.zeros(box.shape, bool)
        for part in (mask, painted):
            if part is not None:
                claimed[part.extent.shift([-lo for lo in box.low]).slices] |= part.mask
        found.append(_tight(claimed & others, box))
    return tuple(found) if any(mask is not None for mask in found) else ()


def after(
    before: MaskPrompt | None,
    action: Action,
    answer: Prediction,
    withheld: MaskPrompt | None,
    kept: Sequence[Box],
    masks: tuple[MaskPrompt | None, MaskPrompt | None],
) -> MaskPrompt | None:
    """What is withheld from an object after an answer: as its mask, replaced where the answer speaks.

    What users paint or decide withholds nothing: of what was withheld, only what was the object's and still is.

    Parameters
    ----------
    before : MaskPrompt or None
        What was withheld.
    action : Action
    answer : Prediction
    withheld : MaskPrompt or None
        Of this answer.
    kept : sequence of Box
        Parts that the answer leaves as they are.
    masks : tuple of MaskPrompt or None
        The object's, before and after the answer.
    """
    if before is None and withheld is None:
        return None
    if action.do in ("edit", "settle"):
        return _common(_common(before, masks[0]), masks[1])
    if withheld is None:
        said = Prediction.empty(answer.scope, score=answer.score, model=answer.model, silent=answer.silent)
    else:
        said = replace(answer, mask=withheld.mask, box=withheld.extent, alternatives=())
    return apply(before, said, kept)


def contests(states: Iterable[ObjectState], withheld: Mapping[int, MaskPrompt | None]) -> list[Contest]:
    """All voxels that are claimed by one object and withheld from it because another one has them.

    Where something is withheld from both of two objects, the earlier one in the list has it.
    """
    states = [state for state in states if state.mask is not None]
    found = []
    for place, state in enumerate(states):
        held_back = withheld.get(state.label)
        if held_back is None:
            continue
        claimed = _common(held_back, state.mask)
        for other_place, other in enumerate(states):
            if claimed is None or other_place == place:
                continue
            mask = _common(claimed, other.mask)
            if mask is not None and other_place > place:
                mask = _without(mask, withheld.get(other.label))
            if mask is not None:
                found.append(Contest(state.label, other.label, mask))
    return found


class Parting:
    """Who gets what of contested voxels; looked for again only when masks have changed."""

    def __init__(self) -> None:
        self._marks: list[object] = []
        self._contests: list[Contest] = []
        self._masks: dict[int, MaskPrompt | None] = {}

    def contests(self, states: Mapping[int, ObjectState], withheld: Mapping[int, MaskPrompt | None]) -> list[Contest]:
        """See `contests`."""
        marks = [mark for label, state in states.items() for mark in (label, state.mask, withheld[label])]
        known = self._marks
        if len(marks) != len(known) or any(mark is not other for mark, other in zip(marks, known, strict=True)):
            self._marks, self._contests = marks, contests(states.values(), withheld)
            self._masks = {}
            for contest in self._contests:
                mask = self._masks.get(contest.label, states[contest.label].mask)
                self._masks[contest.label] = _without(mask, contest.mask)
        return self._contests

    def parted(
        self, states: Mapping[int, ObjectState], withheld: Mapping[int, MaskPrompt | None]
    ) -> dict[int, ObjectState]:
        """Objects without the voxels that are withheld from them."""
        self.contests(states, withheld)
        masks = self._masks
        return {n: replace(s, mask=masks[n]) if n in masks else s for n, s in states.items()}


def undecided(contested: Iterable[Contest], done: Iterable[Action], locked: set[int]) -> list[Contest]:
    """The contests that are for the user to decide.

    Not those with locked objects, which never lose a voxel, nor voxels that the user has left with the other object
    before.
    """
    lost: dict[tuple[int, int], list[tuple[MaskPrompt, bool]]] = {}
    for action in done:
        if action.do == "settle" and action.part is not None:
            lost.setdefault((action.label, action.sources[0]), []).append((action.part, True))
            lost.setdefault((action.sources[0], action.label), []).append((action.part, False))
    found = []
    for contest in contested:
        mask: MaskPrompt | None = contest.mask
        for part in _gone(lost.get((contest.label, contest.holder), ())):
            mask = _without(mask, part)
        if mask is not None and not {contest.label, contest.holder} & locked:
            found.append(replace(contest, mask=mask))
    return found


def _gone(decisions: Sequence[tuple[MaskPrompt, bool]]) -> list[MaskPrompt]:
    """Parts that an object has lost, without those that it was given later."""
    parts: list[MaskPrompt] = []
    for part, was_lost in decisions:
        if was_lost:
            parts.append(part)
        else:
            parts = [left for old in parts if (left := _without(old, part)) is not None]
    return parts


def _common(one: MaskPrompt | None, other: MaskPrompt | None) -> MaskPrompt | None:
    """Voxels of both, tightly; None if there are none."""
    box = None if one is None or other is None else one.extent.intersect(other.extent)
    if one is None or other is None or box is None:
        return None
    return _tight(_part(one, box) & _part(other, box), box)


def _without(mask: MaskPrompt | None, other: MaskPrompt | None) -> MaskPrompt | None:
    """Voxels of the first that the second lacks, tightly; the same object if it has all of them."""
    box = None if mask is None or other is None else mask.extent.intersect(other.extent)
    if mask is None or other is None or box is None:
        return mask
    left = mask.mask.copy()
    left[box.shift([-lo for lo in mask.offset]).slices] &= ~_part(other, box)
    return _tight(left, mask.extent)


def without(mask: MaskPrompt | None, part: MaskPrompt, box: Box) -> np.ndarray:
    """What is left of a mask inside a box when a part is taken away: boolean, of the box's shape."""
    left = np.zeros(box.shape, bool)
    inside = cut(mask, box)
    if inside is not None:
        left[inside.extent.shift([-lo for lo in box.low]).slices] = inside.mask
    left[part.extent.shift([-lo for lo in box.low]).slices] &= ~part.mask
    return left


def _part(mask: MaskPrompt, box: Box) -> np.ndarray:
    return mask.mask[box.shift([-lo for lo in mask.offset]).slices]


def _tight(mask: np.ndarray, box: Box) -> MaskPrompt | None:
    inner = Box.of_mask(mask)
    return None if inner is None else MaskPrompt(mask[inner.slices].copy(), inner.shift(box.low).low)
