"""What is done with objects in the table."""

from __future__ import annotations

from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtTest import QTest

from napari_sammed.plugin.views.object_model import column_number
from tests.monkey.acts import act


@act(3)
def new_object(monkey) -> str:
    monkey.hands.press(monkey.hands.panel.objects.new_button)
    return f"{len(monkey.hands.session.objects)} now"


@act(5)
def switch_object(monkey) -> str | None:
    """A mouse click on a row."""
    table = monkey.hands.panel.objects.table
    row = monkey.row()
    if row is None:
        return None
    place = table.visualRect(table.model().index(row, column_number("name"))).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    return f"row {row}"


@act(3)
def click_icons(monkey) -> str | None:
    """Hides, locks or recolours by a click on an icon."""
    table = monkey.hands.panel.objects.table
    row = monkey.row()
    if row is None:
        return None
    key = monkey.random.choice(("visible", "visible", "locked", "colour"))
    place = table.visualRect(table.model().index(row, column_number(key))).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    return f"{key} of row {row}"


@act(2)
def unlock_all(monkey) -> str | None:
    """Else everything is locked in the end."""
    session = monkey.hands.session
    locked = [label for label, state in session.objects.items() if state.locked]
    if not locked:
        return None
    for label in locked:
        monkey.hands.panel.objects.wanted.emit("lock", [label], False)
    return f"{locked}"


@act(2)
def rename(monkey) -> str | None:
    """Types a name or class into the table."""
    table = monkey.hands.panel.objects.table
    row = monkey.row()
    if row is None:
        return None
    key = monkey.random.choice(("name", "name", "kind"))
    index = table.model().index(row, column_number(key))
    table.setCurrentIndex(index)
    table.edit(index)
    editor = table.indexWidget(index) or table.viewport().focusWidget()
    text = monkey.random.choice(("Leber", "left kidney", "Tumör", "", 'a,b;\t"c"', "x" * 60))
    table.model().setData(index, text, Qt.ItemDataRole.EditRole)
    if editor is not None and editor is not table.viewport():
        QTest.keyClick(editor, Qt.Key.Key_Escape)
    return f"{key} of row {row}: {text!r}"


@act(3)
def arrange(monkey) -> str | None:
    """Duplicate, merge, move or delete, of one or several selected rows."""
    objects = monkey.hands.panel.objects
    table, count = objects.table, objects.sorted.rowCount()
    if not count:
        return None
    selection = table.selectionModel()
    rows = monkey.random.sample(range(count), min(count, monkey.random.choice((1, 1, 2, 3))))
    flags = QItemSelectionModel.SelectionFlag
    for number, row in enumerate(rows):
        index = objects.sorted.index(row, column_number("name"))
        selection.setCurrentIndex(index, (flags.Select if number else flags.ClearAndSelect) | flags.Rows)
    deed = monkey.random.choice(("duplicate", "merge", "up", "down", "delete"))
    if deed == "duplicate" and len(monkey.hands.session.objects) > 12:
        deed = "delete"
    objects.actions_[deed].trigger()
    return f"{deed} rows {rows}"


@act(1)
def overlap_rule(monkey) -> str:
    rule = monkey.random.choice(("replace", "keep", "ask", "ask"))
    monkey.hands.panel.objects.wanted.emit("overlap", [], rule)
    return rule


@act(1)
def sort_and_columns(monkey) -> str:
    objects = monkey.hands.panel.objects
    column = monkey.random.choice((-1, column_number("name"), column_number("volume")))
    objects.table.sortByColumn(
        column, monkey.random.choice((Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder))
    )
    menu = objects.menu()
    columns = objects.column_menu(menu).actions()
    columns[monkey.random.randrange(4, len(columns))].trigger()
    menu.deleteLater()
    return f"by {column}"


@act(0.5)
def copy_table(monkey) -> str:
    monkey.hands.press(monkey.hands.panel.objects.copy_button)
    return "to the clipboard"


@act(0.5)
def export_table(monkey) -> str:
    monkey.hands.panel.objects.actions_["export"].trigger()
    return "as CSV"


@act(1)
def save(monkey) -> str:
    monkey.hands.press(monkey.hands.panel.actions_["save"])
    return "all objects"
