"""The table of objects in a real viewer: looks, measures, sorting, merging, copying and exporting."""

from __future__ import annotations

import csv
import io
import threading
import time

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QColorDialog, QFileDialog, QLineEdit

from napari_sammed.measures import measure
from napari_sammed.plugin.features import object_rows
from napari_sammed.plugin.views.object_model import COLUMNS, FIELDS, ObjectRow, as_text, column_number
from napari_sammed.prompts import MaskPrompt, Point
from tests.phantoms import two_balls

LEFT, NOTHING = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
CONTROL, ALT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.AltModifier
NAMES = ("Big", "small one", "Middle")


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


class Table:
    """Hands for the table."""

    def __init__(self, hands) -> None:
        self.hands = hands
        self.view = hands.panel.objects.table
        self.list = hands.panel.objects

    @property
    def labels(self) -> list[int]:
        """As shown, from the top."""
        shown = self.list.sorted
        return [self.list.model.rows[shown.mapToSource(shown.index(i, 0)).row()].label for i in range(shown.rowCount())]

    def index(self, label: int, key: str):
        return self.list.sorted.index(self.labels.index(label), column_number(key))

    def text(self, label: int, key: str) -> str:
        return self.list.sorted.data(self.index(label, key)) or ""

    def click(self, label: int, key: str, modifier=NOTHING) -> None:
        place = self.view.visualRect(self.index(label, key)).center()
        QTest.mouseClick(self.view.viewport(), LEFT, modifier, place)
        self.hands.settle()

    def type(self, label: int, key: str, text: str) -> None:
        """Edit a cell in place."""
        self.view.edit(self.index(label, key))
        editor = self.view.findChild(QLineEdit)
        editor.selectAll()
        QTest.keyClicks(editor, text)
        QTest.keyClick(editor, Qt.Key.Key_Return)
        self.hands.settle()

    def key(self, key, modifier=NOTHING) -> None:
        self.view.window().activateWindow()
        self.view.setFocus()
        self.hands.qtbot.waitUntil(self.view.hasFocus)
        QTest.keyClick(self.view, key, modifier)
        self.hands.settle()

    def measured(self) -> None:
        self.hands.qtbot.waitUntil(lambda: not self.hands.segmentation._rows.busy, timeout=10_000)
        self.hands.settle()

    def sort(self, key: str) -> None:
        header = self.view.horizontalHeader()
        place = header.sectionViewportPosition(column_number(key)) + header.sectionSize(column_number(key)) // 2
        QTest.mouseClick(header.viewport(), LEFT, NOTHING, QPoint(place, header.height() // 2))
        self.hands.settle()


@pytest.fixture
def hands(open_plugin, scene):
    """The panel in a window of its own, which is there much sooner than napari's."""
    hands = open_plugin(scene[0], scale=(3, 1, 1), name="scan")
    hands.widget.resize(420, 900)
    hands.widget.show()
    return hands


@pytest.fixture
def docked(open_plugin, scene):
    """The panel in a window of napari."""
    return open_plugin(scene[0], show=True, scale=(3, 1, 1), name="scan")


@pytest.fixture
def table(hands, scene):
    return filled(hands, scene)


def filled(hands, scene) -> Table:
    """Three objects: the two balls, and a corner of the image that touches neither."""
    array, first, second = scene
    hands.mode("positive")
    for name, mask in zip(NAMES[:2], (first, second), strict=True):
        hands.session.new_object(name)
        index = tuple(float(c) for c in np.argwhere(mask).mean(0).round())
        hands.session.add(Point(index), model="thresholder").result(10)
    corner = np.zeros(array.shape, bool)
    corner[0:4, 0:6, 0:12] = True
    hands.session.take(MaskPrompt(corner, (0, 0, 0)), NAMES[2])
    hands.settle()
    table = Table(hands)
    table.measured()
    return table


def colour_at(hands, label: int) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in hands.writer.labels.colormap.map(label))


def test_the_table_shows_what_a_radiologist_measures(table, hands, scene):
    corner = measure(hands.session.objects[3].mask, hands.session.image)
    assert corner.volume_ml == pytest.approx(4 * 6 * 12 * 3 / 1000)
    assert table.text(3, "volume") == "0.864" and table.text(3, "name") == "Middle"
    assert float(table.text(3, "long")) == pytest.approx(corner.diameters.longest, rel=0.01)
    assert float(table.text(3, "short")) == pytest.approx(corner.diameters.perpendicular, rel=0.01)
    inside = scene[0][scene[1]]
    assert float(table.text(1, "mean")) == pytest.approx(inside.mean(), rel=0.01)
    assert (table.text(1, "prompts"), table.text(3, "prompts"), table.text(1, "score")) == ("1", "0", "0.900")
    assert table.text(3, "score") == ""


def test_measures_are_those_of_the_voxels_that_are_shown(table, hands, scene):
    hands.session.take(MaskPrompt(scene[1], (0, 0, 0)), "over it")
    hands.settle()
    table.measured()
    assert table.text(4, "volume") != "" and table.text(1, "volume") == "0"
    hands.session.overlap = "keep"
    hands.settle()
    table.measured()
    assert table.text(4, "volume") == "0" and table.text(1, "volume") != "0"


def test_a_click_on_a_row_brings_its_prompts_back(table, hands, scene):
    hands.look_at((0, 0, 0))
    table.click(1, "name")
    assert hands.session.current == 1 and hands.writer.labels.selected_label == 1
    assert len(hands.writer.points.data) == 1
    table.click(2, "volume")
    assert hands.session.current == 2


def test_name_and_class_are_edited_in_place(table, hands):
    table.type(2, "name", "Aorta")
    table.type(2, "kind", "vessel")
    state = hands.session.objects[2]
    assert (state.name, state.kind) == ("Aorta", "vessel") and table.text(2, "kind") == "vessel"
    hands.act("undo")
    assert table.text(2, "kind") == "" and "choice of a class" in hands.message
    hands.act("undo")
    assert table.text(2, "name") == "small one"


def test_the_eye_hides_and_the_voxels_stay(table, hands):
    before = hands.labels.copy()
    assert colour_at(hands, 2)[3] == 1
    table.click(2, "visible")
    assert not hands.session.objects[2].visible and colour_at(hands, 2)[3] == 0 and colour_at(hands, 1)[3] == 1
    np.testing.assert_array_equal(hands.labels, before)
    table.click(2, "visible")
    assert colour_at(hands, 2)[3] == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_icons_can_be_seen_on_every_theme(docked, theme):
    hands = docked
    assert hands.panel.objects.model.ink.lightness() > 170, "napari starts with the dark one"
    hands.viewer.theme = theme
    QApplication.processEvents()
    ink = hands.panel.objects.model.ink.lightness()
    assert ink > 170 if theme == "dark" else ink < 90


def test_the_swatch_changes_the_colour(table, hands, monkeypatch):
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#ff0000"))
    table.click(1, "colour")
    assert hands.session.objects[1].colour == "#ff0000" and colour_at(hands, 1) == (1, 0, 0, 1)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor())
    count = len(hands.session.history.done)
    table.click(1, "colour")
    assert len(hands.session.history.done) == count, "the dialog was closed"


