"""The dock for series: which folder and classes, how far it is, and the way to the next image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sammed.plugin.views.icons import filled
from napari_sammed.plugin.views.section import Section
from napari_sammed.series.classes import ClassLabel
from napari_sammed.series.state import Entry

STEPS = {
    "before": ("Previous", "Save, and go to the image before", "Alt+PgUp"),
    "next": ("Next", "Save, and go to the next image; this one stays open", "Alt+PgDown"),
    "skip": ("Skip", "Mark the image as skipped, and go to the next one", "Alt+Shift+PgDown"),
    "done": ("Done and next", "Save, mark the image as done, and go to the next one", "Alt+Return"),
}
_MARKS = {"open": "○", "done": "✓", "skipped": "-"}


class SeriesView(QWidget):
    """What is shown of a series.

    Signals
    -------
    opened : Path, object, str
        Folder of the images, folder of the results or None, and the classes as typed, or the name of their file.
    stepped : str
        A key of `STEPS`.
    wanted : int
        Row of the image that is to be opened.
    class_wanted : int
        Row of the class of which there is to be another object.
    """

    opened = Signal(Path, object, str)
    stepped = Signal(str)
    wanted = Signal(int)
    class_wanted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder, self.results, self.classes = QLineEdit(self), QLineEdit(self), QLineEdit(self)
        self.folder.setPlaceholderText("Folder of images")
        self.folder.setToolTip("All images in it and in folders inside: NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG, TIFF")
        self.results.setPlaceholderText("Results: sammed_results in there")
        self.results.setToolTip("Where label images and sessions go; another folder if you like")
        self.classes.setPlaceholderText("Classes: liver, spleen, …")
        self.classes.setToolTip(
            "Names, separated by commas; “2: spleen #ff8000” gives a value and a colour. Or a text file with one a "
            "line, a JSON list, or dataset.json of nnU-Net. Empty: those of the last time"
        )
        self.open_button = QPushButton("Open the series", self)
        self.open_button.setToolTip("Find the images, and go on with the first open one")
        self.progress = QProgressBar(self)
        self.progress.setToolTip("Images that are done")
        self.images, self.class_list = QListWidget(self), QListWidget(self)
        self.images.setToolTip("A double click opens an image")
        self.class_list.setToolTip("A double click makes another object of a class")
        self.class_list.setMaximumHeight(110)
        self.where = Section("Folder", "Which images, where the results go, and what is marked", parent=self)
        self.more = Section("Another object of a class", "Where an image has several", opened=False, parent=self)
        self.only_open = QCheckBox("Only open images", self)
        self.only_open.setToolTip("Next and Previous leave out images that are done or skipped")
        self.only_open.setChecked(True)
        self.time, self.message = QLabel(self), QLabel(self)
        self.time.setToolTip("Working time; it pauses after a minute without a movement")
        self.time.setStyleSheet("color: gray; font-size: 11px;")
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.buttons = {key: QPushButton(title, self) for key, (title, _, _) in STEPS.items()}
        self._arrange()
        self.open_button.clicked.connect(self._on_open)
        self.images.itemDoubleClicked.connect(lambda item: self.wanted.emit(self.images.row(item)))
        self.class_list.itemDoubleClicked.connect(lambda item: self.class_wanted.emit(self.class_list.row(item)))
        for key, (_, tooltip, shortcut) in STEPS.items():
            self.buttons[key].setToolTip(f"{tooltip} ({shortcut})")
            self.buttons[key].clicked.connect(lambda _, key=key: self.stepped.emit(key))
            bound = QShortcut(QKeySequence(shortcut), self)
            bound.setContext(Qt.ShortcutContext.WindowShortcut)
            bound.activated.connect(self.buttons[key].click)
        self.set_usable(False)

    def set_usable(self, usable: bool) -> None:
        """Whether there is a series to step through; then its folder is chosen, and the room is for the images."""
        for button in self.buttons.values():
            button.setEnabled(usable)
        self.where.set_title(f"Folder: {Path(self.folder.text().strip()).name}" if usable else "Folder")
        self.where.set_open(not usable)

    @property
    def least_height(self) -> int:
        """Pixels in which nothing has to scroll, but for the images."""
        area = self._area
        inner = area.widget().minimumSizeHint().height() + area.height() - area.viewport().height()
        return self.minimumSizeHint().height() - area.minimumSizeHint().height() + inner

    def set_entries(self, entries: Sequence[Entry], current: Entry | None) -> None:
        """Show the images and how far they are."""
        while self.images.count() > len(entries):
            self.images.takeItem(self.images.count() - 1)
        for row, entry in enumerate(entries):
            item = self.images.item(row) or QListWidgetItem(self.images)
            text = f"{'!' if entry.error else _MARKS[entry.state]}  {entry.path}"
            item.setText(text + (f"  ({entry.objects})" if entry.objects else ""))
            item.setToolTip(entry.error or f"{entry.state}, {entry.objects} objects, {clock(entry.seconds)}")
            font = item.font()
            font.setBold(entry is current)
            item.setFont(font)
            if entry is current:
                self.images.setCurrentItem(item)
        done = sum(entry.state == "done" for entry in entries)
        self.progress.setRange(0, max(len(entries), 1))
        self.progress.setValue(done)
        self.progress.setFormat(f"{done} of {len(entries)} done")

    def set_classes(self, classes: Sequence[ClassLabel]) -> None:
        """Show the classes with their values and colours."""
        self.class_list.clear()
        for one in classes:
            QListWidgetItem(filled(QColor(one.colour)), f"{one.value}: {one.name}", self.class_list)

    def set_time(self, seconds: float, left: float | None) -> None:
        """Show the time spent on the image, and what is left of the series."""
        rest = "" if left is None else f", about {clock(left)} left for the series"
        self.time.setText(f"This image: {clock(seconds)}{rest}")

    def say(self, text: str) -> None:
        """Show a sentence."""
        self.message.setText(text)

    def _arrange(self) -> None:
        """The images scroll in a low window; the way to the next one stays in sight."""
        inner = QWidget(self)
        layout = QVBoxLayout(inner)
        for field, what in ((self.folder, "folder"), (self.results, "folder"), (self.classes, "file")):
            row = QHBoxLayout()
            pick = QPushButton("…", self)
            pick.setMaximumWidth(32)
            pick.setToolTip(f"Choose a {what}")
            pick.clicked.connect(lambda _, field=field, what=what: self._pick(field, what))
            row.addWidget(field, 1)
            row.addWidget(pick)
            self.where.body.addLayout(row)
        self.where.add(self.open_button)
        self.more.add(self.class_list)
        layout.addWidget(self.where)
        layout.addWidget(self.progress)
        layout.addWidget(self.images, 1)
        layout.addWidget(self.only_open)
        layout.addWidget(self.more)
        area = self._area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        below = QVBoxLayout()
        below.setContentsMargins(9, 0, 9, 9)
        steps = QHBoxLayout()
        steps.setSpacing(4)
        for button in self.buttons.values():
            steps.addWidget(button, len(button.text()))
        below.addLayout(steps)
        below.addWidget(self.time)
        below.addWidget(self.message)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area, 1)
        outer.addLayout(below)
        # Else napari pushes everything up, and the images scroll while there is room below.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _pick(self, field: QLineEdit, what: str) -> None:
        if what == "folder":
            chosen = QFileDialog.getExistingDirectory(self, "Choose a folder", field.text())
        else:
            chosen, _ = QFileDialog.getOpenFileName(self, "Choose a list of classes", "", "Classes (*.txt *.json)")
        if chosen:
            field.setText(chosen)

    def _on_open(self) -> None:
        if not self.folder.text().strip():
            self.say("Choose a folder of images first.")
            return
        results = self.results.text().strip()
        folder = Path(self.folder.text().strip()).expanduser()
        self.opened.emit(folder, Path(results).expanduser() if results else None, self.classes.text().strip())


def clock(seconds: float) -> str:
    """A time for people: ``3:05``, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"
