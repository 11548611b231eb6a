"""What is on its way: progress while it lasts, and what is said when it arrives, fails or is called off."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QTimer

from napari_sammed import messages
from napari_sammed.errors import ServerError
from napari_sammed.plugin.gui_thread import GuiThread

if TYPE_CHECKING:
    from napari_sammed.plugin.views.status import StatusView

T = TypeVar("T")

_ELSEWHERE = "Or choose this computer: the button at the foot says where the models run."
_POLL = 150  # ms between looks at whether anything still runs


class Waiting:
    """Waits for futures without blocking the GUI thread, to which all methods but `progress` belong.

    Parameters
    ----------
    status : StatusView
    gui : GuiThread
    busy : callable
        Whether anything still runs.
    """

    def __init__(self, status: StatusView, gui: GuiThread, busy: Callable[[], bool]) -> None:
        self._status = status
        self._gui = gui
        self._busy = busy
        self._closed = False
        self._cancelled = False
        self._last_error = ""
        self._timer = QTimer(status)
        self._timer.setInterval(_POLL)
        self._timer.timeout.connect(self.watch)

    def expect(self, future: Future[T], then: Callable[[T], None]) -> None:
        """Hand a result over when it is there; if there is none, say why."""
        if self._closed:
            return
        self._cancelled = False
        self._status.set_busy(True)
        self._timer.start()
        future.add_done_callback(lambda done: self._gui.post(self._on_done, done, then))

    def progress(self, text: str, fraction: float) -> None:
        """For those who do the work; may be called on any thread."""
        self._gui.post(self._on_progress, text, fraction)

    def cancelled(self) -> None:
        """The user has called off what runs."""
        self._cancelled = True

    def watch(self) -> None:
        """Show progress as long as anything runs."""
        if self._closed:
            return
        busy = self._busy()
        self._status.set_busy(busy)
        if busy:
            self._timer.start()
        else:
            self._timer.stop()

    def close(self) -> None:
        """Say nothing any more."""
        self._closed = True
        self._timer.stop()
        self._status.set_busy(False)

    def _on_done(self, future: Future[Any], then: Callable[[Any], None]) -> None:
        if self._closed:
            return
        self.watch()
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._last_error = ""
            then(future.result())
            return
        text = messages.failure(error)
        if text is not None:
            self._status.say(text, _ELSEWHERE if isinstance(error, ServerError) else "", retry=True)
            if text != self._last_error:
                self._last_error = text
                _notify(text)
        elif self._cancelled:
            self._cancelled = False
            self._status.say("Cancelled. The prompts stay; the next one is answered together with them.", retry=True)

    def _on_progress(self, text: str, fraction: float) -> None:
        if not self._closed and self._busy():
            self._status.set_progress(f"{text[:1].upper()}{text[1:]} …", fraction)


def _notify(text: str) -> None:
    from napari.utils.notifications import show_error

    show_error(text)
