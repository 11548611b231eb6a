"""Looking closer at a part of the current object: around it, what is in view, or a drawn region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sammed import messages
from napari_sammed.backend.base import Prediction
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import hidden_axis, obstacle
from napari_sammed.plugin.image.in_view import part_in_view, part_seen
from napari_sammed.plugin.layers.frame import Frame
from napari_sammed.plugin.views.closer import AROUND, VIEW
from napari_sammed.session import Session

if TYPE_CHECKING:
    from concurrent.futures import Future

    from napari_sammed.plugin.desk import Desk

_DRAW = "Draw a rectangle around the part to look at closer; Escape leaves this."
_NO_SLICE = (
    "A part is chosen on a slice: switch back to the 2D display (the cube button below the layer list) and the usual "
    "order of the axes, or choose to look around the object."
)


class CloserLook:
    """Asks about the part of the image that the panel names, and frames it. All methods belong to the GUI thread.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._latest: Future[Prediction] | None = None
        self.frame = Frame(
            desk.writer.helpers,
            desk.panel,
            desk.gui.post,
            on_drawn=lambda box: desk.attempt(lambda session: self._look(session, box)),
            on_drawing=self._on_drawing,
            keys=desk.keys,
        )

    def start(self, session: Session) -> None:
        """Look closer, or have the user draw where; leaves the drawing if that is going on.

        Raises
        ------
        InputError
            If there is nothing to look at.
        """
        if self.frame.drawing:
            self.frame.hide()
            return
        if session.current is None:
            raise InputError("There is no object yet to look closer at: mark one with a click or a box first.")
        which = self._desk.panel.closer.part.key
        if which != AROUND and obstacle(self._desk.viewer.dims, self._desk.image.ndim):
            raise InputError(_NO_SLICE)
        self._desk.intake.use_settings(session)
        session.around()  # refuses before anything is drawn
        if which == AROUND:
            self._look(session, None)
        elif which == VIEW:
            view = (self._desk.image, self._desk.writer.labels)
            part = part_in_view(*view, self._desk.viewer.dims)  # refuses where there is none
            self._look(session, part_seen(self._desk.viewer, *view) or part)
        else:
            self.frame.draw()

    def close(self) -> None:
        """Take the frame away."""
        self.frame.close()

    def _look(self, session: Session, part: Box | None) -> None:
        self._desk.intake.use_settings(session)
        axis = None
        if part is not None:
            axis = hidden_axis(self._desk.viewer.dims, self._desk.image.ndim)
            if axis is not None and 3 in session.backend.card(session.model_for(part)).dimensions:
                part = through(part, axis, session.around())
        before = session.objects[session.current].score
        self._latest = answer = session.refine(part, axis=axis, progress=self._desk.answers.progress)
        self._desk.expect(answer, messages.looked_closer, before)
        self.frame.show(session.history.done[-1].region)
        answer.add_done_callback(lambda done: self._desk.gui.post(self._on_done, done))

    def _on_done(self, answer: Future[Prediction]) -> None:
        if answer is self._latest:
            self.frame.fade()

    def _on_drawing(self, drawing: bool) -> None:
        self._desk.panel.closer.show_drawing(drawing)
        self._desk.say(_DRAW if drawing else "")


def through(part: Box, axis: int, around: Box) -> Box:
    """A part of a slice, carried along ``axis`` as far as another box reaches."""
    low, high = list(part.low), list(part.high)
    low[axis], high[axis] = around.low[axis], around.high[axis]
    return Box(tuple(low), tuple(high))
