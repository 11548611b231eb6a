"""How objects are saved, and whether they are."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Signal
from qtpy.QtGui import QActionGroup
from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from napari_sammed.plugin.views.small_print import SmallPrint

_WHAT = {
    "one": ("One label image", "All objects in one file; where they overlap, the topmost one shows"),
    "each": ("One file an object", "Each whole object in a file that is named after it"),
}
_FRAMES = {
    "this": ("This frame", "Only the frame that is shown"),
    "together": (
        "All frames",
        "The objects of all frames in one file, with the same value for objects of the same name, and a list of names",
    ),
    "apart": ("All frames, a file each", "A file for every frame that has objects: name_t003.nii.gz"),
}


class SaveOptions(QPushButton):
    """A button with a menu of what Save writes.

    Signals
    -------
    changed : dict
        What was chosen, to be remembered.
    """

    changed = Signal(dict)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        group = QActionGroup(menu)
        self.entries = {}
        for key, (title, tooltip) in _WHAT.items():
            entry = self.entries[key] = menu.addAction(title)
            entry.setToolTip(tooltip)
            entry.setCheckable(True)
            group.addAction(entry)
        frames = QActionGroup(menu)
        self._frame_entries = [menu.addSeparator()]
        for key, (title, tooltip) in _FRAMES.items():
            entry = self.entries[key] = menu.addAction(title)
            entry.setToolTip(tooltip)
            entry.setCheckable(True)
            frames.addAction(entry)
            entry.triggered.connect(lambda _: setattr(self, "_picked", True))
            self._frame_entries.append(entry)
        menu.addSeparator()
        table = self.entries["table"] = menu.addAction("The table beside it")
        table.setToolTip("As a CSV file of the same name: volumes, diameters, grey values")
        table.setCheckable(True)
        self.entries["one"].setChecked(True)
        self._picked = False  # by the user, of the frames
        self._offered = False
        for entry in self.entries.values():
            entry.triggered.connect(lambda _: self._on_triggered())
        self.setMenu(menu)
        self.offer_frames(False)
        self.setToolTip("What Save writes: one label image or one file an object, which frames, and the table")
        self._show()

    @property
    def each(self) -> bool:
        """Whether every object is to have a file of its own."""
        return self.entries["each"].isChecked()

    @property
    def table(self) -> bool:
        """Whether the table is to be saved too."""
        return self.entries["table"].isChecked()

    @property
    def frames(self) -> str:
        """Which frames are to be saved: "this", "together" or "apart"."""
        return next(key for key in _FRAMES if self.entries[key].isChecked()) if self._offered else "this"

    def offer_frames(self, offered: bool) -> None:
        """Another layer: offer its frames, or nothing if it has none."""
        self._offered = offered
        self._picked = False
        self.entries["this"].setChecked(True)
        for entry in self._frame_entries:
            entry.setVisible(offered)
        self._show()

    def suggest_frames(self, every: bool) -> None:
        """Begin with all frames, or with the one that is shown; what the user picked stays."""
        if self._offered and not self._picked:
            self.entries["together" if every else "this"].setChecked(True)
            self._show()

    def set_chosen(self, chosen: object) -> None:
        """What was chosen another day; anything that makes no sense is left out."""
        if isinstance(chosen, Mapping):
            self.entries["each" if chosen.get("each") is True else "one"].setChecked(True)
            self.entries["table"].setChecked(chosen.get("table") is True)
            self._show()

    def _on_triggered(self) -> None:
        self._show()
        self.changed.emit({"each": self.each, "table": self.table})

    def _show(self) -> None:
        what = {"this": "Each" if self.each else "One file", "together": "All frames", "apart": "File a frame"}
        each = ", each" if self.each and self.frames != "this" else ""
        self.setText(what[self.frames] + each + (" + table" if self.table else ""))


class SavedNote(SmallPrint):
    """Whether the objects have been saved to files as they are."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setObjectName("saved")
        self.setToolTip("The session is kept by itself; this is about the files that Save writes")
        self.show_text("")

    def show_text(self, text: str) -> None:
        """Show a sentence; empty hides the line."""
        if text != self.text() or not text:
            self.setText(text)
            self.setVisible(bool(text))
