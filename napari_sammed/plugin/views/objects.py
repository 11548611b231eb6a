"""The table of objects: what they are called, how they look, how large they are; one of them is current."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtCore import QEvent, QItemSelectionModel, QModelIndex, QPoint, QSize, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QAction, QColor, QGuiApplication, QKeySequence, QPalette, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_sammed.plugin.views.icons import SIDE
from napari_sammed.plugin.views.object_model import COLUMNS, RAW, ObjectModel, ObjectRow, as_text, column_number

_ICON_COLUMN = SIDE + 7  # pixels

DEEDS = {
    "duplicate": ("Duplicate", "Ctrl+D"),
    "merge": ("Merge into the first one", "Ctrl+J"),
    "up": ("Move up", "Alt+Up"),
    "down": ("Move down", "Alt+Down"),
    "delete": ("Delete", "Del"),
    "copy": ("Copy the table", "Ctrl+C"),
    "export": ("Export as CSV…", ""),
}
"""What can be done with the selected objects or the table -> title, and shortcut while the table has the focus."""
OVERLAPS = {
    "replace": "The later object in the list is on top",
    "keep": "The earlier object in the list is on top",
    "ask": "Ask me about every new overlap",
}


class ObjectList(QWidget):
    """Objects of the session.

    Signals
    -------
    added
        The user wants a new object.
    chosen : int
        Label of the object that is to be the current one.
    wanted : str, list of int, object
        A deed ("rename", "classify", "recolour", "show", "lock", "duplicate", "merge", "move", "delete" or "overlap"),
        labels of the objects that it is to be done to, and a value: the new text, colour, state or rule; for "move" -1
        or 1.
    exported : Path
        A file has been written.
    failed : str
        Why none could be.
    """

    added = Signal()
    chosen = Signal(int)
    wanted = Signal(str, list, object)
    exported = Signal(Path)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ObjectModel(self)
        self.sorted = QSortFilterProxyModel(self)
        self.sorted.setSourceModel(self.model)
        self.sorted.setSortRole(RAW)
        self.table = QTableView(self)
        self.table.setModel(self.sorted)
        self.suggested_file = Path("objects.csv")
        self._overlap = "replace"
        self._silent = False  # while the selection is changed by us
        self._reported: int | None = None
        self._set_up_table()
        self.actions_ = {name: self._action(name) for name in DEEDS}
        self.new_button, self.delete_button = QPushButton("New object"), QPushButton("Delete")
        self.copy_button, self.more_button = QPushButton("Copy"), QPushButton("More")
        self.delete_button.setToolTip("Remove the selected objects; undo brings them back")
        self.copy_button.setToolTip("Put the table on the clipboard, for a spreadsheet")
        self.more_button.setToolTip(
            "Export, merge, duplicate, reorder, overlaps, columns; also a right click on the table"
        )
        row = QHBoxLayout()
        for button in (self.new_button, self.delete_button, self.copy_button, self.more_button):
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(row)
        self.new_button.clicked.connect(lambda: self.added.emit())
        self.delete_button.clicked.connect(self.actions_["delete"].trigger)
        self.copy_button.clicked.connect(self.actions_["copy"].trigger)
        self.more_button.clicked.connect(
            lambda: self.menu().exec(self.more_button.mapToGlobal(QPoint(0, self.more_button.height())))
        )
        self.model.wanted.connect(lambda deed, label, value: self.wanted.emit(deed, [label], value))
        self._enable()

    def set_objects(self, rows: Sequence[ObjectRow], current: int | None, overlap: str = "replace") -> None:
        """Show these objects, in this order."""
        self._overlap = overlap
        self._silent = True
        chosen = set(self.selected)
        self.model.set_rows(rows)
        if current not in chosen or not chosen <= {row.label for row in rows}:
            chosen = {current}
        if set(self.selected) != chosen or self.current != current:  # selecting repaints the window, canvas included
            self._select(chosen, current)
        self._silent = False
        self._reported = current
        self._enable()

    @property
    def current(self) -> int | None:
        """Label of the object in whose row the user is."""
        index = self.table.currentIndex()
        return self._label(index) if index.isValid() and self.selected else None

    @property
    def selected(self) -> list[int]:
        """Labels of the selected objects, the current one first."""
        labels = [self._label(index) for index in self.table.selectionModel().selectedRows()]
        here = self.table.currentIndex()
        first = self._label(here) if here.isValid() else None
        return sorted(labels, key=lambda label: label != first)

    def text(self, delimiter: str) -> str:
        """The table for a spreadsheet, sorted as it is shown."""
        shown = [self.sorted.mapToSource(self.sorted.index(i, 0)).row() for i in range(self.sorted.rowCount())]
        return as_text([self.model.rows[number] for number in shown], delimiter)

    def menu(self) -> QMenu:
        """The context menu."""
        menu = QMenu(self)
        for name in ("duplicate", "merge", "up", "down", "delete"):
            menu.addAction(self.actions_[name])
        menu.addSeparator()
        overlaps = menu.addMenu("Where objects overlap")
        for rule, title in OVERLAPS.items():
            self._choice(overlaps, title, rule == self._overlap, lambda _, rule=rule: self._want("overlap", rule))
        menu.addMenu(self.column_menu(menu))
        menu.addSeparator()
        menu.addAction(self.actions_["copy"])
        menu.addAction(self.actions_["export"])
        return menu

    def column_menu(self, parent: QWidget) -> QMenu:
        """Which columns are shown."""
        menu = QMenu("Columns", parent)
        for number, column in enumerate(COLUMNS):
            title = column.tooltip.partition(";")[0] if column.is_icon else f"{column.title}: {column.tooltip}"
            self._choice(
                menu,
                title.partition(";")[0],
                not self.table.isColumnHidden(number),
                lambda on, number=number: self.table.setColumnHidden(number, not on),
            )
        return menu

    # ---- inside --------------------------------------------------------------------------------------------------

    def _set_up_table(self) -> None:
        table = self.table
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(24)
        table.setShowGrid(False)
        table.setIconSize(QSize(SIDE, SIDE))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        table.setSortingEnabled(True)
        header = table.horizontalHeader()
        header.setSortIndicatorClearable(True)  # a third click gives the list's own order back
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setMinimumSectionSize(_ICON_COLUMN)
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header.customContextMenuRequested.connect(lambda at: self.column_menu(self).exec(header.mapToGlobal(at)))
        for number, column in enumerate(COLUMNS):
            table.setColumnHidden(number, not column.shown or column.key == "area")
            header.setSectionResizeMode(number, QHeaderView.ResizeMode.ResizeToContents)
            if column.is_icon:
                header.setSectionResizeMode(number, QHeaderView.ResizeMode.Fixed)
                header.resizeSection(number, _ICON_COLUMN)
        header.setSectionResizeMode(column_number("name"), QHeaderView.ResizeMode.Stretch)
        table.setMinimumHeight(100)
        table.setMaximumHeight(260)
        table.setToolTip("Prompts go to the selected object; double click a name or class to change it")
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.customContextMenuRequested.connect(lambda at: self.menu().exec(table.viewport().mapToGlobal(at)))
        table.clicked.connect(self._on_clicked)
        table.selectionModel().currentRowChanged.connect(lambda *_: self._report())
        table.selectionModel().selectionChanged.connect(lambda *_: self._report())

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._follow_theme()

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the theme, which napari gives the widgets of its windows by a style sheet."""
        super().showEvent(event)
        self._follow_theme()

    def _follow_theme(self) -> None:
        self.table.ensurePolished()
        ink = self.table.palette().color(QPalette.ColorGroup.Active, QPalette.ColorRole.Text)  # also while disabled
        self.model.set_ink(ink)

    def set_flat(self, flat: bool) -> None:
        """Whether objects have an area instead of a volume."""
        self.table.setColumnHidden(column_number("volume"), flat)
        self.table.setColumnHidden(column_number("area"), not flat)

    def _action(self, name: str) -> QAction:
        title, key = DEEDS[name]
        action = QAction(title, self.table)
        action.setShortcut(QKeySequence(key))
        action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)  # elsewhere the keys stay napari's
        action.triggered.connect(lambda: self._do(name))
        self.table.addAction(action)
        return action

    def _choice(self, menu: QMenu, title: str, on: bool, do: Callable[[bool], None]) -> None:
        action = menu.addAction(title)
        action.setCheckable(True)
        action.setChecked(on)
        action.toggled.connect(do)

    def _do(self, name: str) -> None:
        if name == "copy":
            QGuiApplication.clipboard().setText(self.text("\t"))
        elif name == "export":
            self._export()
        elif name in ("up", "down"):
            self._want("move", 1 if name == "down" else -1)
        else:
            self._want(name, None)

    def _want(self, deed: str, value: object) -> None:
        if self.selected or deed == "overlap":
            self.wanted.emit(deed, self.selected, value)

    def _export(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Export the table", str(self.suggested_file), "Comma-separated values (*.csv)"
        )
        if not chosen:
            return
        path = Path(chosen)
        try:
            path.write_text(self.text(","), encoding="utf-8-sig")  # the mark tells Excel that it is UTF-8
        except OSError as error:
            self.failed.emit(f"{path} cannot be written: {error.strerror}.")
            return
        self.exported.emit(path)

    def _label(self, index: QModelIndex) -> int:
        return self.model.rows[self.sorted.mapToSource(index).row()].label

    def _select(self, labels: set[int | None], current: int | None) -> None:
        selection = self.table.selectionModel()
        selection.clear()
        rows, select = QItemSelectionModel.SelectionFlag.Rows, QItemSelectionModel.SelectionFlag.Select
        for number, row in enumerate(self.model.rows):
            index = self.sorted.mapFromSource(self.model.index(number, column_number("name")))
            if row.label == current:
                selection.setCurrentIndex(index, select | rows)
            elif row.label in labels:
                selection.select(index, select | rows)

    def _report(self) -> None:
        """Say which object was chosen, once both agree: a mouse moves the current row first, a key the selection."""
        if self._silent:
            return
        self._enable()
        index = self.table.currentIndex()
        label = self._label(index) if index.isValid() else None
        if label in self.selected and label != self._reported:
            self._reported = label
            self.chosen.emit(label)

    def _on_clicked(self, index: QModelIndex) -> None:
        column = COLUMNS[index.column()]
        if not column.is_icon:
            return
        row = self.model.rows[self.sorted.mapToSource(index).row()]
        value: object = not column.value(row)
        if column.key == "colour":
            colour = QColorDialog.getColor(QColor(row.colour), self, f"Colour of {row.name}")
            value = colour.name() if colour.isValid() else row.colour
        self.wanted.emit(column.deed, [row.label], value)

    def _enable(self) -> None:
        count = len(self.selected)
        for name in ("duplicate", "up", "down", "delete"):
            self.actions_[name].setEnabled(count > 0)
        self.actions_["merge"].setEnabled(count > 1)
        for name in ("copy", "export"):
            self.actions_[name].setEnabled(bool(self.model.rows))
        self.delete_button.setEnabled(count > 0)
        self.copy_button.setEnabled(bool(self.model.rows))
