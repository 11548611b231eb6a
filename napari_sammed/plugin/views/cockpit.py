"""Where a propagation can be trusted and where not, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QMenu, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_sammed.plugin.views.prompting import with_key
from napari_sammed.plugin.views.strip import ConfidenceStrip

if TYPE_CHECKING:
    from qtpy.QtGui import QAction

PARTS = {
    "changed": ("What changed", "Only slices near to those that you corrected since, and what was not reached"),
    "up": ("Only up", "From the slice that you marked last to those with higher numbers"),
    "down": ("Only down", "From the slice that you marked last to those with lower numbers"),
    "all": ("Everything", "All slices anew, from all that you marked"),
}
"""What can be propagated -> title, tooltip; see `napari_sammed.session.slices.Part`."""
_WORST = "Go to the slice that can be trusted least; again for the next one"
_NEXT = "Go to the place where the object is most in doubt, and mark it with a ring"


class PropagateMenu(QToolButton):
    """An arrow beside the button "Propagate": which slices.

    Signals
    -------
    wanted : str
        A key of `PARTS`.
    """

    wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("propagate-menu")
        self.setText("▾")
        self.setToolTip("Propagate what changed, only up, only down, or everything")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.choices: dict[str, QAction] = {}
        for part, (title, tooltip) in PARTS.items():
            action = self.choices[part] = menu.addAction(title)
            action.setToolTip(tooltip)
            action.triggered.connect(lambda _, part=part: self.wanted.emit(part))
        self.setMenu(menu)


class CockpitView(QWidget):
    """The strip, and two ways to go to where something is to do.

    Signals
    -------
    wanted : str
        "worst" or "next".
    """

    wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strip = ConfidenceStrip(self)
        self.buttons = {"worst": QPushButton("Worst slice", self), "next": QPushButton("Where next?", self)}
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        for name, button in self.buttons.items():
            button.setObjectName(name)
            button.clicked.connect(lambda _, name=name: self.wanted.emit(name))
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.strip)
        layout.addLayout(row)
        self.set_keys({})

    def set_stack(self, stack: bool) -> None:
        """Flat images have no slices, but places in doubt."""
        self.strip.setVisible(stack)
        self.buttons["worst"].setEnabled(stack)

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Name the shortcuts in the tooltips."""
        self.buttons["worst"].setToolTip(with_key(_WORST, keys.get("worst", "")))
        self.buttons["next"].setToolTip(with_key(_NEXT, keys.get("next", "")))
