"""Stepping through the readings of an ambiguous answer."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget


class ReadingBar(QWidget):
    """Which of several readings is shown; hidden where there is only one.

    Signals
    -------
    stepped : int
        1 for the next reading, -1 for the one before.
    """

    stepped = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = QLabel(self)
        self.text.setObjectName("reading")
        self.text.setToolTip("A click can mean a part or the whole: the model has these answers, its own choice first")
        self.back, self.forth = QPushButton("◀", self), QPushButton("▶", self)
        self.set_key("")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.text, 1)
        for button, step in ((self.back, -1), (self.forth, 1)):
            button.setMaximumWidth(36)
            button.clicked.connect(lambda _, step=step: self.stepped.emit(step))
            row.addWidget(button)
        self.set_readings((), 0)

    def set_readings(self, scores: Sequence[float], shown: int) -> None:
        """Show which of the readings, by their scores, is in the image now."""
        several = len(scores) > 1
        if several:
            self.text.setText(f"Reading {shown + 1} of {len(scores)}, score {scores[shown]:.2f}")
        self.setVisible(several)

    def set_key(self, key: str) -> None:
        """Name the shortcut in the tooltips."""
        self.back.setToolTip("Show the reading before")
        self.forth.setToolTip("Show the next reading" + (f" (key {key})" if key else ""))
