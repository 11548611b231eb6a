"""The way to a first image and a first prompt; every control says what it does; colours fit dark and light themes."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QFileDialog, QLineEdit, QTableView

from napari_sammed.geometry import Grid
from napari_sammed.plugin.features.first_hint import SESSIONS
from napari_sammed.plugin.layers.prompt_looks import COLOURS, SYMBOLS
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.views.small_print import AMBER, GREY
from napari_sammed.volume import Volume, write_volume

IMAGE = np.pad(np.full((12, 12), 200.0), 20)
INTERACTIVE = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QTableView)


def test_an_empty_panel_leads_to_an_image(open_plugin, monkeypatch, tmp_path):
    hands = open_plugin()
    panel = hands.panel
    hands.qtbot.waitUntil(lambda: not panel.welcome.isHidden())
    assert all(section.isHidden() for section in panel.sections.values())
    path = tmp_path / "scan.nii.gz"
    write_volume(Volume(np.random.default_rng(0).random((5, 20, 30)), Grid.plain((5, 20, 30))), path)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    hands.press(panel.welcome.file_button)
    assert not panel.welcome.file_button.isEnabled()
    hands.qtbot.waitUntil(lambda: panel.welcome.isHidden() and hands.segmentation is not None)
    hands.settle()
    assert not panel.sections["prompt"].isHidden() and hands.segmentation.image.data.shape == (5, 20, 30)
    hands.viewer.layers.clear()
    hands.qtbot.waitUntil(lambda: not panel.welcome.isHidden())
    assert panel.welcome.file_button.isEnabled()


def test_a_sample_is_a_click_away(open_plugin):
    hands = open_plugin()
    hands.press(hands.panel.welcome.sample_buttons["torso"])
    hands.qtbot.waitUntil(lambda: len(hands.viewer.layers) == 2, timeout=30000)
    hands.settle()
    assert hands.segmentation is not None and hands.panel.welcome.isHidden()


def test_a_file_that_cannot_be_opened_is_named(open_plugin, monkeypatch, tmp_path):
    hands = open_plugin()
    (tmp_path / "broken.nii").write_bytes(b"no image")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "broken.nii"), ""))
    hands.press(hands.panel.welcome.file_button)
    hands.qtbot.waitUntil(lambda: hands.panel.welcome.file_button.isEnabled())
    assert "broken.nii" in hands.message and not hands.viewer.layers


def test_the_hint_goes_with_the_first_prompt(open_plugin):
    hands = open_plugin(IMAGE)
    hint = hands.panel.hint
    assert not hint.isHidden() and "Point +" in hint.text.text()
    hands.mode("positive")
    hands.writer.points.add((26, 26))
    hands.settle()
    assert hint.isHidden()
    hands.act("undo")
    assert hint.isHidden()


def test_the_hint_is_shown_in_the_first_sessions_only(open_plugin):
    for number in range(SESSIONS + 1):
        hands = open_plugin(IMAGE + number)
        assert hands.panel.hint.isHidden() == (number == SESSIONS)


def test_a_dismissed_or_unwanted_hint_does_not_come_back(open_plugin):
    hands = open_plugin(IMAGE)
    hands.press(hands.panel.hint.close_button)
    assert hands.panel.hint.isHidden()
    assert open_plugin(IMAGE + 1).panel.hint.isHidden()
    Memory().note("hints", None)
    Preferences().set("hints", False)
    assert open_plugin(IMAGE + 2).panel.hint.isHidden()
    Preferences().set("hints", True)
    assert not open_plugin(IMAGE + 3).panel.hint.isHidden()


def test_the_panel_begins_with_the_preferred_brush_and_preview(open_plugin):
    Preferences().set("brush_size", 33)
    Preferences().set("preview", False)
    panel = open_plugin().panel
    assert panel.brush.size_.value() == 33 and not panel.preview.isChecked()


def controls(widget) -> list:
    """Everything that a user can press or type into, without the parts that Qt makes for itself."""
    found = [child for kind in INTERACTIVE for child in widget.findChildren(kind)]
    return [child for child in found if not child.objectName().startswith("qt_") and not _is_part(child)]


def _is_part(child) -> bool:
    parent = child.parent()
    while parent is not None and not isinstance(parent, Panel):
        if isinstance(parent, (QAbstractSpinBox, QComboBox, QLineEdit, QTableView)):
            return True
        parent = parent.parent()
    return False


@pytest.mark.parametrize("image", [None, IMAGE], ids=["empty", "image"])
def test_every_control_has_a_tooltip(open_plugin, image):
    hands = open_plugin(image)
    hands.widget.coordinator._preference_page.show()
    hands.widget.coordinator._shortcut_list.show()
    found = controls(hands.panel)
    silent = [(type(one).__name__, type(one.parent()).__name__) for one in found if not one.toolTip()]
    assert len(found) > 60 and not silent


def contrast(one: str, other: str) -> float:
    """As WCAG has it: 1 for equal colours, 21 for black on white."""

    def light(name: str) -> float:
        shares = [getattr(QColor(name), channel)() for channel in ("redF", "greenF", "blueF")]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_warnings_and_small_print_can_be_read_in_both_themes(open_plugin):
    hands = open_plugin(IMAGE, show=True)
    status = hands.panel.status
    status.warn("Something to know")
    status.murmur("Encoding")
    for theme, at in (("dark", 0), ("light", 1), ("dark", 0)):
        hands.viewer.theme = theme
        hands.qtbot.wait(50)
        around = hands.panel.palette().color(hands.panel.backgroundRole()).name()
        for label, colours in ((status.warning, AMBER), (status.aside, GREY)):
            assert colours[at] in label.styleSheet(), theme
            assert contrast(colours[at], around) >= 4.5, (theme, around)


def test_clicks_differ_in_colour_for_everybody_and_in_shape(open_plugin):
    hands = open_plugin(IMAGE)
    hands.mode("positive")
    hands.writer.points.add((26, 26))
    hands.settle()
    hands.mode("negative")
    hands.writer.points.add((5, 5))
    hands.settle()
    faces = [QColor.fromRgbF(*map(float, face)).name() for face in hands.writer.points.face_color]
    assert faces == [COLOURS[True], COLOURS[False]] == ["#009e73", "#d55e00"]
    assert [str(symbol) for symbol in hands.writer.points.symbol] == [SYMBOLS[True], SYMBOLS[False]]
