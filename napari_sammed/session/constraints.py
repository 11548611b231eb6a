"""What brush, eraser and painting by hand decide about an object: those voxels, whatever a model says of them.

A thick stroke holds from the moment it is drawn, moved or turned into the other kind, before any answer; so do the
voxels that an edit by hand has changed, if it was meant to be held. What is done later wins where it contradicts:
another stroke or edit in the voxels that they share, and a click or thin stroke of the other kind inside of it for all
of it. What is taken away, undone or replaced never was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import span_of
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Stroke
from napari_sammed.session.actions import Action


@dataclass(frozen=True)
class Constraint:
    """Voxels of an image that belong to an object (positive) or do not.

    Parameters
    ----------
    positive : bool
    box : Box
        Where they lie.
    mask : ndarray of bool
        Which voxels of the box they are.
    """

    positive: bool
    box: Box
    mask: np.ndarray

    def contradicted(self, prompt: Prompt) -> bool:
        """Whether a click or thin stroke of the other kind lies inside."""
        if not isinstance(prompt, (Point, Stroke)) or prompt.positive == self.positive:
            return False
        voxels = [prompt.index] if isinstance(prompt, Point) else prompt.voxels()
        return any(
            self.mask[Box.around(np.array(voxel)).shift([-low for low in self.box.low]).slices].any()
            for voxel in voxels
            if self.box.contains(voxel)
        )

    def without(self, edit: Prediction) -> Constraint:
        """What is left where a mask by hand agrees."""
        common = self.box.intersect(edit.scope)
        if common is None:
            return self
        painted = np.zeros(common.shape, bool)
        inside = common.intersect(edit.box)
        if inside is not None:
            painted[_within(inside, common)] = edit.mask[_within(inside, edit.box)]
        left = self.mask.copy()
        left[_within(common, self.box)] &= painted == self.positive
        return Constraint(self.positive, self.box, left)


def thick(prompt: Prompt | None) -> bool:
    """Whether a prompt is a stroke of a brush or an eraser of some width."""
    return isinstance(prompt, Stroke) and prompt.radius > 0


def decides(action: Action) -> bool:
    """Whether an action decides about voxels: a thick stroke, or an edit that is held."""
    return thick(action.prompt) or (action.do == "edit" and action.part is not None)


def constraints(actions: Sequence[Action], answers: Mapping[int, Prediction], whole: Box) -> list[Constraint]:
    """What is decided by brush, eraser and hand after some actions, in the order in which later ones win.

    Parameters
    ----------
    actions : sequence of Action
        Those of one object that stand since it was last cleared.
    answers : mapping of int to Prediction
        By the actions' ids.
    whole : Box
        Of the image.
    """
    last: dict[int, tuple[int, Prompt]] = {}  # by the action that gave a prompt: which one said last what it is
    for action in actions:
        if action.do == "prompt":
            last[action.id] = (action.id, action.prompt)
        elif action.do == "replace" and action.target in last:
            last[action.target] = (action.id, action.prompt)
        elif action.do == "remove":
            last.pop(action.target, None)
    said = dict(last.values())
    found: list[Constraint] = []
    for action in actions:
        prompt = said.get(action.id)
        if thick(prompt):
            marked = prompt.footprint(whole)
            found += [] if marked is None else [Constraint(prompt.positive, *marked)]
        elif prompt is not None:
            found = [constraint for constraint in found if not constraint.contradicted(prompt)]
        if action.do in ("edit", "merge", "settle") and action.id in answers:
            found = [constraint.without(answers[action.id]) for constraint in found]
        if action.do == "edit" and action.part is not None and action.id in answers:
            found += _held(action.part, answers[action.id])
    return found


def _held(changed: MaskPrompt, edit: Prediction) -> list[Constraint]:
    """The voxels that an edit by hand has changed, as those that it added and those that it took away."""
    box = changed.extent
    added = np.zeros(box.shape, bool)
    inside = box.intersect(edit.box)
    if inside is not None:
        added[_within(inside, box)] = edit.mask[_within(inside, edit.box)]
    parts = Constraint(True, box, changed.mask & added), Constraint(False, box, changed.mask & ~added)
    return [part for part in parts if part.mask.any()]


def enforced(mask: MaskPrompt | None, found: Sequence[Constraint]) -> MaskPrompt | None:
    """An object's mask with what was decided about it; None if nothing is left."""
    frame = span_of([mask])
    for constraint in found:
        if constraint.positive:
            frame = constraint.box if frame is None else frame.union(constraint.box)
    if frame is None or not found:
        return mask
    voxels = np.zeros(frame.shape, bool)
    if mask is not None:
        voxels[_within(mask.extent, frame)] = mask.mask
    for constraint in found:
        common = constraint.box.intersect(frame)
        if common is not None:
            part = voxels[_within(common, frame)]
            part[constraint.mask[_within(common, constraint.box)]] = constraint.positive
    return MaskPrompt(voxels, frame.low) if voxels.any() else None


def _within(box: Box, frame: Box) -> tuple[slice, ...]:
    return box.shift([-low for low in frame.low]).slices
