"""Answers folded into a mask: each replaces the mask where it speaks of it, and leaves the rest alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import apply
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session.actions import Action
from napari_sammed.session.overlaps import after

Counted = Sequence[tuple[Action, Prediction]]


@dataclass(frozen=True)
class Fold:
    """What some answers come to.

    Parameters
    ----------
    ids : tuple of int
        The actions.
    mask : MaskPrompt or None
    withheld : MaskPrompt or None
        What the object does not get if another one claims it, too; see `napari_sammed.session.overlaps`.
    """

    ids: tuple[int, ...] = ()
    mask: MaskPrompt | None = None
    withheld: MaskPrompt | None = None


def folded(counted: Counted, known: Fold, withheld_of: Callable[[Action], MaskPrompt | None]) -> Fold:
    """The fold of answers, going on from a known one of the first of them.

    Parameters
    ----------
    counted : sequence of tuple of Action and Prediction
        An object's, in their order.
    known : Fold
    withheld_of : callable
        What the answer to an action did not get.
    """
    ids = tuple(action.id for action, _ in counted)
    if ids[: len(known.ids)] != known.ids:
        known = Fold()
    mask, withheld = known.mask, known.withheld
    closer = looked_closer(counted[: len(known.ids)])
    for action, answer in counted[len(known.ids) :]:
        kept = closer if action.do in ("prompt", "propagate") and not action.zoom else ()
        before, mask = mask, apply(mask, answer, kept)
        withheld = after(withheld, action, answer, withheld_of(action), kept, (before, mask))
        closer = looked_closer([(action, answer)], closer)
    return Fold(ids, mask, withheld)


def looked_closer(counted: Counted, before: Sequence[Box] = ()) -> list[Box]:
    """Where an object was looked at closer: plain questions leave these parts as they are, all else overrides them."""
    boxes = list(before)
    for action, answer in counted:
        if action.zoom:
            boxes.append(answer.scope)
        elif action.do not in ("prompt", "propagate", "settle"):
            boxes = []
    return boxes
