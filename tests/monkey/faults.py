"""Everything that goes wrong in a process with a napari window, wherever it is told."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from qtpy.QtCore import QtMsgType, qInstallMessageHandler

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.plugin.gui_thread import Background

_KEPT = 20  # actions in a report
_HARMLESS = ("XDG_RUNTIME_DIR", "propagateSizeHints", "does not support", "QStandardPaths", "font family", "_themes")
"""Parts of what Qt says about virtual screens, and about icons that another napari is writing at the same time."""


class Faults:
    """Collects exceptions of all threads, what Qt complains of, exceptions that napari shows, and logged errors.

    Attributes
    ----------
    found : list of str
        One text a fault, with the actions that led to it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.found: list[str] = []
        self._tell = tell
        self._actions: deque[str] = deque(maxlen=_KEPT)
        self._handler = _Handler(self)

    def acted(self, action: str) -> None:
        """Remember an action for the reports of what comes."""
        self._actions.append(action)

    def add(self, what: str) -> None:
        """Something went wrong."""
        trail = "\n".join(f"    {action}" for action in self._actions)
        self.found.append(f"{what.rstrip()}\n  after:\n{trail}")
        self._tell(f"FAULT {len(self.found)}: {self.found[-1]}")

    def install(self) -> None:
        """Listen everywhere; call it when napari has installed its own hooks, which are replaced."""
        from napari.utils.notifications import notification_manager

        sys.excepthook = lambda kind, error, trace: self.add(_text(error))
        sys.unraisablehook = lambda args: self.add(f"unraisable, in {args.object!r}: {_text(args.exc_value)}")
        threading.excepthook = lambda args: self.add(f"in {args.thread.name}: {_text(args.exc_value)}")
        notification_manager.notification_ready.connect(self._on_notification)
        qInstallMessageHandler(self._on_qt)
        logging.getLogger().addHandler(self._handler)
        _overhear(self)

    def _on_notification(self, notification: Any) -> None:
        if getattr(notification, "exception", None) is not None:  # else a sentence of ours, for the user
            self.add(f"napari shows an error: {notification.message}")

    def _on_qt(self, kind: QtMsgType, context: Any, message: str) -> None:
        if kind in (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg) and not any(
            part in message for part in _HARMLESS
        ):
            self.add(f"Qt says: {message}\n{''.join(traceback.format_stack(limit=12))}")


class _Handler(logging.Handler):
    """Errors that anything logs."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        more = "" if record.exc_info is None else "\n" + "".join(traceback.format_exception(*record.exc_info))
        self._faults.add(f"{record.name} logs: {record.getMessage()}{more}")


def _overhear(faults: Faults) -> None:
    """Work in the background that nobody waits for must not fail unheard."""
    run = Background.run

    def overheard(self: Background, work: Callable[[], Any], then: Callable[[Future[Any]], None] | None = None) -> None:
        def heard() -> Any:
            try:
                return work()
            except (InputError, Cancelled, CancelledError):
                raise
            except BaseException as error:
                faults.add(f"in the background: {_text(error)}")
                raise

        run(self, heard, then)

    Background.run = overheard


def _text(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error))
