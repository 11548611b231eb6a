"""The objects of a session as a list: class, colour, visibility, lock, order, copies and mergers, and who is on top."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import get_args

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import span_of
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.objects import SessionObjects
from napari_sammed.session.overlaps import Contest, without
from napari_sammed.session.records import BY_HAND
from napari_sammed.session.roster import Overlap

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


class SessionArranging(SessionObjects):
    """What users do with a session's objects as a whole; see `napari_sammed.session.session.Session`.

    Each call that changes anything is one step of undo.
    """

    # ---- looks ---------------------------------------------------------------------------------------------------

    def classify(self, label: int, kind: str) -> None:
        """Say of which class an object is, in the user's own words; an empty text for none."""
        if self._object(label).kind != kind:
            self._note(label, do="classify", name=kind)

    def recolour(self, label: int, colour: str) -> None:
        """Show an object in another colour, ``#rrggbb``.

        Raises
        ------
        InputError
            For anything else than such a colour.
        """
        if not _HEX.fullmatch(colour):
            raise InputError(f"The colour {colour!r} is not of the form #rrggbb.")
        if self._object(label).colour != colour.lower():
            self._note(label, do="recolour", name=colour.lower())

    def show(self, label: int, visible: bool = True) -> None:
        """Show or hide an object. A hidden one is still there: it keeps its voxels, and is saved."""
        if self._object(label).visible != visible:
            self._note(label, do="show", on=visible)

    def lock(self, label: int, locked: bool = True) -> None:
        """Protect an object, or let it be changed again.

        A locked object takes no prompts, is not painted, cleared, merged or deleted, and loses no voxel to another
        one. Its name, class, colour, visibility and place in the list can still be changed. Answers to it that are on
        their way are dropped; its prompts stay and can be asked again once it is unlocked.
        """
        if self._object(label).locked != locked:
            self._note(label, self._extent(label), do="lock", on=locked)

    # ---- who is on top -------------------------------------------------------------------------------------------

    @property
    def overlap(self) -> Overlap:
        """Whose voxels they are where objects overlap, shown and saved: "keep", "replace" or "ask".

        With "replace" the later object in the list lies on top, with "keep" the earlier one. With "ask", voxels of an
        answer that another object has stay with that object until `settle` decides; overlaps of before are as with
        "replace". Locked objects lie over all others in any case.
        """
        with self._lock:
            return self.history.overlap

    @overlap.setter
    def overlap(self, rule: Overlap) -> None:
        if rule not in get_args(Overlap):
            raise InputError(f"There is no overlap rule {rule!r}: choose keep, replace or ask.")
        if rule == self.overlap:
            return
        with self._lock:
            self._record(do="overlap", label=0, name=rule)
            objects = self.history.objects
        self._conversation.notify(tuple(objects), span_of(state.mask for state in objects.values()))

    @property
    def contests(self) -> list[Contest]:
        """Under the rule "ask": voxels that two objects claim, for the user to decide with `settle`."""
        with self._lock:
            return self.history.contests

    def settle(self, contest: Contest, winner: int) -> None:
        """Decide whose some contested voxels are: one step of undo, which cuts them out of the other object.

        Parameters
        ----------
        contest : Contest
            One of `contests`.
        winner : int
            Label of one of its two objects.

        Raises
        ------
        InputError
            If the object that would lose them is locked, or the contest is over.
        """
        pair = (contest.label, contest.holder)
        if winner not in pair:
            raise InputError(f"Object {winner} has no part in this overlap: choose {pair[0]} or {pair[1]}.")
        loser = self._changeable(pair[winner == pair[0]]).label
        box = contest.mask.extent
        with self._lock:
            if not any((c.label, c.holder, c.mask) == (*pair, contest.mask) for c in self.history.contests):
                raise InputError("These objects overlap in other voxels by now: look again.")
            left = without(self.history.mask(loser), contest.mask, box)
            action = self._record(do="settle", label=loser, sources=(winner,), region=box, part=contest.mask)
            self._conversation.keep(action, Prediction.tight(left, box, score=math.nan, model=BY_HAND))
        self._conversation.notify((loser, winner), box)

    @property
    def stack(self) -> list[ObjectState]:
        """All objects, the one that lies on top of the others last."""
        with self._lock:
            return self.history.stack

    def move(self, label: int, position: int) -> None:
        """Give an object another place in the list, from 0; places beyond its ends mean the ends."""
        order = list(self.objects)
        self._object(label)
        position = min(max(position, 0), len(order) - 1)
        if order.index(label) != position:
            self._note(label, self._extent(label), do="move", position=position)

    # ---- copies and mergers --------------------------------------------------------------------------------------

    def duplicate(self, label: int | None = None) -> int:
        """Make a copy of an object's mask a new, current object of the same class; returns its label.

        The prompts stay with the original. Prompts of the copy correct its mask, as those of one that was taken over.
        """
        state = self._object(label)
        with self._lock:
            copy = self._free_label()
            action = self._record(do="duplicate", label=copy, name=f"{state.name} copy", sources=(state.label,))
            self.current = copy
            if state.mask is not None:
                self._conversation.keep(action, self._by_hand(state.mask, self.image.grid.box))
        self._notify(copy, None if state.mask is None else state.mask.extent)
        return copy

    def merge(self, labels: Sequence[int]) -> int:
        """Make several objects one: the first, with the voxels of all, its own prompts and looks; returns its label.

        Raises
        ------
        InputError
            For fewer than two objects, or a locked one among them.
        """
        labels = list(dict.fromkeys(labels))
        if len(labels) < 2:
            raise InputError("Merging takes two objects or more: select them first.")
        with self._lock:
            masks = [self._changeable(label).mask for label in labels]
            extent = span_of(masks)
            first = self.current = labels[0]
            action = self._record(do="merge", label=first, sources=tuple(labels[1:]))
            if extent is not None:
                self._conversation.keep(action, self._by_hand(_union(masks, extent), extent))
        self._conversation.notify(tuple(labels), extent)
        return first

    # ---- inside --------------------------------------------------------------------------------------------------

    def _note(self, label: int, box: Box | None = None, **what: object) -> None:
        with self._lock:
            self._record(label=label, **what)
        self._notify(label, box)

    def _by_hand(self, mask: MaskPrompt, scope: Box) -> Prediction:
        return Prediction(mask.mask, mask.extent, scope, math.nan, BY_HAND, "")


def _union(masks: Sequence[MaskPrompt | None], extent: Box) -> MaskPrompt:
    union = np.zeros(extent.shape, bool)
    for mask in masks:
        if mask is not None:
            union[mask.extent.shift([-lo for lo in extent.low]).slices] |= mask.mask
    return MaskPrompt(union, extent.low)
