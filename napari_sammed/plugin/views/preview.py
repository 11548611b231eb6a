"""Whether the coming mask is shown under the pointer, and why not."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

_TOOLTIP = (
    "While you choose where to click, a dashed outline shows the mask that the click would give.\n"
    "Nothing changes until you click. It needs an encoded slice and a quick model; clicks always go first."
)


class PreviewBox(QWidget):
    """A checkbox, and small print below it when it was switched off by itself.

    Signals
    -------
    switched : bool
        Previews are wanted, or no longer; by the user or by `give_up`.
    """

    switched = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QCheckBox("Preview", self)
        self.box.setObjectName("preview")
        self.box.setToolTip(_TOOLTIP)
        self.box.setChecked(True)
        self.note = QLabel(self)
        self.note.setObjectName("preview-note")
        self.note.setWordWrap(True)
        self.note.setStyleSheet("color: gray; font-size: 11px;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.box, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.note)
        self.note.hide()
        self.insisted = False
        self.box.clicked.connect(self._on_clicked)
        self.box.toggled.connect(self.switched)

    @property
    def wanted(self) -> bool:
        """Whether the coming mask is to be shown."""
        return self.box.isChecked()

    def give_up(self, why: str) -> None:
        """Switch it off and say why in small print, unless the user has switched it on again after that."""
        if self.insisted or not self.wanted:
            return
        self.note.setText(why)
        self.note.show()
        self.box.setChecked(False)

    def _on_clicked(self, checked: bool) -> None:
        self.insisted = self.insisted or (checked and self.note.isVisibleTo(self))
        self.note.hide()
