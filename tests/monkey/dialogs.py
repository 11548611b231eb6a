"""The page of preferences, the list of shortcuts, and the session as a whole: its menu and what the bar offers."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QComboBox, QSpinBox

from napari_sammed.plugin.views.session_files import EarlierSessions
from tests.monkey.acts import act

_LEFT_ALONE = ("device", "cache", "ask_above", "sessions", "weights", "click_model", "box_model", "stroke_model")
"""Preferences that would stop the work, or ask models whose weights are not there."""


@act(1.5, session=False)
def preferences(monkey) -> str | None:
    """Open the page, change something on it, and close it, mostly."""
    hands = monkey.hands
    if not hands.panel.isVisible():
        return None
    hands.press(hands.panel.preferences_button)
    dialog = hands.widget.coordinator._preference_page.dialog
    hands.settle()
    name = monkey.random.choice([name for name in dialog.editors if name not in _LEFT_ALONE])
    editor = dialog.editors[name]
    if isinstance(editor, QCheckBox):
        editor.click()
    elif isinstance(editor, QSpinBox):
        editor.setValue(monkey.random.choice((1, 4, 12)))
    elif isinstance(editor, QComboBox):
        editor.setCurrentIndex(monkey.random.randrange(editor.count()))
        editor.activated.emit(editor.currentIndex())
    if monkey.random.random() < 0.8:
        hands.press(dialog.close_button)
    return name


@act(1, session=False)
def shortcuts(monkey) -> str:
    """Open the list, search, change a key and give all their first ones back, and close it, mostly."""
    hands = monkey.hands
    hands.press(hands.panel.shortcuts_button)
    dialog = hands.widget.coordinator._shortcut_list.dialog
    dialog.search.setText(monkey.random.choice(("", "undo", "b", "zzz")))
    name = monkey.random.choice(list(dialog.buttons))
    key = monkey.random.choice(("", "F9", "B", "U", "Ctrl+Z", "Space"))
    dialog.buttons[name].pressed_key.emit(key)
    hands.settle()
    dialog.reset_button.click()
    if monkey.random.random() < 0.8:
        hands.press(dialog.close_button)
    return f"{name} by {key!r}"


@act(1.5)
def save_session(monkey) -> str:
    monkey.hands.panel.session_button.entries["save"].trigger()
    return "to a file"


@act(1)
def open_session(monkey) -> str | None:
    """One that was saved from any of the images; what to do with it is then offered."""
    if not list(monkey.folder.glob("*.sammed.jsonl")):
        return None
    monkey.hands.panel.session_button.entries["open"].trigger()
    return "a file"


@act(0.7)
def start_afresh(monkey) -> str:
    monkey.hands.panel.session_button.entries["afresh"].trigger()
    return "no objects"


@act(1)
def bring_back_session(monkey) -> str:
    hands = monkey.hands
    hands.panel.session_button.entries["earlier"].trigger()
    hands.qtbot.waitUntil(lambda: bool(_lists(hands)), timeout=1000)
    lists = _lists(hands)
    if not lists:
        return "there is none"
    shown = lists[-1]
    shown.list.setCurrentRow(monkey.random.randrange(shown.list.count()))
    if monkey.random.random() < 0.2:
        shown.reject()
        return "left"
    shown.button.click()
    return shown.list.currentItem().text()


@act(3, session=False)
def take_an_offer(monkey) -> str | None:
    """Whatever the bar at the top of the panel offers."""
    bar = monkey.hands.panel.offers
    if bar.isHidden() or not bar.buttons:
        return None
    key = monkey.random.choice(list(bar.buttons))
    bar.buttons[key].click()
    return key


def _lists(hands) -> list[EarlierSessions]:
    return [one for one in hands.panel.findChildren(EarlierSessions) if one.isVisible()]
