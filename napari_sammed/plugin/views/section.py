"""A part of the panel with a heading that opens and closes it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

_LOOK = "QPushButton { text-align: left; font-weight: bold; border: none; background: transparent; padding: 2px 0px; }"


class Section(QWidget):
    """A heading, and below it whatever is added; closed, only the heading is left.

    Parameters
    ----------
    title : str
    tooltip : str
        What the section is for.
    opened : bool
        Whether it is open until the user closes it.

    Signals
    -------
    toggled : bool
        The user, or the program, has opened or closed it.
    grown
        There is more to see than before.
    """

    toggled = Signal(bool)
    grown = Signal()

    def __init__(self, title: str, tooltip: str, *, opened: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = title
        self.opener = QPushButton(self)
        self.opener.setCheckable(True)
        self.opener.setChecked(opened)
        self.opener.setToolTip(tooltip)
        self.opener.setStyleSheet(_LOOK)
        self.opener.setCursor(Qt.CursorShape.PointingHandCursor)
        self.inner = QWidget(self)
        self.body = QVBoxLayout(self.inner)
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(6)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.opener)
        layout.addWidget(self.inner)
        self.opener.toggled.connect(self._on_toggled)
        self._show(opened)

    def add(self, *widgets: QWidget) -> None:
        """Put widgets below what is there already."""
        for widget in widgets:
            self.body.addWidget(widget)

    @property
    def is_open(self) -> bool:
        """Whether everything is shown."""
        return self.opener.isChecked()

    def set_open(self, opened: bool) -> None:
        """Open or close it."""
        self.opener.setChecked(opened)

    def set_title(self, title: str) -> None:
        """Change the heading."""
        self.title = title
        self._show(self.is_open)

    @property
    def end(self) -> QWidget:
        """The lowest widget of the section that is there."""
        return self.inner if self.is_open else self.opener

    def _on_toggled(self, opened: bool) -> None:
        self._show(opened)
        self.toggled.emit(opened)
        if opened:
            self.grown.emit()

    def _show(self, opened: bool) -> None:
        self.opener.setText(f"{'▾' if opened else '▸'}  {self.title}")
        self.inner.setVisible(opened)
