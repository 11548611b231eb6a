"""The list of objects: colour, name, size; one of them is current."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

_SWATCH = 14  # pixels


@dataclass(frozen=True)
class ObjectRow:
    """What the list shows of an object; the colour is red, green, blue, opacity from 0 to 1."""

    label: int
    name: str
    size: str
    colour: tuple[float, float, float, float]


class ObjectList(QWidget):
    """Objects of the session.

    Signals
    -------
    added
        The user wants a new object.
    chosen : int
        Label of the object that is to be the current one.
    renamed : int, str
    deleted : int
    """

    added = Signal()
    chosen = Signal(int)
    renamed = Signal(int, str)
    deleted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = QTableWidget(0, 2, self)
        self.table.setHorizontalHeaderLabels(["Object", "Size"])
        self.table.verticalHeader().hide()
        self.table.setShowGrid(False)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.table.setMinimumHeight(110)
        self.table.setMaximumHeight(260)
        self.table.setToolTip("Prompts go to the selected object; double click a name to change it")
        self.new_button, self.delete_button = QPushButton("New object"), QPushButton("Delete")
        self.delete_button.setToolTip("Remove the selected object; undo brings it back")
        buttons = QHBoxLayout()
        buttons.addWidget(self.new_button)
        buttons.addWidget(self.delete_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        self._labels: list[int] = []
        self._rows: tuple[ObjectRow, ...] = ()
        self.new_button.clicked.connect(lambda: self.added.emit())
        self.delete_button.clicked.connect(self._on_delete)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.table.itemChanged.connect(self._on_renamed)
        self.delete_button.setEnabled(False)

    def set_objects(self, rows: Sequence[ObjectRow], current: int | None) -> None:
        """Show these objects, in this order."""
        self.table.blockSignals(True)
        if tuple(rows) != self._rows:
            self._rows = tuple(rows)
            self._labels = [row.label for row in rows]
            self.table.setRowCount(len(rows))
            for i, row in enumerate(rows):
                name = QTableWidgetItem(swatch(row.colour), row.name)
                size = QTableWidgetItem(row.size)
                size.setFlags(size.flags() & ~Qt.ItemFlag.ItemIsEditable)
                size.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(i, 0, name)
                self.table.setItem(i, 1, size)
        if self.current != current:  # selecting repaints the whole window, canvas included
            if current in self._labels:
                self.table.selectRow(self._labels.index(current))
            else:
                self.table.clearSelection()
        self.table.blockSignals(False)
        self.delete_button.setEnabled(current in self._labels)

    @property
    def current(self) -> int | None:
        """Label of the selected object."""
        rows = {index.row() for index in self.table.selectedIndexes()}
        return self._labels[rows.pop()] if rows else None

    def _on_selected(self) -> None:
        if self.current is not None:
            self.chosen.emit(self.current)

    def _on_renamed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.renamed.emit(self._labels[item.row()], item.text().strip())

    def _on_delete(self) -> None:
        if self.current is not None:
            self.deleted.emit(self.current)


def swatch(colour: tuple[float, float, float, float]) -> QIcon:
    """A square of a colour, for a list."""
    pixmap = QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(QColor.fromRgbF(*colour[:3]))
    return QIcon(pixmap)
