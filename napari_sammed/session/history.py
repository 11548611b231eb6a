"""What happened in a session, and what its objects look like after it; pure bookkeeping, no disk, no network.

Undo and redo move actions between two stacks. An object's mask is the fold of the answers to its standing actions, in
order: each answer replaces the mask inside its scope and leaves the rest alone. Answers to a prompt that was removed or
replaced no longer count. What a brush or an eraser painted is kept as it was painted (`session.constraints`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import apply, span_of
from napari_sammed.backend.slicing import extent_of, in_region
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Prompt, Prompts
from napari_sammed.session.actions import Action, Change, ObjectState
from napari_sammed.session.constraints import Constraint, constraints, decides, enforced, thick
from napari_sammed.session.folding import Fold, folded, looked_closer
from napari_sammed.session.overlaps import Contest, Parting, Withheld, undecided
from napari_sammed.session.roster import Entry, Overlap, overlap_rule, painted, roster, stacked

__all__ = ["Action", "Change", "History", "ObjectState", "Origin", "apply", "span_of"]


@dataclass(frozen=True)
class Origin:
    """How an answer came about, as far as it matters for getting the same one again.

    Parameters
    ----------
    previous : int or None
        Action whose logits it started from.
    carries : bool
        Whether it has logits itself that a further prompt may start from.
    together : tuple of int
        Actions that were answered in one pass with it, itself included; empty if it was asked alone.
    withheld : tuple of MaskPrompt or None
        What other objects had of each of its readings when it came, under the rule "ask"; empty if nothing.
    """

    previous: int | None = None
    carries: bool = False
    together: tuple[int, ...] = ()
    withheld: Withheld = ()


class History:
    """Actions that stand, actions taken back, and the answers to both.

    Parameters
    ----------
    whole : Box
        Of the image.
    first_rule : str
        The overlap rule until another one is chosen.
    """

    def __init__(self, whole: Box, first_rule: Overlap = "replace") -> None:
        self._whole = whole
        self.first_rule = first_rule
        self.done: list[Action] = []
        self.undone: list[Action] = []
        self.answers: dict[int, Prediction] = {}
        self.origins: dict[int, Origin] = {}
        self.next_id = 0
        self._own: dict[int, list[Action]] = {}  # the standing ones of each object
        self._folds: dict[int, Fold] = {}
        self._enforced: dict[int, tuple[tuple[int, ...], MaskPrompt | None, MaskPrompt | None]] = {}
        self._parting = Parting()

    def push(self, action: Action) -> None:
        """A new action; what was undone can no longer be redone."""
        self._stand(action)
        self.undone.clear()
        self.next_id = max(self.next_id, action.id + 1)

    def undo(self) -> Action | None:
        """Take the latest action back; None if there is none."""
        if not self.done:
            return None
        self.undone.append(self.done.pop())
        self._own[self.undone[-1].label].pop()
        return self.undone[-1]

    def redo(self) -> Action | None:
        """Do the action that was taken back last again; None if there is none."""
        if not self.undone:
            return None
        self._stand(self.undone.pop())
        return self.done[-1]

    def answer(self, action_id: int, prediction: Prediction, origin: Origin | None = None) -> None:
        """The answer to an action."""
        self.answers[action_id] = prediction
        self.origins[action_id] = origin or Origin()
        self._folds = {label: fold for label, fold in self._folds.items() if action_id not in fold.ids}
        self._enforced = {label: kept for label, kept in self._enforced.items() if action_id not in kept[0]}

    def supposing(self, action: Action) -> History:
        """What would stand after one more action; this history stays as it is, and the two share their answers."""
        other = History(self._whole, self.first_rule)
        other.done = [*self.done, action]
        other.answers, other.origins = self.answers, self.origins
        other.next_id = self.next_id
        other._own = {**self._own, action.label: [*self._own.get(action.label, ()), action]}
        return other

    @property
    def objects(self) -> dict[int, ObjectState]:
        """Objects by label, in their order, without voxels that are withheld from them."""
        states = self.claimed
        if self.overlap != "ask":
            return states
        return self._parting.parted(states, self._all_withheld(states))

    @property
    def claimed(self) -> dict[int, ObjectState]:
        """Objects by label, in their order, with all voxels of their answers: made first, unless they were moved."""
        return {label: self._state(label, entry) for label, entry in roster(self.done).items()}

    @property
    def contests(self) -> list[Contest]:
        """Voxels that two objects claim, for the user to decide; none under other rules than "ask"."""
        if self.overlap != "ask":
            return []
        states = self.claimed
        return undecided(self._parting.contests(states, self._all_withheld(states)), self.done, self.locked)

    @property
    def locked(self) -> set[int]:
        """Labels of the locked objects."""
        return {label for label, entry in roster(self.done).items() if entry.locked}

    @property
    def overlap(self) -> Overlap:
        """The rule for voxels of several objects."""
        return overlap_rule(self.done, self.first_rule)

    @property
    def stack(self) -> list[ObjectState]:
        """All objects, the topmost one last."""
        return stacked(self.objects.values(), self.overlap)

    def find(self, action_id: int) -> Action:
        """An action by number, standing or taken back; KeyError if there is none."""
        for action in (*self.done, *self.undone):
            if action.id == action_id:
                return action
        raise KeyError(f"there is no action {action_id}")

    def standing(self, label: int, until: Action | None = None) -> dict[int, Prompt]:
        """The object's prompts since it was last cleared, by the action that gave them, up to and including one."""
        prompts: dict[int, Prompt] = {}
        for action in self.since_clear(label, until):
            if action.do == "prompt":
                prompts[action.id] = action.prompt
            elif action.do == "replace" and action.target in prompts:
                prompts[action.target] = action.prompt
            elif action.do == "remove":
                prompts.pop(action.target, None)
        return prompts

    def prompts(self, label: int, until: Action | None = None) -> Prompts:
        """The values of `standing`."""
        return Prompts(tuple(self.standing(label, until).values()))

    def question(self, action: Action) -> Prompts:
        """What to ask for an action: all standing prompts of its object that touch its region.

        Where clicks correct a mask that was not prompted for (taken over, painted, reached by a propagation), that
        mask goes along; with a brush or an eraser, also one that another model made.
        """
        prompts = self.prompts(action.label, action)
        own = prompts if action.region is None else in_region(prompts, action.region)
        actions = self.since_clear(action.label, action)
        mergers = [place for place, earlier in enumerate(actions) if earlier.do == "merge"]
        if mergers:  # no prompt of before tells of what came in then, but the mask does
            actions = actions[mergers[-1] + 1 :]
            own = Prompts(tuple(prompt for prompt in own if not isinstance(prompt, MaskPrompt)))
        elif own.of(Box) or own.of(MaskPrompt):
            return own
        first = next((a for a in actions if _touches(a, action.region)), action)
        if thick(action.prompt) and not any(a.asks and _same_view(a, action) for a in actions if a.id < action.id):
            first = action  # this model has not seen the object yet, of which a brush changes a part
        corrected = self.mask(action.label, before=first)
        if corrected is None:
            return own
        given = Prompts((corrected,))
        return Prompts((*(given if action.region is None else in_region(given, action.region)), *own))

    def previous(self, action: Action) -> int | None:
        """The latest earlier action whose logits the answer may start from: same object, model and region.

        Not past the removal of a prompt, which those logits would still know of, nor past a merger, of which they would
        not.
        """
        found = None
        if action.do == "adopt":
            return None  # a model by itself, without the answers of others
        for earlier in self.since_clear(action.label, action):
            if earlier.do in ("remove", "replace", "merge"):
                found = None
            if earlier.id == action.id:
                break
            if earlier.asks and earlier.do != "propagate" and not earlier.zoom and _same_view(earlier, action):
                found = earlier.id if self.origins.get(earlier.id, Origin()).carries else found
        return found

    def reading(self, action_id: int, until: Action | None = None) -> int:
        """Which reading of an answer stands: the one that was chosen last, up to and including an action."""
        label = self.find(action_id).label
        chosen = [a.reading for a in self._of(label, until) if a.do == "choose" and a.target == action_id]
        return chosen[-1] if chosen else 0

    def open_questions(self, label: int) -> list[Action]:
        """The latest standing question of each key, where it has no answer."""
        actions = self.since_clear(label)
        overtaken = self._overtaken(actions, waiting=True)
        latest = {a.key: a for a in actions if a.asks and a.id not in overtaken}
        return [a for a in latest.values() if a.id not in self.answers]

    def given(self, target: int) -> list[Action]:
        """The standing questions that gave a prompt: the action itself, and its replacements by now."""
        return [a for a in self.done if a.id == target or (a.do == "replace" and a.target == target)]

    def stale(self, target: int, label: int) -> list[Action]:
        """The questions after a prompt that asked about it too, and so need asking again when it goes."""
        prompt = self.standing(label)[target]
        return [a for a in self.since_clear(label) if a.id > target and _included(a, prompt)]

    def latest(self, label: int) -> tuple[Action, Prediction] | None:
        """The action whose answer counted last for the object's mask, and that answer; None if there is none."""
        counted = self.counted(label)
        return counted[-1] if counted else None

    def mask(self, label: int, before: Action | None = None) -> MaskPrompt | None:
        """The object's mask, after all standing actions or just before one of them, withheld voxels included."""
        answered = self._answered(label, before).mask
        ids = self._decided(label, before)
        if not ids:
            return answered
        known = self._enforced.get(label)
        if known is not None and known[0] == ids and known[1] is answered:
            return known[2]
        mask = enforced(answered, self.constraints(label, before))
        if before is None:
            self._enforced[label] = (ids, answered, mask)
        return mask

    def _withheld(self, action: Action) -> MaskPrompt | None:
        """What the answer to an action did not get, of the reading that the action is about."""
        reading = action.reading or 0
        found = self.origins.get(action.target if action.do == "choose" else action.id, Origin()).withheld
        return found[min(reading, len(found) - 1)] if found else None

    def _all_withheld(self, labels: Iterable[int]) -> dict[int, MaskPrompt | None]:
        return {label: self._answered(label).withheld for label in labels}

    def constraints(self, label: int, before: Action | None = None) -> list[Constraint]:
        """What was decided about an object by brush, eraser and hand; see `napari_sammed.session.constraints`."""
        actions = [a for a in self.since_clear(label, before) if before is None or a.id != before.id]
        return constraints(actions, self.answers, self._whole)

    def closer(self, label: int) -> list[Box]:
        """Where an object was looked at closer, so that plain questions to come leave its mask as it is."""
        return looked_closer(self.counted(label))

    def said_after(self, action: Action) -> list[Box]:
        """Where later answers about an action's object are on top of what the action is answered with."""
        return [answer.scope for later, answer in self.counted(action.label) if later.id > action.id]

    def labels(self, box: Box) -> np.ndarray:
        """The label image (uint16) of all objects inside a box of the image; the topmost of overlapping ones shows."""
        return painted(self.stack, box)

    def since_clear(self, label: int, until: Action | None = None) -> list[Action]:
        """An object's standing actions since it was made or last cleared, up to and including one of them."""
        kept: list[Action] = []
        for action in self._of(label, until):
            if action.do in ("object", "clear"):
                kept = []
            else:
                kept.append(action)
        return kept

    def _of(self, label: int, until: Action | None) -> Iterator[Action]:
        for action in self._own.get(label, ()):
            yield action
            if until is not None and action.id == until.id:
                return

    def _stand(self, action: Action) -> None:
        self.done.append(action)
        self._own.setdefault(action.label, []).append(action)

    def counted(self, label: int, before: Action | None = None) -> list[tuple[Action, Prediction]]:
        """An object's standing actions whose answers count, with those, up to but without one of them."""
        actions = [a for a in self._of(label, before) if before is None or a.id != before.id]
        overtaken = self._overtaken(actions, waiting=False)
        counted: list[tuple[Action, Prediction]] = []
        for action in actions:
            answer = self.answers.get(action.target if action.do == "choose" else action.id)
            if answer is None or action.id in overtaken or (action.do == "choose" and action.target in overtaken):
                continue
            if action.do == "choose":
                answer = answer.readings[min(action.reading, len(answer.alternatives))]
            counted.append((action, answer))
        return counted

    def _overtaken(self, actions: Iterable[Action], waiting: bool) -> set[int]:
        """Questions that a removed or replaced prompt leaves without ground.

        Those that gave that prompt; and where the removal asks nothing, because no prompt is left beside it, all later
        ones that asked about it too. With `waiting`, the answer to the removal need not be here yet.
        """
        gone: set[int] = set()
        seen: list[Action] = []
        prompts: dict[int, Prompt] = {}
        for action in actions:
            if action.do in ("remove", "replace") and (waiting or not action.asks or action.id in self.answers):
                gone |= {a.id for a in seen if action.target == (a.target if a.do == "replace" else a.id)}
                if not action.asks and action.target in prompts:
                    asked = (a for a in seen if a.id > action.target and _included(a, prompts[action.target]))
                    gone |= {a.id for a in asked}
            if action.prompt is not None:
                prompts[action.target if action.do == "replace" else action.id] = action.prompt
            seen.append(action)
        return gone

    def _decided(self, label: int, before: Action | None) -> tuple[int, ...]:
        """The actions that constraints come from; empty if none decides about voxels."""
        actions = [a for a in self.since_clear(label, before) if before is None or a.id != before.id]
        return tuple(a.id for a in actions) if any(map(decides, actions)) else ()

    def _answered(self, label: int, before: Action | None = None) -> Fold:
        """The fold of the answers."""
        fold = folded(self.counted(label, before), self._folds.get(label, Fold()), self._withheld)
        if before is None:
            self._folds[label] = fold
        return fold

    def _state(self, label: int, entry: Entry) -> ObjectState:
        latest = self.latest(label)
        score, readings, reading = float("nan"), (), 0
        if latest is not None:
            action, answer = latest
            score = answer.score
            if action.do == "choose":
                reading, answer = action.reading, self.answers[action.target]
            readings = tuple(r.score for r in answer.readings) if answer.alternatives else ()
        return ObjectState(
            label,
            prompts=self.prompts(label),
            mask=self.mask(label),
            score=score,
            readings=readings,
            reading=reading,
            **vars(entry),
        )


def _included(action: Action, prompt: Prompt) -> bool:
    """Whether a question asks about all of an object's prompts there, and so about an earlier one of them."""
    if not action.asks or action.do in ("propagate", "refine"):
        return False
    return action.region is None or extent_of(prompt).intersect(action.region) is not None


def _touches(action: Action, region: Box | None) -> bool:
    if action.prompt is None:
        return False
    return region is None or extent_of(action.prompt).intersect(region) is not None


def _same_view(one: Action, other: Action) -> bool:
    return (one.model, one.region, one.window) == (other.model, other.region, other.window)
