"""Asks the user whose voxels they are where a new answer reaches into another object, and does what they say."""

from __future__ import annotations

import numpy as np

from napari_sammed import messages
from napari_sammed.plugin.desk import Desk
from napari_sammed.plugin.image.coordinates import hidden_axis
from napari_sammed.plugin.views.objects import OVERLAPS
from napari_sammed.plugin.views.overlaps import Question
from napari_sammed.session import Session
from napari_sammed.session.overlaps import Contest


class OverlapQuestion:
    """The bar of one image. All methods belong to the GUI thread.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bar = desk.panel.overlaps
        self._contest: Contest | None = None
        self._bar.decided.connect(self._decide)
        self._bar.always.connect(self._always)
        self._bar.looked.connect(self._look)

    def refresh(self, session: Session) -> None:
        """Ask what there is to ask, first about the current object."""
        contests = sorted(session.contests, key=lambda contest: contest.label != session.current)
        self._contest = contests[0] if contests else None
        self._bar.ask(self._question(session, contests))

    def close(self) -> None:
        """Ask no more."""
        self._bar.decided.disconnect(self._decide)
        self._bar.always.disconnect(self._always)
        self._bar.looked.disconnect(self._look)
        self._bar.ask(None)

    def _question(self, session: Session, contests: list[Contest]) -> Question | None:
        if not contests:
            return None
        contest, names = contests[0], {label: state.name for label, state in session.objects.items()}
        count = contest.voxels
        size = f"{count:,} voxel{'s' * (count > 1)} ({messages.size(count, session.image.grid)})"
        label, holder = contest.label, contest.holder
        return Question(label, holder, names[label], names[holder], size, len(contests) - 1)

    def _decide(self, winner: int) -> None:
        contest = self._contest
        if contest is None:
            return

        def decide(session: Session) -> None:
            names = {label: state.name for label, state in session.objects.items()}
            session.settle(contest, winner)
            self._desk.say(f"The voxels are {names[winner]}'s now. Undo brings the question back.")

        self._desk.attempt(decide)

    def _always(self, rule: str) -> None:
        def choose(session: Session) -> None:
            session.overlap = rule
            self._desk.say(f"{OVERLAPS[rule]} from now on. Undo, or More > Where objects overlap, brings this back.")

        self._desk.attempt(choose)

    def _look(self) -> None:
        """Show the slice where most of the voxels are."""
        dims, view = self._desk.viewer.dims, self._desk.image
        axis = hidden_axis(dims, view.ndim)
        if self._contest is None or axis is None:
            return
        mask = self._contest.mask
        counts = np.moveaxis(mask.mask, axis, 0).reshape(mask.mask.shape[axis], -1).sum(axis=1)
        middle = [low + size // 2 for low, size in zip(mask.offset, mask.mask.shape, strict=True)]
        middle[axis] = mask.offset[axis] + int(counts.argmax())
        dims.set_point(dims.ndim - view.ndim + axis, view.data_to_world(middle)[axis])
