"""Answers of several models to the same prompts: a legend of their outlines with figures, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sammed.plugin.views.icons import filled

COLUMNS = {
    "Model": "The colour is that of its outline",
    "Score": "How good the model itself believes its mask to be, 0 to 1",
    "Size": "Of the mask, in the part that all models were asked about",
    "Dice": "Overlap with the object's mask as it is: 1 is the same, 0 has nothing in common",
    "s": "Seconds that the model took, loading it included where it was not in use yet",
}
_MOST_ROWS = 8  # seen at once; more scroll


@dataclass(frozen=True)
class AnswerRow:
    """What the table shows of a model.

    Parameters
    ----------
    model : str
        Registry name.
    title : str
        As people say it.
    colour : str
        ``#rrggbb``.
    figures : tuple of str
        One for each column after the first.
    note : str
        In place of the figures, while there are none: it waits, or why it could not answer.
    """

    model: str
    title: str
    colour: str
    figures: tuple[str, ...] = ()
    note: str = ""


class ComparisonView(QWidget):
    """The table and its buttons; hidden while there is nothing to compare.

    Signals
    -------
    taken : str
        The user wants a model's answer in place of the mask.
    chosen : str
        The user has selected a model's row.
    left
        The user has seen enough.
    grown
        There is more to see than before.
    """

    taken = Signal(str)
    chosen = Signal(str)
    left = Signal()
    grown = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.caption = QLabel(self)
        self.caption.setWordWrap(True)
        self.table = _table(self)
        self.take_button = QPushButton("Take over", self)
        self.take_button.setToolTip("Put the selected model's answer in the place of the object's mask; undo goes back")
        self.close_button = QPushButton("Close", self)
        self.close_button.setToolTip("Take the outlines and the map of disagreement away; the mask stays as it is")
        row = QHBoxLayout()
        row.addWidget(self.take_button)
        row.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.caption)
        layout.addWidget(self.table)
        layout.addLayout(row)
        self.take_button.clicked.connect(self._on_take)
        self.close_button.clicked.connect(lambda: self.left.emit())
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.table.itemDoubleClicked.connect(lambda _: self._on_take())
        self._rows: tuple[AnswerRow, ...] = ()
        self._selected = ""
        self.set_rows((), "")

    def set_rows(self, rows: Sequence[AnswerRow], caption: str) -> None:
        """Show these models; none hides everything."""
        new = bool(rows) and self.isHidden()
        self.caption.setText(caption)
        if tuple(rows) != self._rows:
            selected = self.selected
            self._rows = tuple(rows)
            self.table.blockSignals(True)
            self.table.clearSpans()
            self.table.setRowCount(len(rows))
            for place, row in enumerate(rows):
                self._show(place, row)
                if row.model == selected:
                    self.table.selectRow(place)
            self.table.blockSignals(False)
            self.table.resizeRowsToContents()
            self._fit()
            self._on_selected()
        self.setVisible(bool(rows))
        if new:
            self.grown.emit()

    @property
    def selected(self) -> str:
        """Registry name of the selected row's model; empty if none is."""
        places = {index.row() for index in self.table.selectedIndexes()}
        return self._rows[places.pop()].model if places and self._rows else ""

    def _show(self, place: int, row: AnswerRow) -> None:
        title = QTableWidgetItem(filled(QColor(row.colour)), row.title)
        title.setToolTip(row.title)
        self.table.setItem(place, 0, title)
        for column, text in enumerate(row.figures or (row.note,), 1):
            item = QTableWidgetItem(text)
            item.setToolTip(row.note)
            if row.figures:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(place, column, item)
        if not row.figures:
            self.table.setSpan(place, 1, 1, len(COLUMNS) - 1)

    def _fit(self) -> None:
        """As high as its rows, up to a limit."""
        heights = [self.table.rowHeight(place) for place in range(min(self.table.rowCount(), _MOST_ROWS))]
        self.table.setFixedHeight(self.table.horizontalHeader().sizeHint().height() + sum(heights) + 4)

    def _on_selected(self) -> None:
        row = next((row for row in self._rows if row.model == self.selected), None)
        self.take_button.setEnabled(row is not None and bool(row.figures))
        if self.selected != self._selected:
            self._selected = self.selected
            self.chosen.emit(self._selected)

    def _on_take(self) -> None:
        if self.take_button.isEnabled():
            self.taken.emit(self.selected)


def _table(parent: QWidget) -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS), parent)
    table.setObjectName("comparison")
    table.setToolTip("One row a model: select one to see its outline")
    table.setHorizontalHeaderLabels(list(COLUMNS))
    for column, tooltip in enumerate(COLUMNS.values()):
        table.horizontalHeaderItem(column).setToolTip(tooltip)
    table.verticalHeader().hide()
    table.setShowGrid(False)
    table.setWordWrap(True)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    header = table.horizontalHeader()
    header.setMinimumSectionSize(24)
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table
