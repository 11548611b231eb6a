"""Says where the models run."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QPushButton, QSizePolicy, QWidget

_ABOUT = "Where the models run: on this computer, or at a server. Click to choose."
_MARGIN = 16  # pixels beside the text


class PlaceButton(QPushButton):
    """Names the place, and leads to the choice.

    Signals
    -------
    wanted
        The user wants to see where models can run.
    """

    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("place")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(110)
        self.clicked.connect(lambda: self.wanted.emit())
        self.show_place("")

    def show_place(self, host: str, remark: str = "") -> None:
        """Show the host of a server, or with nothing this computer; the remark is said under the pointer."""
        self.place = f"Server {host}" if host else "This computer"
        self.setToolTip("\n".join(filter(None, (remark, _ABOUT))))
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Shorten the text where it is too long."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        room = self.width() - _MARGIN
        self.setText(self.fontMetrics().elidedText(self.place, Qt.TextElideMode.ElideMiddle, room))
