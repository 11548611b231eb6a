"""Which objects there are, what they are called, how they look, and which of them lies on top: no masks computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session.actions import Action, ObjectState

Overlap: TypeAlias = Literal["keep", "replace", "ask"]
"""Whose voxels they are where objects overlap: the earlier one's in the list ("keep"), the later one's ("replace"), or
those of the object that had them until the user decides ("ask")."""

PALETTE = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#88ccee",
    "#999933",
    "#aa4499",
    "#44aa99",
    "#ddcc77",
    "#cc6677",
    "#117733",
    "#882255",
)
"""Colours of objects that nobody gave one, by label: those of Okabe and Ito, then of Tol's muted set, which people with
any kind of colour vision tell apart."""


@dataclass(frozen=True)
class Entry:
    """An object in the list; the fields are those of `napari_sammed.session.actions.ObjectState`."""

    name: str
    colour: str
    kind: str = ""
    visible: bool = True
    locked: bool = False


def default_colour(label: int) -> str:
    """The palette's colour for a label."""
    return PALETTE[(label - 1) % len(PALETTE)]


def roster(actions: Iterable[Action]) -> dict[int, Entry]:
    """The objects that stand after some actions, by label, in their order: that of their making unless moved."""
    entries: dict[int, Entry] = {}
    for action in actions:
        label = action.label
        match action.do:
            case "object" | "take":
                entries[label] = Entry(action.name, default_colour(label))
            case "duplicate":
                kind = entries[action.sources[0]].kind
                entries[label] = Entry(action.name, default_colour(label), kind)
            case "rename":
                entries[label] = replace(entries[label], name=action.name)
            case "classify":
                entries[label] = replace(entries[label], kind=action.name)
            case "recolour":
                entries[label] = replace(entries[label], colour=action.name)
            case "show":
                entries[label] = replace(entries[label], visible=action.on)
            case "lock":
                entries[label] = replace(entries[label], locked=action.on)
            case "move":
                order = [other for other in entries if other != label]
                order.insert(action.position, label)
                entries = {other: entries[other] for other in order}
            case "merge":
                for source in action.sources:
                    entries.pop(source)
            case "delete":
                entries.pop(label)
    return entries


def overlap_rule(actions: Sequence[Action], first: Overlap = "replace") -> Overlap:
    """The rule that was chosen last, else the first one."""
    return next((action.name for action in reversed(actions) if action.do == "overlap"), first)


def stacked(states: Iterable[ObjectState], rule: Overlap) -> list[ObjectState]:
    """Objects with the topmost one last: locked ones lie over all others, and the rule decides among their likes."""
    ordered = list(states)
    if rule == "keep":
        ordered.reverse()
    return sorted(ordered, key=lambda state: state.locked)


def covering(state: ObjectState, stack: Sequence[ObjectState]) -> tuple[MaskPrompt, ...]:
    """Masks that lie over an object of a stack and may hide voxels of it."""
    if state.mask is None:
        return ()
    place = [other.label for other in stack].index(state.label)
    masks = (other.mask for other in stack[place + 1 :] if other.mask is not None)
    return tuple(mask for mask in masks if mask.extent.intersect(state.mask.extent) is not None)


def uncovered(mask: MaskPrompt | None, covers: Sequence[MaskPrompt]) -> MaskPrompt | None:
    """What is left of a mask under others; None if nothing is."""
    if mask is None or not covers:
        return mask
    left = mask.mask.copy()
    for cover in covers:
        common = cover.extent.intersect(mask.extent)
        left[common.shift([-o for o in mask.offset]).slices] &= ~_part(cover, common)
    return MaskPrompt(left, mask.offset) if left.any() else None


def painted(stack: Iterable[ObjectState], box: Box, steps: Sequence[int] | None = None) -> np.ndarray:
    """The label image (uint16) of stacked objects inside a box of the image, every so many-th voxel of each axis."""
    steps = steps or (1,) * box.ndim
    result = np.zeros([-(-size // step) for size, step in zip(box.shape, steps, strict=True)], np.uint16)
    for state in stack:
        common = None if state.mask is None else state.mask.extent.intersect(box)
        if common is not None:
            here, there = [], []
            for low, first, last, offset, step in zip(
                box.low, common.low, common.high, state.mask.offset, steps, strict=True
            ):
                start, stop = -(-(first - low) // step), -(-(last - low) // step)
                here.append(slice(start, stop))
                there.append(slice(low + start * step - offset, last - offset, step))
            result[tuple(here)][state.mask.mask[tuple(there)]] = state.label
    return result


def _part(mask: MaskPrompt, box: Box) -> np.ndarray:
    return mask.mask[box.shift([-o for o in mask.offset]).slices]
