"""What can be done with a session as a whole: kept as a file, opened from one, started afresh, brought back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

SUFFIX = ".sammed.jsonl"
"""How the plugin names session files; any name will do."""
_TYPES = f"Sessions (*{SUFFIX} *.jsonl);;All files (*)"
ENTRIES = {
    "save": (
        "Save session as…",
        "Copy prompts and masks to a file that others can open or replay",
    ),
    "open": ("Open session…", "Go on with a session file of this image"),
    "earlier": ("Earlier sessions…", "Sessions of this image that were set aside; any of them can be brought back"),
    "afresh": ("Start afresh", "Set this session aside and begin with no objects; it can be brought back"),
    "learn": ("Learn from corrections…", "Have a model learn from all that was corrected, to need fewer corrections"),
}


class SessionButton(QPushButton):
    """A button with a menu; asks for file names itself.

    Signals
    -------
    save_wanted : Path
        Where the session is to be copied.
    open_wanted : Path
        Session file to go on with.
    earlier_wanted
        The user wants to see the sessions that were set aside.
    afresh_wanted
        The user wants to begin again.
    learn_wanted
        The user wants a model to learn from what was corrected.
    """

    save_wanted = Signal(Path)
    open_wanted = Signal(Path)
    earlier_wanted = Signal()
    afresh_wanted = Signal()
    learn_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Session", parent)
        self.setToolTip("The session is kept by itself, prompt by prompt; here it can be copied, opened or set aside")
        self.suggested_file = Path(f"session{SUFFIX}")
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.entries = {}
        for key, (title, tooltip) in ENTRIES.items():
            entry = self.entries[key] = menu.addAction(title)
            entry.setToolTip(tooltip)
        self.entries["save"].triggered.connect(self._on_save)
        self.entries["open"].triggered.connect(self._on_open)
        self.entries["earlier"].triggered.connect(lambda: self.earlier_wanted.emit())
        self.entries["afresh"].triggered.connect(lambda: self.afresh_wanted.emit())
        self.entries["learn"].triggered.connect(lambda: self.learn_wanted.emit())
        menu.insertSeparator(self.entries["learn"])
        self.setMenu(menu)

    def _on_save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, ENTRIES["save"][0], str(self.suggested_file), _TYPES)
        if chosen:
            path = Path(chosen)
            self.save_wanted.emit(path if path.suffix else path.with_name(f"{path.name}{SUFFIX}"))

    def _on_open(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, ENTRIES["open"][0], str(self.suggested_file.parent), _TYPES)
        if chosen:
            self.open_wanted.emit(Path(chosen))


class EarlierSessions(QDialog):
    """A list of sessions, one of which can be brought back; modal to nothing.

    Parameters
    ----------
    sessions : sequence of (Path, str)
        File, and the line that says what is in it.

    Signals
    -------
    wanted : Path
    """

    wanted = Signal(Path)

    def __init__(self, sessions: Sequence[tuple[Path, str]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Earlier sessions of this image")
        self.list = QListWidget(self)
        for path, text in sessions:
            item = QListWidgetItem(text, self.list)
            item.setData(Qt.ItemDataRole.UserRole, path)
            item.setToolTip(str(path))
        self.list.setCurrentRow(0)
        self.list.setToolTip("Sessions that were set aside, the latest first")
        self.list.itemDoubleClicked.connect(lambda _: self._bring_back())
        note = QLabel("The session that is open now takes its place in this list.", self)
        note.setWordWrap(True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        self.button = buttons.addButton("Bring back", QDialogButtonBox.ButtonRole.AcceptRole)
        self.button.setToolTip("Go on with the chosen session")
        buttons.accepted.connect(self._bring_back)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        for widget in (self.list, note, buttons):
            layout.addWidget(widget)
        self.resize(460, 240)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

    def _bring_back(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            self.wanted.emit(item.data(Qt.ItemDataRole.UserRole))
            self.accept()
