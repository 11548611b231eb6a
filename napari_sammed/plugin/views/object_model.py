"""What the table of objects shows, as a Qt model, and the same as text for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor

from napari_sammed.measures import Measures
from napari_sammed.plugin.views.icons import eye, filled, padlock

RAW = int(Qt.ItemDataRole.UserRole)
"""Role of the value behind a text, by which the table is sorted."""


@dataclass(frozen=True)
class ObjectRow:
    """What the table shows of an object; the colour is ``#rrggbb``, `measures` None while they are not known yet."""

    label: int
    name: str
    kind: str = ""
    colour: str = "#808080"
    visible: bool = True
    locked: bool = False
    prompts: int = 0
    score: float = math.nan
    measures: Measures | None = None


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    key : str
    title : str
        Empty for columns of icons.
    tooltip : str
    value : callable
        Of a row: what it is sorted by; None or NaN if there is nothing to show.
    deed : str
        What a click (icons) or an edited text means; empty if nothing.
    shown : bool
        Whether the table starts with it.
    """

    key: str
    title: str
    tooltip: str
    value: Callable[[ObjectRow], Any]
    deed: str = ""
    shown: bool = True

    @property
    def is_icon(self) -> bool:
        return not self.title


def _measured(get: Callable[[Measures], float]) -> Callable[[ObjectRow], Any]:
    return lambda row: None if row.measures is None else get(row.measures)


COLUMNS = (
    Column("visible", "", "Shown or hidden; click to change", lambda row: row.visible, "show"),
    Column(
        "locked",
        "",
        "Locked objects cannot be changed and lose no voxel; click to change",
        lambda row: row.locked,
        "lock",
    ),
    Column("colour", "", "Colour; click to change", lambda row: row.colour, "recolour"),
    Column("name", "Name", "Double click to change", lambda row: row.name, "rename"),
    Column("kind", "Class", "Your own word for what it is; double click to change", lambda row: row.kind, "classify"),
    Column("volume", "ml", "Volume in ml", _measured(lambda m: m.volume_ml)),
    Column("area", "mm²", "Area in mm²", _measured(lambda m: m.area_mm2)),
    Column(
        "long",
        "Ø mm",
        "Longest diameter in a slice of the acquisition plane, mm (RECIST)",
        _measured(lambda m: m.diameters.longest),
    ),
    Column(
        "short",
        "Short Ø",
        "Longest diameter across the longest one, in the same slice, mm",
        _measured(lambda m: m.diameters.perpendicular),
        shown=False,
    ),
    Column("mean", "Mean", "Mean grey value", _measured(lambda m: m.mean), shown=False),
    Column("prompts", "Prompts", "How many clicks, boxes and masks it was given", lambda row: row.prompts, shown=False),
    Column("score", "Score", "How sure the model was of its latest answer", lambda row: row.score, shown=False),
)

FIELDS: dict[str, Callable[[ObjectRow, Measures], Any]] = {
    "label": lambda row, _: row.label,
    "name": lambda row, _: row.name,
    "class": lambda row, _: row.kind,
    "visible": lambda row, _: row.visible,
    "locked": lambda row, _: row.locked,
    "voxels": lambda _, m: m.voxels,
    "slices": lambda _, m: m.slices,
    "volume_ml": lambda _, m: m.volume_ml,
    "area_mm2": lambda _, m: m.area_mm2,
    "longest_diameter_mm": lambda _, m: m.diameters.longest,
    "perpendicular_diameter_mm": lambda _, m: m.diameters.perpendicular,
    "mean": lambda _, m: m.mean,
    "standard_deviation": lambda _, m: m.deviation,
    "minimum": lambda _, m: m.minimum,
    "maximum": lambda _, m: m.maximum,
    "prompts": lambda row, _: row.prompts,
    "score": lambda row, _: row.score,
}
"""Columns of the text for spreadsheets; what is not known is left empty there."""
_UNMEASURED = Measures(voxels=None, slices=None)


def as_text(rows: Sequence[ObjectRow], delimiter: str) -> str:
    """All that is known of some objects as comma- or tab-separated text, with a line of titles."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in rows:
        measures = row.measures or _UNMEASURED
        unmeasured = row.measures is None
        values = {name: get(row, measures) for name, get in FIELDS.items()}
        if unmeasured:
            values |= dict.fromkeys(("longest_diameter_mm", "perpendicular_diameter_mm"))
        writer.writerow([_cell(value) for value in values.values()])
    return text.getvalue()