def test_a_locked_object_takes_neither_clicks_nor_paint_nor_deletion(table, hands, scene):
    table.click(1, "locked")
    assert hands.session.objects[1].locked
    table.click(1, "name")
    mask = hands.session.objects[1].mask
    index = tuple(np.argwhere(scene[2]).mean(0).round())
    hands.writer.points.add(index)
    hands.settle()
    assert "Big is locked: unlock it" in hands.message
    assert len(hands.writer.points.data) == 1, "the click is taken back"
    z, y, x = (int(c) for c in np.argwhere(scene[1]).mean(0).round())
    hands.look_at((z, y, x))
    hands.writer.labels.data_setitem((np.array([z]), np.array([y]), np.array([x])), 3)
    hands.settle()
    assert hands.labels[z, y, x] == 1, "paint of another object does not take its voxels"
    hands.press(hands.panel.objects.delete_button)
    hands.settle()
    assert hands.session.objects[1].mask is mask and "locked" in hands.message


def test_the_table_is_sorted_by_any_column_and_back(table):
    table.sort("name")
    assert table.labels == [1, 3, 2], "without regard to capitals"
    table.sort("name")
    assert table.labels == [2, 3, 1]
    table.sort("name")
    assert table.labels == [1, 2, 3], "the order of the list"
    table.sort("volume")
    volumes = [float(table.text(label, "volume")) for label in table.labels]
    assert volumes == sorted(volumes)
    table.click(2, "name")
    assert table.hands.session.current == 2


def test_keys_and_menu_merge_duplicate_move_and_delete(docked, scene):
    hands, table = docked, filled(docked, scene)
    table.click(3, "name")
    table.key(Qt.Key.Key_D, CONTROL)
    assert hands.session.objects[4].name == "Middle copy"
    table.key(Qt.Key.Key_Up, ALT)
    assert table.labels == [1, 2, 4, 3] and hands.session.current == 4
    table.key(Qt.Key.Key_Down, ALT)
    assert table.labels == [1, 2, 3, 4]
    table.key(Qt.Key.Key_Delete)
    assert table.labels == [1, 2, 3]
    table.click(2, "name")
    table.click(1, "name", CONTROL)
    assert set(hands.panel.objects.selected) == {1, 2}
    table.key(Qt.Key.Key_J, CONTROL)
    assert table.labels == [1, 3]
    np.testing.assert_array_equal(hands.labels == 1, scene[1] | scene[2])
    hands.act("undo")
    assert table.labels == [1, 2, 3]
    titles = [action.text() for action in hands.panel.objects.menu().actions()]
    assert {"Duplicate", "Merge into the first one", "Move up", "Delete", "Columns", "Copy the table"} <= set(titles)


