"""The list of keyboard shortcuts, in which they can be looked up and changed."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

_MODIFIERS = (Qt.Key.Key_Shift, Qt.Key.Key_Control, Qt.Key.Key_Alt, Qt.Key.Key_Meta, Qt.Key.Key_AltGr)
_HELP = "Press a button and then the new key. Backspace takes the key away, Escape leaves it as it is."


class KeyButton(QPushButton):
    """Shows a key; pressed, it waits for another one.

    Signals
    -------
    pressed_key : str
        What the user pressed, as Qt writes it; empty to take the key away.
    """

    pressed_key = Signal(str)

    def __init__(self, key: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setToolTip(_HELP)
        self.key = key
        self.toggled.connect(lambda _: self._show())
        self._show()

    def set_key(self, key: str) -> None:
        """Show this key."""
        self.key = key
        self._show()

    def event(self, event: QEvent) -> bool:
        """While it waits, every key is for this button, whatever shortcuts the window has."""
        if self.isChecked() and event.type() == QEvent.Type.ShortcutOverride:
            event.accept()
            return True
        if self.isChecked() and event.type() == QEvent.Type.KeyPress:  # here, else Tab goes to the next widget
            self.keyPressEvent(event)
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take the key, once it is not only a modifier."""
        if not self.isChecked():
            super().keyPressEvent(event)
            return
        event.accept()
        if event.key() in _MODIFIERS:
            return
        self.setChecked(False)
        if event.key() == Qt.Key.Key_Escape:
            return
        erases = event.key() in (Qt.Key.Key_Backspace, Qt.Key.Key_Delete) and not event.modifiers()
        self.pressed_key.emit("" if erases else _written(event))

    def focusOutEvent(self, event: QEvent) -> None:
        """The user has turned to something else."""
        self.setChecked(False)
        super().focusOutEvent(event)

    def _show(self) -> None:
        self.setText("Press a key …" if self.isChecked() else self.key or "none")


class ShortcutsDialog(QDialog):
    """What can be done with a key, and with which.

    Parameters
    ----------
    titles : mapping of str to str
        Name of each action -> what it is called.
    parent : QWidget, optional

    Signals
    -------
    wanted : str, str
        The user wants an action to have a key, or none.
    reset_wanted
        The user wants the first keys again.
    """

    wanted = Signal(str, str)
    reset_wanted = Signal()

    def __init__(self, titles: Mapping[str, str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Shortcuts")
        self.search = QLineEdit(self)
        self.search.setPlaceholderText("Search for an action or a key")
        self.search.setToolTip("Show only the actions whose name or key has these letters")
        self.search.setClearButtonEnabled(True)
        self.table = QTableWidget(len(titles), 2, self)
        self.table.setHorizontalHeaderLabels(["What it does", "Key"])
        self.table.setToolTip(_HELP)
        self.table.verticalHeader().hide()
        self.table.setShowGrid(False)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.horizontalHeader().resizeSection(1, 140)
        self.buttons: dict[str, KeyButton] = {}
        for row, (name, title) in enumerate(titles.items()):
            self.table.setItem(row, 0, QTableWidgetItem(title))
            button = self.buttons[name] = KeyButton("", self.table)
            button.pressed_key.connect(lambda key, name=name: self.wanted.emit(name, key))
            self.table.setCellWidget(row, 1, button)
        self.message = QLabel(_HELP, self)
        self.message.setWordWrap(True)
        self.message.setMinimumHeight(3 * self.message.fontMetrics().height())
        self.message.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.reset_button, self.close_button = QPushButton("Reset to defaults", self), QPushButton("Close", self)
        self.reset_button.setToolTip("Give every action its first key again")
        self.close_button.setToolTip("Keep the keys as they are shown")
        for button in (self.reset_button, self.close_button):
            button.setAutoDefault(False)
        below = QHBoxLayout()
        below.addWidget(self.reset_button)
        below.addStretch(1)
        below.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        for widget in (self.search, self.table, self.message):
            layout.addWidget(widget)
        layout.addLayout(below)
        self.search.textChanged.connect(lambda _: self._filter())
        self.reset_button.clicked.connect(lambda: self.reset_wanted.emit())
        self.close_button.clicked.connect(self.close)
        self.resize(460, 560)

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Show these keys of the actions."""
        for name, button in self.buttons.items():
            button.set_key(keys.get(name, ""))
        self._filter()

    def say(self, text: str) -> None:
        """Show what has become of the user's wish."""
        self.message.setText(text or _HELP)

    def _filter(self) -> None:
        wanted = self.search.text().strip().lower()
        for row, button in enumerate(self.buttons.values()):
            found = wanted in self.table.item(row, 0).text().lower() or wanted == button.key.lower()
            self.table.setRowHidden(row, not found)


def menu_keys(window: QWidget) -> dict[str, str]:
    """The keys of the menus of a window, as Qt writes them -> what they do."""
    found: dict[str, str] = {}
    for action in (action for menu in window.findChildren(QMenu) for action in menu.actions()):
        key = action.shortcut().toString(QKeySequence.SequenceFormat.PortableText)
        if key and action.shortcutContext() != Qt.ShortcutContext.WidgetShortcut:  # else of our table only
            found[key] = action.text().replace("&", "").replace("\u200e", "").rstrip(".…")
    return found


def _written(event: QKeyEvent) -> str:
    """A pressed key as Qt writes it, like ``Ctrl+Shift+Z``."""
    keypad = Qt.KeyboardModifier.KeypadModifier
    if hasattr(event, "keyCombination"):  # Qt 6
        combination = event.keyCombination()
        modifiers = combination.keyboardModifiers() & ~keypad
        sequence = QKeySequence(type(combination)(modifiers, combination.key()))
    else:
        sequence = QKeySequence(int(event.modifiers() & ~keypad) | event.key())
    return sequence.toString(QKeySequence.SequenceFormat.PortableText)