class ObjectModel(QAbstractTableModel):
    """The rows of the table.

    Signals
    -------
    wanted : str, int, object
        The user wants a deed (see `Column.deed`) done to the object of a label, with a value.
    """

    wanted = Signal(str, int, object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows: tuple[ObjectRow, ...] = ()
        self.ink = QColor("#808080")

    def set_ink(self, ink: QColor) -> None:
        """Draw the icons in this colour, that of the theme's text."""
        self.ink = ink
        self.dataChanged.emit(self.index(0, 0), self.index(len(self.rows) - 1, len(COLUMNS) - 1))

    def set_rows(self, rows: Sequence[ObjectRow]) -> None:
        """Show these rows; the same labels in the same order keep the user's selection."""
        rows = tuple(rows)
        if [row.label for row in rows] != [row.label for row in self.rows]:
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()
            return
        before, self.rows = self.rows, rows
        for number, (old, new) in enumerate(zip(before, rows, strict=True)):
            if old == new:
                continue
            for place, column in enumerate(COLUMNS):  # one by one: an open editor is filled anew with its cell
                if column.value(old) != column.value(new):
                    self.dataChanged.emit(self.index(number, place), self.index(number, place))

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return COLUMNS[section].title
            if role == Qt.ItemDataRole.ToolTipRole:
                return COLUMNS[section].tooltip
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        flags = super().flags(index)
        column = COLUMNS[index.column()]
        return flags | Qt.ItemFlag.ItemIsEditable if column.deed and not column.is_icon else flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], COLUMNS[index.column()]
        value = column.value(row)
        if role == RAW:
            return _sortable(value)
        if role == Qt.ItemDataRole.DecorationRole and column.is_icon:
            return _icon(column.key, value, self.ink)
        if role == Qt.ItemDataRole.ToolTipRole:
            return _hint(row, column)
        if role == Qt.ItemDataRole.TextAlignmentRole and not column.deed:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole) and not column.is_icon:
            return _text(value)
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Pass an edited text on; it is shown when the session has it."""
        column = COLUMNS[index.column()]
        if role != Qt.ItemDataRole.EditRole or not column.deed or column.is_icon:
            return False
        row, text = self.rows[index.row()], str(value).strip()
        if text != column.value(row):
            self.wanted.emit(column.deed, row.label, text)
        return True


def column_number(key: str) -> int:
    """Where a column is."""
    return next(number for number, column in enumerate(COLUMNS) if column.key == key)


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _sortable(value: Any) -> Any:
    if isinstance(value, str):
        return value.casefold()
    return -math.inf if _nothing(value) else float(value)


def _text(value: Any) -> str:
    """Three significant digits, all those before the point."""
    if _nothing(value):
        return ""
    if not isinstance(value, float):
        return str(value)
    decimals = 0 if value == 0 else min(max(2 - math.floor(math.log10(abs(value))), 0), 6)
    return f"{value:.{decimals}f}"


def _cell(value: Any) -> Any:
    if _nothing(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return round(value, 6) if isinstance(value, float) else value


def _icon(key: str, value: Any, ink: QColor) -> Any:
    if key == "colour":
        return filled(QColor(value))
    return eye(value, ink) if key == "visible" else padlock(value, ink)


def _hint(row: ObjectRow, column: Column) -> str:
    """The column's tooltip with the object's value, and for the mean the other grey values."""
    text = _text(column.value(row)) if not column.is_icon else ""
    more = ""
    if column.key == "mean" and row.measures is not None and not math.isnan(row.measures.mean):
        m = row.measures
        more = f" ± {_text(m.deviation)}, from {_text(m.minimum)} to {_text(m.maximum)}"
    return f"{text}{more}\n{column.tooltip}" if text else column.tooltip
