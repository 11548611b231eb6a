"""Looking closer at a part of the object: a button, and which part."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_sammed.plugin.views.choosers import Choice, Chooser

AROUND = "object"
VIEW = "view"
DRAWN = "drawn"
PARTS = (
    Choice(AROUND, "Around the object", "The whole object and a margin; all its slices"),
    Choice(
        VIEW,
        "What I see",
        "The part of the image in view: move and zoom to it first.\n"
        "Of a volume, models of slices look at the displayed one, others through the depth of the object.",
    ),
    Choice(
        DRAWN,
        "Drawn region",
        "Press the button, then draw a rectangle; Escape leaves it.\n"
        "Of a volume, models of slices look at the displayed one, others through the depth of the object.",
    ),
)
_TOOLTIP = "Segment a part of the object again, magnified, for finer borders; nothing outside of the part changes"


class CloserRow(QWidget):
    """A button and a choice of the part beside it.

    Signals
    -------
    wanted
        The user wants to look closer at `part`; while a region is being drawn: wants to leave that.
    """

    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton("Look closer", self)
        self.button.setCheckable(True)
        self.button.setObjectName("closer")
        self.part = Chooser(parent=self)
        self.part.set_choices(PARTS)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button)
        row.addWidget(self.part, 1)
        self.button.clicked.connect(self._on_clicked)
        self._drawing = False
        self.set_key("")

    def show_drawing(self, drawing: bool) -> None:
        """Keep the button down while a region is being drawn."""
        self._drawing = drawing
        self.button.setChecked(drawing)

    def set_key(self, key: str) -> None:
        """Name the shortcut in the tooltip."""
        self.button.setToolTip(_TOOLTIP + (f" (key {key})" if key else ""))

    def _on_clicked(self) -> None:
        self.button.setChecked(self._drawing)
        self.wanted.emit()