def test_the_overlap_rule_is_chosen_in_the_menu(table, hands):
    overlaps = next(a.menu() for a in hands.panel.objects.menu().actions() if a.text() == "Where objects overlap")
    earlier = next(a for a in overlaps.actions() if a.text().startswith("The earlier"))
    assert not earlier.isChecked()
    earlier.trigger()
    hands.settle()
    assert hands.session.overlap == "keep" and "earlier one" in hands.message


def test_columns_can_be_chosen(table, hands):
    assert table.view.isColumnHidden(column_number("mean")) and table.view.isColumnHidden(column_number("area"))
    menu = hands.panel.objects.column_menu(hands.panel)
    assert len(menu.actions()) == len(COLUMNS)
    next(a for a in menu.actions() if a.text().startswith("Mean")).trigger()
    assert not table.view.isColumnHidden(column_number("mean"))


def test_the_table_is_copied_and_exported(table, hands, tmp_path, monkeypatch):
    table.sort("name")
    table.type(3, "kind", 'a "corner", odd')
    hands.press(hands.panel.objects.copy_button)
    rows = list(csv.DictReader(io.StringIO(QApplication.clipboard().text()), delimiter="\t"))
    assert [row["name"] for row in rows] == ["Big", "Middle", "small one"] and list(rows[0]) == list(FIELDS)
    assert rows[1]["class"] == 'a "corner", odd' and rows[1]["voxels"] == "288" and rows[1]["score"] == ""
    assert float(rows[1]["volume_ml"]) == pytest.approx(0.864) and rows[1]["area_mm2"] == ""
    path = tmp_path / "table.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    hands.panel.objects.actions_["export"].trigger()
    assert list(csv.DictReader(path.open(encoding="utf-8-sig"))) == rows and "table.csv" in hands.message
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "t.csv"), ""))
    hands.panel.objects.actions_["export"].trigger()
    assert "cannot be written" in hands.message


def test_what_is_not_measured_yet_is_left_empty():
    text = as_text([ObjectRow(1, "Liver")], "\t").splitlines()
    cells = dict(zip(text[0].split("\t"), text[1].split("\t"), strict=True))
    assert cells["name"] == "Liver" and cells["visible"] == "yes"
    assert {name for name, cell in cells.items() if cell} == {"label", "name", "visible", "locked", "prompts"}


def test_flat_images_have_areas(open_plugin):
    volume, first, _ = two_balls((40, 50))
    hands = open_plugin(np.array(volume.array))
    table = Table(hands)
    hands.session.take(MaskPrompt(first, (0, 0)), "disc")
    hands.settle()
    table.measured()
    assert table.view.isColumnHidden(column_number("volume")) and not table.view.isColumnHidden(column_number("area"))
    assert float(table.text(1, "area")) == pytest.approx(first.sum(), rel=0.01) and table.text(1, "volume") == ""


def test_the_interface_goes_on_while_an_object_is_measured(table, hands, monkeypatch):
    """A slow measurement holds nothing up, and many changes meanwhile cost one more."""
    go, calls = threading.Event(), []

    def slow(mask, image):
        calls.append(threading.current_thread())
        assert go.wait(10)
        return measure(mask, image)

    monkeypatch.setattr(object_rows, "measure", slow)
    hands.qtbot.wait(300)  # the pause after the last round
    start = time.perf_counter()
    for number in range(5):
        corner = np.ones((2, 3, 4 + number), bool)
        hands.session.edit(corner, hands.session.image.grid.box.of_shape(corner.shape), 3)
        hands.settle()
    assert len(calls) == 1 and calls[0] is not threading.main_thread()
    assert table.text(3, "volume") == "0.864", "the old one, until there is a new one"
    assert time.perf_counter() - start < 10
    go.set()
    table.measured()
    assert len(calls) == 2
    expected = measure(hands.session.objects[3].mask, hands.session.image)
    assert float(table.text(3, "volume")) == pytest.approx(expected.volume_ml, rel=0.01)


def test_a_name_that_is_being_typed_survives_new_measures(table, hands):
    table.view.edit(table.index(3, "name"))
    editor = table.view.findChild(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, "Half a na")
    before = table.text(3, "volume")
    hands.session.edit(np.ones((2, 3, 4), bool), hands.session.image.grid.box.of_shape((2, 3, 4)), 3)
    hands.session.clear(1)
    hands.settle()
    table.measured()
    assert editor.text() == "Half a na" and table.text(1, "volume") == "0"
    hands.session.clear(3)
    hands.settle()
    table.measured()
    assert editor.text() == "Half a na" and table.text(3, "volume") != before
    QTest.keyClick(editor, Qt.Key.Key_Return)
    hands.settle()
    assert hands.session.objects[3].name == "Half a na"


def test_the_selection_survives_new_measures(table, hands):
    table.click(1, "name")
    table.click(3, "name", CONTROL)
    chosen = set(hands.panel.objects.selected)
    hands.session.classify(2, "x")
    hands.settle()
    table.measured()
    assert set(hands.panel.objects.selected) == chosen == {1, 3}
    assert table.view.selectionModel().isSelected(table.index(1, "name"))
