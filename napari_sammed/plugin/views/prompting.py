"""Choosing what a press on the canvas means: a click, a box, a box across slices, a stroke."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

MODES = {
    "positive": ("Point +", "Click what belongs to the object"),
    "negative": ("Point -", "Click what does not belong to the object"),
    "box": ("Box", "Draw a rectangle around the object"),
    "brush": ("Brush", "Paint what belongs to the object; the model goes on around it"),
    "eraser": ("Eraser", "Paint over what does not belong to the object"),
    "navigate": ("Move", "Move, zoom and scroll without prompting"),
}

_PADDING = 14  # pixels


def with_key(tooltip: str, key: str) -> str:
    """A tooltip that names the shortcut, if there is one."""
    return f"{tooltip} (key {key})" if key else tooltip


class ModeButtons(QWidget):
    """A button for each tool, one of them down.

    Signals
    -------
    chosen : str
        A key of `MODES`.
    """

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        for mode, (label, tooltip) in MODES.items():
            button = QPushButton(label, self)
            button.setCheckable(True)
            button.setToolTip(tooltip)
            button.setObjectName(f"mode-{mode}")
            button.setMinimumWidth(button.fontMetrics().horizontalAdvance(label) + _PADDING)  # by itself, it is wider
            button.clicked.connect(lambda _, mode=mode: self.chosen.emit(mode))
            group.addButton(button)
            row.addWidget(button)
            self.buttons[mode] = button
        self.show_mode("navigate")

    def show_mode(self, mode: str) -> None:
        """Put a button down without reporting it."""
        self.buttons[mode].setChecked(True)

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Name the shortcut of each mode in its tooltip."""
        for mode, button in self.buttons.items():
            button.setToolTip(with_key(MODES[mode][1], keys.get(mode, "")))


class SliceRange(QWidget):
    """The slices that a box reaches through.

    The user goes to the first slice of the object and presses its button, the same for the last slice, and draws a
    rectangle around the object's largest extent on any slice.

    Signals
    -------
    here : str
        "first" or "last": take the slice that is shown now.
    """

    here = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.across = QCheckBox("Box across slices", self)
        self.across.setToolTip(
            "The next rectangle is a box through all slices from first to last.\n"
            "Go to the object's first slice and press its button, the same for the last one, then draw."
        )
        self.first, self.last = QSpinBox(self), QSpinBox(self)
        self.first_here, self.last_here = QPushButton("This slice"), QPushButton("This slice")
        self._inner = QWidget(self)
        grid = QGridLayout(self._inner)
        grid.setContentsMargins(18, 0, 0, 0)
        for row, (name, spin, button) in enumerate(
            (("first", self.first, self.first_here), ("last", self.last, self.last_here))
        ):
            button.setToolTip(f"Take the slice that is shown now as the {name} one of the box")
            button.clicked.connect(lambda _, name=name: self.here.emit(name))
            spin.setToolTip(f"Number of the {name} slice (from 0)")
            spin.setKeyboardTracking(False)
            spin.setMinimumWidth(60)
            grid.addWidget(QLabel("From" if row == 0 else "To"), row, 0)
            grid.addWidget(spin, row, 1)
            grid.addWidget(button, row, 2)
        grid.setColumnStretch(1, 1)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.across)
        layout.addWidget(self._inner)
        self._inner.hide()
        self.across.toggled.connect(self._inner.setVisible)

    def set_limits(self, count: int | None, here: int = 0) -> None:
        """Offer slices 0 to ``count`` - 1, starting at ``here``; None hides everything: the image is flat."""
        self.setVisible(count is not None)
        if count is None:
            self.across.setChecked(False)
            return
        for spin in (self.first, self.last):
            spin.setRange(0, count - 1)
            spin.setValue(here)

    def set_slice(self, which: str, index: int) -> None:
        """Set the first or last slice; the other one gives way so that first stays before last."""
        if which == "first":
            self.first.setValue(index)
            self.last.setValue(max(self.last.value(), index))
        else:
            self.last.setValue(index)
            self.first.setValue(min(self.first.value(), index))

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last slice; None if boxes are to stay on their slice."""
        if not self.across.isChecked():
            return None
        low, high = sorted((self.first.value(), self.last.value()))
        return low, high
