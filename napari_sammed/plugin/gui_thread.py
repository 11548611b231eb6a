"""Getting work off the GUI thread, and its results back onto it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal


class GuiThread(QObject):
    """Runs functions on the thread that made it, in the order in which any thread posts them.

    Functions posted by the GUI thread itself run later too, so that nothing happens inside napari's own callbacks.
    """

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._closed = False
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def post(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function on the GUI thread soon; nothing happens after `close`."""
        if not self._closed:
            self._posted.emit((function, arguments))

    def close(self) -> None:
        """Drop what is still waiting."""
        self._closed = True
        self.deleteLater()  # here, since Python may collect garbage on any thread, where Qt objects must not end

    def _run(self, call: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        if not self._closed:
            function, arguments = call
            function(*arguments)


class Background:
    """One thread beside the GUI for housekeeping: reading and hashing images, writing files, closing sessions.

    Parameters
    ----------
    gui : GuiThread
    name : str
        Of the thread.
    """

    def __init__(self, gui: GuiThread, name: str = "napari-sammed-plugin") -> None:
        self._gui = gui
        self._pool = ThreadPoolExecutor(1, name)

    def run(self, work: Callable[[], Any], then: Callable[[Future[Any]], None] | None = None) -> None:
        """Do work in the background, then hand its future to a function on the GUI thread."""
        future = self._pool.submit(work)
        if then is not None:
            future.add_done_callback(lambda done: self._gui.post(then, done))

    def close(self, wait: bool) -> None:
        """Take no more work; what was accepted is still done."""
        self._pool.shutdown(wait=wait)
