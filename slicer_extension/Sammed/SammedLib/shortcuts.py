"""Keys of the module's panel, which work while the module is shown, and only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer

SHORTCUTS = {
    "n": "nextButton",
    "u": "undoButton",
    "shift+u": "redoButton",
    "x": "boxButton",
    "q": "propagateButton",
    "k": "closerButton",
    "h": "nextReadingButton",
    "shift+h": "previousReadingButton",
}
"""Key -> button; W changes between the two kinds of points. Slicer's own keys in slice views are left alone."""


class Shortcuts:
    """Keys of the main window.

    Parameters
    ----------
    actions : mapping of str to callable
        What each key does.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self.set: list[Any] = []

    def work(self) -> None:
        """From now on."""
        self.rest()
        window = slicer.util.mainWindow()
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.activated.connect(action)
            self.set.append(shortcut)

    def rest(self) -> None:
        """Leave the keys to others."""
        for shortcut in self.set:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.set = []
