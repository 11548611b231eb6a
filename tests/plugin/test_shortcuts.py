"""Keyboard shortcuts: listed, looked up, changed, kept, and never against napari's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sammed.errors import InputError
from napari_sammed.plugin.settings.keys import LAYER_SHORTCUTS, SHORTCUTS, Keyboard, napari_keys, normal
from napari_sammed.plugin.settings.memory import Memory

SHIFT, CTRL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
IMAGE = np.pad(np.full((12, 12), 200.0), 20)


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def keyboard(done) -> Keyboard:
    return Keyboard({name: lambda name=name: done.append(name) for name in SHORTCUTS}, Memory())


def again(keyboard: Keyboard) -> Keyboard:
    """As after a restart."""
    return Keyboard(keyboard._actions, Memory())


def press(target, key: str) -> bool:
    """What napari does for a key that is pressed on a layer or viewer."""
    found = {str(known): function for known, function in target.keymap.items()}.get(key)
    if found is not None:
        found(target)
    return found is not None


def test_the_first_keys_are_free_in_napari_and_each_is_there_once():
    keys = [shortcut.key for shortcut in SHORTCUTS.values() if shortcut.key]
    assert not set(keys) & set(napari_keys())
    assert len(set(keys)) == len(keys) and [normal(key) for key in keys] == keys
    assert set(LAYER_SHORTCUTS) <= set(SHORTCUTS)
    assert all(shortcut.title[:1].isupper() for shortcut in SHORTCUTS.values())


def test_a_change_counts_at_once_wherever_the_keys_are_bound(keyboard, done):
    viewer, layer = ViewerModel(), Labels(np.zeros((4, 4), int))
    keyboard.bind(viewer, layer=False)
    keyboard.bind(layer)
    assert press(viewer, "N") and press(layer, "Ctrl+Z") and not press(viewer, "Ctrl+Z")
    assert done == ["new", "undo"]
    assert keyboard.set("new", "Shift-G") is None
    assert not press(viewer, "N") and not press(layer, "N")
    assert press(viewer, "Shift+G") and press(layer, "Shift+G") and done[2:] == ["new", "new"]
    keyboard.release(layer)
    assert not layer.keymap and press(viewer, "Shift+G")


def test_keys_are_exchanged_between_actions_taken_away_and_reset(keyboard):
    assert keyboard.set("new", "U") == "undo"
    assert (keyboard.shortcuts["new"], keyboard.shortcuts["undo"]) == ("U", "N")
    assert keyboard.set("box", "") is None and keyboard.shortcuts["box"] == ""
    assert keyboard.set("clear", "N") == "undo" and keyboard.shortcuts["undo"] == ""
    assert again(keyboard).shortcuts == keyboard.shortcuts
    keyboard.reset()
    assert keyboard.shortcuts == {name: shortcut.key for name, shortcut in SHORTCUTS.items()}
    assert again(keyboard).shortcuts == keyboard.shortcuts
    keyboard.set("new", "U")
    keyboard.set("new", "N")
    assert keyboard._memory.get("shortcuts") is None, "what is as at first is not kept"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("P", "napari"),
        ("Ctrl+Z", "Undo"),
        ("Shift+!", "cannot be used"),
        ("é", "cannot be used"),
        ("Shift", "cannot be"),
    ],
)
def test_keys_that_cannot_be_are_refused_and_nothing_changes(keyboard, key, why):
    before = keyboard.shortcuts
    with pytest.raises(InputError, match=why):
        keyboard.set("new", key)
    assert keyboard.shortcuts == before
    with pytest.raises(InputError, match="Save all"):
        keyboard.set("new", "J", {"J": "Save all"})


def test_kept_keys_that_make_no_sense_are_left_out_with_a_warning(keyboard, caplog):
    kept = {"new": "P", "undo": "nonsense", "redo": "Shift+G", "box": "Shift+G", "of another version": "Shift+K"}
    Memory().note("shortcuts", kept)
    found = again(keyboard)
    assert found.shortcuts == {name: s.key for name, s in SHORTCUTS.items()} | {"redo": "Shift+G"}
    assert [record.message.split("”")[0].split("“")[1] for record in caplog.records] == [
        SHORTCUTS[name].title for name in ("new", "undo", "box")
    ]
    found.set("new", "Alt+J")
    kept = Memory().get("shortcuts")
    assert kept == {"redo": "Shift+G", "new": "Alt+J", "of another version": "Shift+K"}


def test_a_memory_that_is_damaged_is_put_aside(config, caplog):
    memory = Memory()
    memory.note("a", 1)
    memory.path.write_text('{"a": 1')
    assert memory.get("a", 7) == 7 and "cannot be read" in caplog.text
    memory.note("b", [2])
    assert json.loads(memory.path.read_text()) == {"b": [2]}
    assert memory.path.with_suffix(".broken").read_text() == '{"a": 1'
    memory.note("b", None)
    assert memory.get("b") is None


def test_a_memory_that_cannot_be_written_is_only_warned_of(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "memory.json")
    memory.note("a", 1)
    assert "cannot be written" in caplog.text and memory.get("a", 0) == 0


def test_the_list_is_searched_and_edited_with_real_keys(open_plugin, qtbot):
    hands = open_plugin(IMAGE, show=True)
    hands.mode("positive")
    hands.canvas.window().activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is not None)
    hands.canvas.setFocus()
    QTest.keyClick(hands.canvas, Qt.Key.Key_Question, SHIFT)
    dialog = hands.widget.coordinator._shortcut_list.dialog
    assert dialog is not None and dialog.isVisible()
    qtbot.keyClicks(dialog.search, "box")
    assert [name for row, name in enumerate(dialog.buttons) if not dialog.table.isRowHidden(row)] == ["box"]
    dialog.search.clear()

    def give(name: str, key, modifier=Qt.KeyboardModifier.NoModifier) -> str:
        hands.press(dialog.buttons[name])
        assert dialog.buttons[name].text() == "Press a key …"
        QTest.keyClick(dialog.buttons[name], Qt.Key.Key_Shift, SHIFT)
        QTest.keyClick(dialog.buttons[name], key, modifier)
        return dialog.message.text()

    assert "is Shift+G now" in give("new", Qt.Key.Key_G, SHIFT)
    assert dialog.buttons["new"].text() == "Shift+G" and "Shift+G" in hands.panel.objects.new_button.toolTip()
    assert "napari's key" in give("new", Qt.Key.Key_P)
    assert dialog.buttons["new"].text() == "Shift+G"
    give("new", Qt.Key.Key_Escape)
    assert dialog.isVisible() and dialog.buttons["new"].text() == "Shift+G"
    assert "had that key and has Shift+G" in give("new", Qt.Key.Key_U)
    assert hands.panel.actions_["undo"].toolTip().endswith("(key Shift+G)")
    assert "has no key now" in give("box", Qt.Key.Key_Backspace)
    assert "(key" not in hands.panel.modes.buttons["box"].toolTip()
    assert "napari's key for “Save Selected Layers" in give("box", Qt.Key.Key_S, CTRL)
    dialog.close()
    hands.click((26, 26))
    assert len(hands.session.objects) == 1
    hands.key(Qt.Key.Key_N)
    assert len(hands.session.objects) == 1
    hands.key(Qt.Key.Key_U)
    assert len(hands.session.objects) == 2
    hands.key(Qt.Key.Key_G, SHIFT)
    hands.key(Qt.Key.Key_Z, CTRL)
    assert not hands.session.objects[1].prompts
    hands.widget.coordinator._shortcut_list.show()
    hands.press(dialog.reset_button)
    assert dialog.buttons["new"].text() == "N" and "(key U)" in hands.panel.actions_["undo"].toolTip()
    QApplication.processEvents()


def test_closed_sections_stay_closed_after_a_restart(open_plugin):
    hands = open_plugin()
    hands.panel.sections["refine"].set_open(False)
    hands.panel.sections["classes"].set_open(True)
    sections = open_plugin().panel.sections
    assert {key: section.is_open for key, section in sections.items()} == {key: key != "refine" for key in sections}
