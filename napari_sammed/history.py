"""What happened in a session, and what its objects look like after it; pure bookkeeping, no disk, no network.

Undo and redo move actions between two stacks. An object's mask is the fold of the answers to its standing actions, in
order: each answer replaces the mask inside its scope and leaves the rest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.slicing import extent_of, in_region
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import MaskPrompt, Prompt, Prompts

Deed: TypeAlias = Literal["object", "prompt", "propagate", "edit", "clear", "rename", "delete"]


@dataclass(frozen=True)
class Action:
    """One thing that the user did.

    Parameters
    ----------
    id : int
        Number in the session, rising from 0.
    do : str
        "object" starts one, "prompt", "propagate" (through the stack), "edit" (by hand), "clear" (its prompts and
        mask), "rename", "delete".
    label : int
        The object's value in label images, from 1.
    name : str
        For "object" and "rename".
    prompt : Prompt, optional
        For "prompt".
    model : str
        For "prompt" and "propagate".
    window : Window, optional
        For "prompt" and "propagate": how grey values were mapped.
    region : Box, optional
        For "prompt": the slice or part it was answered in. For "propagate": hard limits.
    axis : int, optional
        For "propagate": across the slices.
    """

    id: int
    do: Deed
    label: int
    name: str = ""
    prompt: Prompt | None = None
    model: str = ""
    window: Window | None = None
    region: Box | None = None
    axis: int | None = None


@dataclass(frozen=True)
class ObjectState:
    """One segmented thing as it stands.

    Parameters
    ----------
    label : int
    name : str
    prompts : Prompts
        Since the object was last cleared.
    mask : MaskPrompt or None
        None while there is none.
    score : float
        Of the latest answer; NaN if none.
    """

    label: int
    name: str
    prompts: Prompts = field(default_factory=Prompts)
    mask: MaskPrompt | None = None
    score: float = float("nan")


@dataclass(frozen=True)
class Change:
    """Something that the listeners may want to show.

    Parameters
    ----------
    labels : tuple of int
        Objects concerned.
    box : Box or None
        Part of the image where masks may have changed; None if only prompts, names or the list of objects did.
    """

    labels: tuple[int, ...]
    box: Box | None


class History:
    """Actions that stand, actions taken back, and the answers to both."""

    def __init__(self) -> None:
        self.done: list[Action] = []
        self.undone: list[Action] = []
        self.answers: dict[int, Prediction] = {}
        self.next_id = 0
        self._masks: dict[int, tuple[tuple[int, ...], MaskPrompt | None]] = {}

    def push(self, action: Action) -> None:
        """A new action; what was undone can no longer be redone."""
        self.done.append(action)
        self.undone.clear()
        self.next_id = max(self.next_id, action.id + 1)

    def undo(self) -> Action | None:
        """Take the latest action back; None if there is none."""
        if not self.done:
            return None
        self.undone.append(self.done.pop())
        return self.undone[-1]

    def redo(self) -> Action | None:
        """Do the action that was taken back last again; None if there is none."""
        if not self.undone:
            return None
        self.done.append(self.undone.pop())
        return self.done[-1]

    def answer(self, action_id: int, prediction: Prediction) -> None:
        self.answers[action_id] = prediction
        self._masks = {label: kept for label, kept in self._masks.items() if action_id not in kept[0]}

    @property
    def objects(self) -> dict[int, ObjectState]:
        """Objects by label, in the order of their making."""
        names: dict[int, str] = {}
        for action in self.done:
            if action.do in ("object", "rename"):
                names[action.label] = action.name
            elif action.do == "delete":
                names.pop(action.label, None)
        return {
            label: ObjectState(label, name, self.prompts(label), self.mask(label), self._score(label))
            for label, name in names.items()
        }

    def prompts(self, label: int, until: Action | None = None) -> Prompts:
        """The object's prompts since it was last cleared, up to and including an action."""
        return Prompts(tuple(a.prompt for a in self._since_clear(label, until) if a.prompt is not None))

    def question(self, action: Action) -> Prompts:
        """What to ask for a prompt action: all standing prompts of its object that touch its region.

        Where clicks correct a slice that was not prompted before (a propagation got there, or the user painted), the
        mask that they correct goes along.
        """
        prompts = self.prompts(action.label, action)
        if action.region is None:
            return prompts
        own = in_region(prompts, action.region)
        if own.of(Box) or own.of(MaskPrompt):
            return own
        first = next(a for a in self._since_clear(action.label, action) if _touches(a, action.region))
        corrected = self.mask(action.label, before=first)
        if corrected is None:
            return own
        return Prompts((*in_region(Prompts((corrected,)), action.region), *own))

    def previous(self, action: Action) -> int | None:
        """The latest earlier action whose logits the answer may start from: same object, model and region."""
        found = None
        for earlier in self._since_clear(action.label, action):
            if earlier.do == "prompt" and earlier.id != action.id and _same_view(earlier, action):
                answer = self.answers.get(earlier.id)
                found = earlier.id if answer is not None and answer.logits is not None else found
        return found

    def mask(self, label: int, before: Action | None = None) -> MaskPrompt | None:
        """The object's mask, after all standing actions or just before one of them."""
        answered = [
            a for a in self._of(label, before) if a.id in self.answers and (before is None or a.id != before.id)
        ]
        ids = tuple(a.id for a in answered)
        known, mask = self._masks.get(label, ((), None))
        if ids[: len(known)] != known:
            known, mask = (), None
        for action_id in ids[len(known) :]:
            mask = apply(mask, self.answers[action_id])
        if before is None:
            self._masks[label] = (ids, mask)
        return mask

    def labels(self, box: Box) -> np.ndarray:
        """The label image (uint16) of all objects inside a box of the image; the later of overlapping ones shows."""
        result = np.zeros(box.shape, np.uint16)
        for state in self.objects.values():
            common = None if state.mask is None else state.mask.extent.intersect(box)
            if common is not None:
                part = state.mask.mask[common.shift([-o for o in state.mask.offset]).slices]
                result[common.shift([-lo for lo in box.low]).slices][part] = state.label
        return result

    def anchors(self, action: Action) -> tuple[MaskPrompt, ...]:
        """The slices across ``action.axis`` where the object is known best, to propagate from.

        Those that were prompted or edited by hand since the object was last cleared; else the slice with most voxels.
        """
        axis = action.axis
        mask = self.mask(action.label, before=action)
        if axis is None or mask is None:
            raise InputError(f"Object {action.label} has no mask yet to propagate: click, draw a box or paint first.")
        start, stop = mask.extent.low[axis], mask.extent.high[axis]
        touched: set[int] = set()
        for earlier in self._since_clear(action.label, action):
            region = earlier.region or (extent_of(earlier.prompt) if earlier.prompt is not None else None)
            if earlier.do in ("prompt", "edit") and region is not None and region.shape[axis] == 1:
                touched.add(region.low[axis])
        slices = np.moveaxis(mask.mask, axis, 0)
        filled = [start + i for i in range(stop - start) if slices[i].any()]
        chosen = [i for i in filled if i in touched] or [start + int(np.argmax(slices.sum(axis=(1, 2))))]
        return tuple(_slice_mask(mask, axis, index) for index in chosen)

    def _since_clear(self, label: int, until: Action | None) -> list[Action]:
        """An object's standing actions since it was made or last cleared, up to and including one of them."""
        kept: list[Action] = []
        for action in self._of(label, until):
            if action.do in ("object", "clear"):
                kept = []
            else:
                kept.append(action)
        return kept

    def _of(self, label: int, until: Action | None) -> Iterator[Action]:
        for action in self.done:
            if action.label == label:
                yield action
            if until is not None and action.id == until.id:
                return

    def _score(self, label: int) -> float:
        scores = [self.answers[a.id].score for a in self.done if a.label == label and a.id in self.answers]
        return scores[-1] if scores else float("nan")


def _touches(action: Action, region: Box) -> bool:
    return action.prompt is not None and extent_of(action.prompt).intersect(region) is not None


def _same_view(one: Action, other: Action) -> bool:
    return (one.model, one.region, one.window) == (other.model, other.region, other.window)


def apply(mask: MaskPrompt | None, answer: Prediction) -> MaskPrompt | None:
    """The object's mask after an answer: replaced inside the answer's scope, untouched outside."""
    if mask is None or mask.extent.intersect(answer.scope) == mask.extent:
        return MaskPrompt(answer.mask, answer.box.low) if answer.mask.any() else None
    frame = answer.box.union(mask.extent)
    result = np.zeros(frame.shape, bool)
    back = tuple(-lo for lo in frame.low)
    result[mask.extent.shift(back).slices] = mask.mask
    said = answer.scope.intersect(frame)
    if said is not None:
        result[said.shift(back).slices] = False
    result[answer.box.shift(back).slices] |= answer.mask
    return MaskPrompt(result, frame.low) if result.any() else None


def _slice_mask(mask: MaskPrompt, axis: int, index: int) -> MaskPrompt:
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
