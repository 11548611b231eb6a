"""Segmenting without prompts: the model, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_sammed.plugin.views.choosers import ModelChooser
from napari_sammed.plugin.views.icons import swatch
from napari_sammed.plugin.views.section import Section


@dataclass(frozen=True)
class ClassRow:
    """What the list shows of a class; the colour is red, green, blue, opacity from 0 to 1."""

    name: str
    size: str
    colour: tuple[float, float, float, float]
    taken: bool


class ClassSection(Section):
    """Closed at first: which model, "Segment everything", and the classes it found as a legend.

    Signals
    -------
    wanted
        The user wants the whole image segmented with `model`.
    taken : str
        Name of the class that the user wants as an object.
    """

    wanted = Signal()
    taken = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        tooltip = "Label all organs that a model knows, without any prompt"
        super().__init__("Segment everything", tooltip, opened=False, parent=parent)
        self.model = ModelChooser(self.inner)
        self.start_button = QPushButton("Segment the whole image", self.inner)
        self.start_button.setToolTip("Goes on in the background; prompts are answered meanwhile")
        self.table = _table(self.inner)
        self.take_button = QPushButton("Take over as object", self.inner)
        self.take_button.setToolTip("Make the selected class an object that clicks, boxes and the brush can correct")
        below = QHBoxLayout()
        below.addWidget(self.take_button)
        self.add(self.model, self.start_button, self.table)
        self.body.addLayout(below)
        self.start_button.clicked.connect(lambda: self.wanted.emit())
        self.take_button.clicked.connect(self._on_take)
        self.table.itemDoubleClicked.connect(lambda _: self._on_take())
        self.table.itemSelectionChanged.connect(self._on_selected)
        self._rows: tuple[ClassRow, ...] = ()
        self.set_classes(())

    def set_classes(self, rows: Sequence[ClassRow]) -> None:
        """Show these classes; none hides the list."""
        if tuple(rows) != self._rows:
            selected = self.selected
            self._rows = tuple(rows)
            self.table.setRowCount(len(rows))
            for i, row in enumerate(rows):
                name = QTableWidgetItem(swatch(row.colour), f"{row.name} (taken over)" if row.taken else row.name)
                size = QTableWidgetItem(row.size or "not found")
                size.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(i, 0, name)
                self.table.setItem(i, 1, size)
                if row.name == selected:
                    self.table.selectRow(i)
        new = bool(rows) and self.table.isHidden()
        for widget in (self.table, self.take_button):
            widget.setVisible(bool(rows))
        if new:
            self.grown.emit()
        self._on_selected()

    @property
    def selected(self) -> str | None:
        """Name of the selected class."""
        rows = {index.row() for index in self.table.selectedIndexes()}
        return self._rows[rows.pop()].name if rows and self._rows else None

    @property
    def end(self) -> QWidget:
        """The lowest widget of the section that is there."""
        shown = (self.take_button, self.start_button, self.opener)
        return next(widget for widget in shown if widget.isVisible() or widget is self.opener)

    def _on_selected(self) -> None:
        row = next((row for row in self._rows if row.name == self.selected), None)
        self.take_button.setEnabled(row is not None and bool(row.size))

    def _on_take(self) -> None:
        if self.selected is not None and self.take_button.isEnabled():
            self.taken.emit(self.selected)


def _table(parent: QWidget) -> QTableWidget:
    table = QTableWidget(0, 2, parent)
    table.setHorizontalHeaderLabels(["Class", "Size"])
    table.setToolTip("What was found; a double click makes a class an object")
    table.verticalHeader().hide()
    table.setShowGrid(False)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
    table.setMinimumHeight(150)
    table.setMaximumHeight(280)
    return table
