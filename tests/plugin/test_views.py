"""Each view alone: it shows what it is told and emits what the user wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QScrollArea

from napari_sammed.intensity import Window
from napari_sammed.plugin.views.choosers import Choice, Chooser, ModelChooser, WindowChooser
from napari_sammed.plugin.views.closer import CloserRow
from napari_sammed.plugin.views.object_model import ObjectRow, column_number
from napari_sammed.plugin.views.objects import ObjectList
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.views.prompting import ModeButtons, SliceRange
from napari_sammed.plugin.views.status import StatusView

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def shown(qtbot):
    def show(widget):
        qtbot.addWidget(widget)
        widget.show()
        return widget

    return show


def heard(signal) -> list:
    values: list = []
    signal.connect(lambda *v: values.append(v[0] if len(v) == 1 else v))
    return values


def test_a_chooser_keeps_its_choice_and_reports_only_the_user(shown, qtbot):
    chooser = shown(Chooser("Nothing yet"))
    said = heard(chooser.chosen)
    assert chooser.key == "" and not chooser.isEnabled() and chooser.currentText() == "Nothing yet"
    chooser.set_choices([Choice("a", "A", "first"), Choice("b", "B", "second")])
    chooser.set_key("b")
    chooser.set_choices([Choice("b", "Renamed", "second"), Choice("c", "C")])
    assert chooser.key == "b" and chooser.toolTip() == "second" and not said
    qtbot.keyClick(chooser, Qt.Key.Key_Down)
    assert said == ["c"]


def test_the_note_of_a_model_goes_with_it(shown, qtbot):
    chooser = shown(ModelChooser())
    chooser.set_models([Choice("auto", "Auto"), Choice("big", "Big")], {"big": "2 GB are fetched on first use."})
    assert not chooser.note.isVisible()
    qtbot.keyClick(chooser.box, Qt.Key.Key_Down)
    assert chooser.note.isVisible() and "2 GB" in chooser.note.text()


def test_windows_offer_presets_and_free_values(shown, qtbot):
    chooser = shown(WindowChooser())
    chooser.set_presets(Window.presets())
    said = heard(chooser.chosen)
    keys = [chooser.box.itemData(i) for i in range(chooser.box.count())]
    assert keys == ["auto", *Window.presets(), "displayed", "custom"]
    assert not chooser.custom_row.isVisible()
    chooser.box.set_key("displayed")
    qtbot.keyClick(chooser.box, Qt.Key.Key_Down)
    assert said == ["custom"] and chooser.custom_row.isVisible()
    chooser.level.setValue(-200)
    assert Window.custom(*chooser.custom) == Window.custom(-200, 400)


def test_one_mode_is_on(shown, qtbot):
    modes = shown(ModeButtons())
    said = heard(modes.chosen)
    for mode in ("positive", "negative", "box", "navigate"):
        qtbot.mouseClick(modes.buttons[mode], LEFT)
        assert [m for m, b in modes.buttons.items() if b.isChecked()] == [mode]
    modes.show_mode("box")
    assert said == ["positive", "negative", "box", "navigate"]
    modes.set_keys({"positive": "W"})
    assert "key W" in modes.buttons["positive"].toolTip()


def test_a_slice_range_is_ordered_and_optional(shown, qtbot):
    slices = shown(SliceRange())
    slices.set_limits(30, 12)
    assert slices.span is None and not slices.first.isVisible()
    slices.across.setChecked(True)
    assert slices.first.isVisible() and slices.span == (12, 12)
    said = heard(slices.here)
    qtbot.mouseClick(slices.first_here, LEFT)
    qtbot.mouseClick(slices.last_here, LEFT)
    assert said == ["first", "last"]
    slices.set_slice("last", 20)
    slices.set_slice("first", 25)
    assert slices.span == (25, 25)
    slices.set_limits(None)
    assert not slices.isVisible() and slices.span is None


def test_the_object_list_selects_renames_and_deletes(shown, qtbot):
    objects = shown(ObjectList())
    rows = [ObjectRow(1, "Liver"), ObjectRow(4, "Spleen")]
    chosen, wanted = heard(objects.chosen), heard(objects.wanted)
    objects.set_objects(rows, 4)
    assert objects.current == 4 and not chosen and not wanted
    objects.table.selectRow(0)
    assert chosen == [1]
    name = column_number("name")
    objects.model.setData(objects.model.index(0, name), " Liver, left lobe ")
    assert wanted == [("rename", [1], "Liver, left lobe")]
    qtbot.mouseClick(objects.delete_button, LEFT)
    assert wanted[1:] == [("delete", [1], None)]
    assert not objects.model.index(0, column_number("volume")).flags() & Qt.ItemFlag.ItemIsEditable
    objects.set_objects([], None)
    assert objects.current is None and not objects.delete_button.isEnabled()


def test_the_button_of_the_closer_look_is_down_while_a_region_is_drawn(shown, qtbot):
    row = shown(CloserRow())
    wanted = heard(row.wanted)
    assert row.part.key == "object"
    qtbot.mouseClick(row.button, LEFT)
    assert len(wanted) == 1 and not row.button.isChecked()
    row.show_drawing(True)
    qtbot.mouseClick(row.button, LEFT)
    assert len(wanted) == 2 and row.button.isChecked(), "until the drawing has been left"
    row.show_drawing(False)
    assert not row.button.isChecked()
    assert "key" not in row.button.toolTip()
    row.set_key("K")
    assert "(key K)" in row.button.toolTip()


def test_status_shows_progress_only_while_busy(shown, qtbot):
    status = shown(StatusView())
    assert not status.bar.isVisible() and not status.retry_button.isVisible()
    status.set_busy(True)
    status.set_progress("Encoding", 0.0)
    assert not status.bar.isVisible(), "a quick answer needs no bar"
    qtbot.waitUntil(status.bar.isVisible)
    assert status.bar.value() == 0 and status.message.text() == "Encoding"
    assert status.bar.maximum() > 0, "a bar that moves by itself keeps the window repainting"
    status.set_progress("Slice 5", 0.5)
    assert status.bar.value() * 2 == status.bar.maximum()
    cancelled, retried = heard(status.cancelled), heard(status.retried)
    qtbot.mouseClick(status.cancel_button, LEFT)
    status.set_busy(False)
    assert not status.bar.isVisible() and not status.cancel_button.isVisible()
    status.say("It failed.", "A remark.", retry=True)
    qtbot.mouseClick(status.retry_button, LEFT)
    assert (len(cancelled), len(retried)) == (1, 1)
    status.warn("This stays.")
    status.say("Next.")
    assert status.warning.isVisible() and not status.remark.isVisible() and not status.retry_button.isVisible()


def test_saving_asks_for_a_file(shown, qtbot, monkeypatch):
    panel = shown(Panel())
    panel.set_usable(True)
    wanted, saved = heard(panel.wanted), heard(panel.save_wanted)
    panel.suggested_file = Path("/data/scan_objects.nii.gz")
    asked = []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (asked.append(a[2]) or "/tmp/x.nrrd", ""))
    qtbot.mouseClick(panel.actions_["save"], LEFT)
    assert saved == [Path("/tmp/x.nrrd")] and asked == ["/data/scan_objects.nii.gz"] and not wanted
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: ("", ""))
    qtbot.mouseClick(panel.actions_["save"], LEFT)
    assert len(saved) == 1
    for name in ("undo", "redo", "clear"):
        qtbot.mouseClick(panel.actions_[name], LEFT)
    assert wanted == ["undo", "redo", "clear"]
    assert not panel.actions_["propagate"].isEnabled(), "flat images have no slices"
    panel.set_usable(True, stack=True)
    assert panel.actions_["propagate"].isEnabled()


def test_a_section_closes_down_to_its_heading_and_opens_again(shown, qtbot):
    panel = shown(Panel())
    said = heard(panel.section_toggled)
    section = panel.sections["refine"]
    tall = section.sizeHint().height()
    assert section.is_open and panel.closer.isVisible()
    qtbot.mouseClick(section.opener, LEFT)
    assert not panel.closer.isVisible() and section.opener.isVisible() and section.sizeHint().height() < tall
    panel.set_open({"refine": True, "image": False, "of another version": True})
    assert panel.closer.isVisible() and not panel.image_section.isVisible() and panel.modes.isVisible()
    assert said == [("refine", False), ("image", False), ("refine", True)]


def test_the_panel_fits_into_a_low_window_without_scrolling(shown, qtbot):
    panel = shown(Panel())
    panel.slices.set_limits(10)
    panel.resize(panel.minimumSizeHint().width(), 780)  # what a window of 900 pixels leaves it
    qtbot.wait(20)
    area = panel.findChild(QScrollArea)
    assert area.verticalScrollBar().maximum() == 0
