"""Slices encoded while the user looks at them, so that the first prompt on a slice is answered at once."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sammed.backend.slicing import slice_of
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.registry import default_for
from napari_sammed.plugin.image.coordinates import current_slice, hidden_axis
from napari_sammed.plugin.layers.layer_writer import Mode
from napari_sammed.plugin.sessions.opening import get_ready
from napari_sammed.plugin.views.choosers import AUTO
from napari_sammed.prompts import Point, Prompt

if TYPE_CHECKING:
    from napari_sammed.plugin.desk import Desk
    from napari_sammed.session import Session

_REST = 300  # ms that the user stays on a slice before it is worth encoding
_POLL = 150  # ms between looks at whether the slice before is done
_REACH = 2  # neighbours to each side
_QUICK = 0.5  # s; a click would wait longer than this for a neighbour of the slice that it is on


@dataclass(frozen=True)
class Ahead:
    """Who should encode, and how it sees grey values."""

    session: Session
    model: str
    window: Window


class EncodeAhead:
    """Follows the user through a volume: the displayed slice first, then its neighbours, one at a time.

    Nothing is started while anything else runs. What has been started cannot be stopped, so a model that takes longer
    than a moment only gets the slice that the user looks at.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self.viewer = desk.viewer
        self.image = desk.image
        self._desk = desk
        self._status = desk.panel.status
        self._left: list[int] = []
        self._running: list[Future[None]] = []
        self._since = 0.0
        self._here: int | None = None
        self._timer = QTimer(self._status)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._go_on)
        self.viewer.dims.events.current_step.connect(self.start)

    def start(self, event: Any = None) -> None:
        """Begin with the displayed slice, as soon as the user rests on it."""
        self._drop()
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        self._here = None if axis is None else current_slice(self.image, self.viewer.dims)
        if self._here is not None:
            beside = [self._here + sign * step for step in range(1, _REACH + 1) for sign in (1, -1)]
            self._left = [self._here, *beside]
            self._timer.start(_REST)

    def get_ready(self, session: Session, mode: Mode) -> None:
        """Have the model loaded and the displayed slice encoded before the first prompt, if a network answers."""
        grid = session.image.grid
        model = self._model_for(session, mode)
        if model not in registry.names() or (grid.ndim == 3 and 3 in session.backend.card(model).dimensions):
            return
        here = current_slice(self.image, self.viewer.dims)
        region = grid.box
        if here is not None:
            axis = hidden_axis(self.viewer.dims, self.image.ndim)
            region = slice_of(grid, axis, min(max(here, 0), grid.shape[axis] - 1))
        window = self._desk.intake.window(session)
        region = self._desk.intake.looked_at(session, model, region)
        self._desk.background.run(lambda: get_ready(session, model, region, window))

    def close(self) -> None:
        """Encode nothing any more."""
        self.viewer.dims.events.current_step.disconnect(self.start)
        self._timer.stop()
        self._drop()

    def _go_on(self) -> None:
        who = self._who()
        if who is None or self._here is None:
            self._drop()
            return
        if not all(future.done() for future in self._running):
            self._status.murmur("" if who.session.busy else f"Encoding slice {self._here} ahead …")
            self._timer.start(_POLL)
            return
        if self._running and time.perf_counter() - self._since > _QUICK:
            self._left = []
        self._running = []
        if not self._left:
            self._status.murmur("")
            return
        if not who.session.busy:
            self._encode(who, self._left.pop(0))
        self._timer.start(_POLL)

    def _encode(self, who: Ahead, index: int) -> None:
        grid = who.session.image.grid
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        if axis is not None and 0 <= index < grid.shape[axis]:
            self._since = time.perf_counter()
            region = self._desk.intake.looked_at(who.session, who.model, slice_of(grid, axis, index))
            self._running = who.session.backend.prefetch(who.session.image_id, who.model, [region], who.window)

    def _who(self) -> Ahead | None:
        """The model that looks at slices, while the user is prompting with it."""
        session, mode = self._desk.session, self._desk.writer.mode
        if session is None or self._desk.closed or mode is Mode.NAVIGATE:
            return None
        model = self._model_for(session, mode)
        if 3 in session.backend.card(model).dimensions:
            return None
        return Ahead(session, model, self._desk.intake.window(session))

    def _model_for(self, session: Session, mode: Mode) -> str:
        """The model that will probably be asked next."""
        usual: Prompt = session.image.grid.box if mode is Mode.BOX else Point((0,) * self.image.ndim)
        chosen = self._desk.intake.model_for(session, usual)
        return default_for(self.image.ndim, usual) if chosen == AUTO else chosen

    def _drop(self) -> None:
        """Take back what has not begun."""
        for future in self._running:
            future.cancel()
        self._left, self._running = [], []
        self._status.murmur("")
