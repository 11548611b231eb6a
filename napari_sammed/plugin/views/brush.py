"""How wide brush and eraser are."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QSpinBox, QWidget

SMALLEST, USUAL, LARGEST = 1, 10, 400  # voxels


class BrushSize(QWidget):
    """A number of voxels.

    Signals
    -------
    changed : int
        Diameter that the user chose.
    """

    changed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.size_ = QSpinBox(self)
        self.size_.setRange(SMALLEST, LARGEST)
        self.size_.setValue(USUAL)
        self.size_.setSuffix(" voxels")
        self.size_.setKeyboardTracking(False)
        self.size_.valueChanged.connect(self.changed)
        tooltip = (
            "Width of brush and eraser (keys [ and ], or Shift and the mouse wheel).\n"
            "What they paint is kept as it is painted; the model goes on around it."
        )
        self.size_.setToolTip(tooltip)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.size_)

    def show_size(self, size: float) -> None:
        """Show a size without reporting it."""
        self.size_.blockSignals(True)
        self.size_.setValue(round(size))
        self.size_.blockSignals(False)
