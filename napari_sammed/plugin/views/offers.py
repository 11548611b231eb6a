"""A bar with something that was found, and what can be done about it; the work goes on beside it."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sammed.plugin.views.choosers import Choice

_LOOK = "#offers { border: 1px solid #40c4ff; border-left: 4px solid #40c4ff; border-radius: 3px; margin: 4px 9px; }"
_IN_A_ROW = 2


class OfferBar(QFrame):
    """A sentence and buttons; hidden while there is nothing to offer.

    Signals
    -------
    answered : str
        Key of the choice that the user took.
    """

    answered = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("offers")
        self.setStyleSheet(_LOOK)
        self.text = QLabel(self)
        self.text.setWordWrap(True)
        self.text.setObjectName("offer")
        self.buttons: dict[str, QPushButton] = {}
        self._rows = QGridLayout()
        self._rows.setColumnStretch(0, 1)
        self._rows.setColumnStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(17, 10, 17, 10)  # the frame's own margin included
        layout.addWidget(self.text)
        layout.addLayout(self._rows)
        self.hide()

    def offer(self, text: str, choices: Sequence[Choice]) -> None:
        """Show a sentence and what can be done, the usual choice first; takes the place of the offer before."""
        self.withdraw()
        self.text.setText(text)
        for number, choice in enumerate(choices):
            button = self.buttons[choice.key] = QPushButton(choice.label, self)
            button.setToolTip(choice.tooltip)
            button.clicked.connect(lambda _, key=choice.key: self._answer(key))
            self._rows.addWidget(button, *divmod(number, _IN_A_ROW))
        self.show()

    def withdraw(self) -> None:
        """Take the offer away."""
        self.hide()
        for button in self.buttons.values():
            self._rows.removeWidget(button)
            button.deleteLater()
        self.buttons = {}

    def _answer(self, key: str) -> None:
        self.withdraw()
        self.answered.emit(key)
