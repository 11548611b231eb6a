"""A ghost of the coming mask: while the user chooses where to click, its outline follows the pointer."""

from __future__ import annotations

import logging
import statistics
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_sammed.backend.base import Prediction
from napari_sammed.errors import Cancelled, InputError, NotReady
from napari_sammed.plugin.image.coordinates import current_slice, hidden_axis
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.layers.outlines import Outline, Outlines, around
from napari_sammed.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari_sammed.plugin.desk import Desk
    from napari_sammed.session import Change

logger = logging.getLogger(__name__)

COLOURS = ("#ffffff", "#1a1a1a")
"""Of the dashes: one of them is seen on any tissue, with any kind of colour vision."""

_WIDTH = 2.0  # pixels of the canvas
_REST = 60  # ms that the pointer rests before it is worth asking
_STRIDE = 16  # pixels of the canvas that a moving pointer has gone before it is worth asking
_QUICK = 0.1  # s; a model that takes longer is asked of places where the pointer rests only
_SLOW = 0.4  # s; whoever waits longer than this for a preview has clicked before it comes
_FEW = 5  # previews that tell how fast they are
_AGAIN = 300  # ms until a place is asked about again that was not encoded yet
_PATIENCE = 60  # times that it is


class Preview:
    """Asks what a click under the pointer would give, and shows it. All methods belong to the GUI thread.

    Parameters
    ----------
    desk : Desk

    Attributes
    ----------
    outlines : Outlines
        The ghost.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.outlines = Outlines(desk.writer.helpers, "preview", _WIDTH)
        self._following = self._away = False
        self._running: Future[Prediction] | None = None
        self._mode = Mode.NAVIGATE
        self._label: int | None = None  # of the object that was asked about
        self._asked: Point | None = None
        self._world: np.ndarray | None = None  # where the pointer is
        self._from: np.ndarray | None = None  # where it was asked last, in pixels of the canvas
        self._at = np.zeros(2)
        self._tries = 0
        self._seconds: deque[float] = deque(maxlen=_FEW)
        self._timer = QTimer(desk.panel)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._ask)
        desk.panel.preview.toggled.connect(self._follow)
        desk.on_mode(self._follow_soon)
        desk.viewer.dims.events.ndisplay.connect(self._follow_soon)
        desk.viewer.dims.events.current_step.connect(self._on_slice)
        self._follow_soon()  # a frame that takes over from another one has its tool

    def on_change(self, change: Change) -> None:
        """The session has changed: what was previewed is past, unless it is a click whose answer is to come."""
        if change.box is not None or self._label not in (None, self._desk.session.current):
            self.outlines.clear()
        self._asked = None
        self._go_on()

    def leave(self) -> None:
        """The viewer shows another frame."""
        self._away = True
        self.clear()
        self._desk.gui.post(self._stop)

    def come_back(self) -> None:
        """The viewer shows the image again."""
        self._away = False
        self._follow_soon()

    def clear(self) -> None:
        """Show nothing until the pointer moves again."""
        self._timer.stop()
        self._asked = self._world = self._from = None
        if self._running is not None and self._desk.session is not None:
            self._desk.session.cancel_preview()
        self.outlines.clear()

    def close(self) -> None:
        """Preview nothing any more."""
        self._desk.panel.preview.toggled.disconnect(self._follow)
        self._desk.viewer.dims.events.ndisplay.disconnect(self._follow_soon)
        self._desk.viewer.dims.events.current_step.disconnect(self._on_slice)
        self._stop()

    # ---- the pointer ---------------------------------------------------------------------------------------------

    def _follow_soon(self, event: Any = None) -> None:
        """Outside of napari's own callbacks, in the middle of which layers must not change."""
        self._desk.gui.post(self._follow)

    def _follow(self, event: Any = None) -> None:
        """Follow the pointer while clicks are prompts; cost nothing else."""
        if self._desk.closed or self._away:
            return
        before, self._mode = self._mode, self._desk.writer.mode
        viewer = self._desk.viewer
        clicking = self._mode in (Mode.POSITIVE, Mode.NEGATIVE) and viewer.dims.ndisplay == 2
        if not (clicking and self._desk.panel.preview.isChecked()):
            self._stop()
        elif not self._following:
            self._following = True
            viewer.mouse_move_callbacks.append(self._on_move)
            viewer.events.mouse_over_canvas.connect(self._on_canvas)
        elif self._mode is not before:  # another question at the same place
            self.clear()

    def _stop(self) -> None:
        self.clear()
        self.outlines.hide()
        if self._following:
            self._following = False
            self._desk.viewer.mouse_move_callbacks.remove(self._on_move)
            self._desk.viewer.events.mouse_over_canvas.disconnect(self._on_canvas)

    def _on_move(self, viewer: Any, event: Any) -> None:
        if event.is_dragging:
            self._timer.stop()
            return
        self._world = np.array(event.position, float)
        self._at = np.array(event.pos, float)[:2]
        self._tries = 0
        far = self._from is None or np.linalg.norm(self._at - self._from) >= _STRIDE
        quick = len(self._seconds) == _FEW and statistics.median(self._seconds) < _QUICK
        if not (far and quick and self._timer.isActive()):  # a quick model need not wait until the pointer rests
            self._timer.start(_REST)

    def _on_canvas(self, event: Any) -> None:
        if not event.value:
            self.clear()

    def _on_slice(self, event: Any = None) -> None:
        """Another slice may be shown under the resting pointer; outlines along the border move other steps, too."""
        if not self._following or self._world is None:
            return
        dims, hidden = self._desk.viewer.dims, list(self._desk.viewer.dims.not_displayed)
        here = np.array(dims.point)[hidden]
        if not np.array_equal(self._world[hidden], here):
            self._world[hidden] = here
            self._tries, self._asked = 0, None
            self.outlines.clear()
            self._timer.start(_REST)

    # ---- asking --------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        session = self._desk.session
        if session is None or self._world is None or not self._following or self._running is not None:
            return  # what runs asks again when it is done
        click = self._desk.writer.click_at(self._world)
        if click is None or not _inside(click, session.image.grid):
            self.clear()
            return
        state = session.objects.get(session.current)
        if session.busy or click == self._asked or (state is not None and click in state.prompts.items):
            return
        self._asked, self._from, self._label = click, self._at, session.current
        axis = hidden_axis(self._desk.viewer.dims, self._desk.image.ndim)
        index = current_slice(self._desk.image, self._desk.viewer.dims)
        try:
            self._running = answer = self._desk.intake.preview(session, click)
        except InputError:  # a click would say so; a hover says nothing
            self.outlines.clear()
            return

        def arrived(done: Future[Prediction]) -> None:
            """Beside the interface: an outline takes a moment."""
            paths = []
            if not done.cancelled() and done.exception() is None:
                paths = around(done.result().mask, done.result().box, axis, index)
            self._desk.gui.post(self._on_answer, done, click, paths)

        answer.add_done_callback(arrived)

    def _on_answer(self, answer: Future[Prediction], click: Point, paths: list[np.ndarray]) -> None:
        self._running = None
        if self._desk.closed or not self._following:
            return
        error = CancelledError() if answer.cancelled() else answer.exception()
        if isinstance(error, NotReady):
            self.outlines.clear()
            self._asked = None
            self._tries += 1
            if self._tries < _PATIENCE and self._world is not None:
                self._timer.start(_AGAIN)
            return
        if error is not None:
            if isinstance(error, (Cancelled, CancelledError)):
                self._asked = None
            elif not isinstance(error, InputError):
                logger.warning("A preview failed", exc_info=error)
            self._go_on()
            return
        if self._asked == click:
            self.outlines.show([Outline(path, COLOURS) for path in paths])
        self._note(answer.result())
        self._go_on()

    def _go_on(self) -> None:
        """Ask about where the pointer has gone meanwhile."""
        if self._following and self._world is not None and not self._timer.isActive():
            self._timer.start(_REST)

    def _note(self, answer: Prediction) -> None:
        """Stop asking a model, or a machine, that is too slow for it."""
        self._seconds.append(sum(time for step, time in answer.seconds.items() if step != "total"))
        if len(self._seconds) == _FEW and (usual := statistics.median(self._seconds)) > _SLOW:
            self._seconds.clear()
            self._desk.panel.preview.give_up(
                f"Switched off: {answer.model} needs {usual:.1f} s for a preview here. Tick it to have it nevertheless."
            )


def _inside(click: Point, grid: Any) -> bool:
    try:
        Prompts((click,)).check_inside(grid)
    except InputError:
        return False
    return True
