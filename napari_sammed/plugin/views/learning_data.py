"""What is learnt from: where it is, what was found in it, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from napari_sammed.plugin.views.choosers import Choice, Chooser
from napari_sammed.plugin.views.section import Section

SESSIONS, FOLDER = "sessions", "folder"
_SOURCES = [
    Choice(SESSIONS, "What was corrected in napari", "All sessions that the plugin keeps, as they stand now"),
    Choice(
        FOLDER,
        "Another folder",
        "An annotated series, images with labels, nnU-Net raw data, session files, or DICOM with segmentations",
    ),
]
_ROWS = 5  # of structures that are seen at a time, at most


class DataSection(Section):
    """The source, its structures to choose from, and its problems.

    Signals
    -------
    looked : object
        Folder that is to be looked at; None for the sessions of the plugin.
    chosen
        Other structures are chosen than before.
    """

    looked = Signal(object)
    chosen = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Learn from", "Which images and labels are learnt from", parent=parent)
        self.source = Chooser(parent=self)
        self.source.set_choices(_SOURCES)
        self.folder = QLineEdit(self)
        self.folder.setPlaceholderText("Folder of images and labels")
        self.folder.setToolTip(_SOURCES[1].tooltip)
        self.pick_button = QPushButton("…", self)
        self.pick_button.setMaximumWidth(32)
        self.pick_button.setToolTip("Choose a folder")
        self.folder_row = _row(self, (self.folder, 1), (self.pick_button, 0))
        self.found = QLabel(self)
        self.found.setWordWrap(True)
        self.found.setTextFormat(Qt.TextFormat.PlainText)
        self.again_button = QPushButton("Look again", self)
        self.again_button.setToolTip("Count what is there by now")
        self.structures = QListWidget(self)
        self.structures.setToolTip("What is learnt: everything with a mark")
        self.problems = ProblemList(self)
        self.add(self.source, self.folder_row, _row(self, (self.found, 1), (self.again_button, 0)))
        self.add(self.structures, self.problems)
        self.source.chosen.connect(lambda _: self._on_source())
        self.pick_button.clicked.connect(self._pick)
        self.folder.editingFinished.connect(self.look)
        self.again_button.clicked.connect(self.look)
        self.structures.itemChanged.connect(lambda _: self.chosen.emit())
        self.folder_row.hide()
        self.set_structures([])
        self.problems.set_problems([])

    @property
    def path(self) -> Path | None:
        """The folder; None for the sessions of the plugin, or where none was chosen yet."""
        text = self.folder.text().strip()
        return Path(text).expanduser() if self.source.key == FOLDER and text else None

    def look(self) -> None:
        """Have the folder looked at, if there is one."""
        if self.source.key == SESSIONS or self.path is not None:
            self.looked.emit(self.path)

    def set_structures(self, structures: Sequence[tuple[str, str]]) -> None:
        """Show names, and what is said of each; all of them are chosen."""
        self.structures.blockSignals(True)
        self.structures.clear()
        for name, said in structures:
            item = QListWidgetItem(f"{name}{said}", self.structures)
            item.setData(Qt.ItemDataRole.UserRole, name)
            item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
            item.setCheckState(Qt.CheckState.Checked)
        self.structures.blockSignals(False)
        self.structures.setVisible(bool(structures))
        rows = min(max(len(structures), 1), _ROWS)
        self.structures.setFixedHeight(rows * max(self.structures.sizeHintForRow(0), 18) + 8)
        self.chosen.emit()

    @property
    def names(self) -> tuple[str, ...]:
        """Structures that are chosen."""
        items = [self.structures.item(row) for row in range(self.structures.count())]
        return tuple(i.data(Qt.ItemDataRole.UserRole) for i in items if i.checkState() == Qt.CheckState.Checked)

    @property
    def all_chosen(self) -> bool:
        return len(self.names) == self.structures.count()

    def _on_source(self) -> None:
        self.folder_row.setVisible(self.source.key == FOLDER)
        if self.source.key == FOLDER and self.path is None:
            self.found.setText("Choose a folder.")
            self.set_structures([])
            self.problems.set_problems([])
        self.look()

    def _pick(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder of images and labels", self.folder.text())
        if chosen:
            self.folder.setText(chosen)
            self.look()


class ProblemList(Section):
    """What is wrong with the data, file by file; hidden while nothing is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Problems", "What is wrong with the data, and what to do", opened=False, parent=parent)
        self.list = QListWidget(self)
        self.list.setWordWrap(True)
        self.list.setMinimumHeight(90)
        self.list.setMaximumHeight(150)
        self.list.setToolTip("“Left out” are cases that nothing can be learnt from as they are")
        self.add(self.list)

    def set_problems(self, problems: Sequence[tuple[str, str, bool]]) -> None:
        """Show problems: file, what is wrong, whether the case is left out."""
        self.list.clear()
        for file, text, fatal in sorted(problems, key=lambda problem: not problem[2]):
            item = QListWidgetItem(f"{'Left out: ' if fatal else ''}{Path(file).name}: {text}", self.list)
            item.setToolTip(file)
        out = sum(fatal for _, _, fatal in problems)
        self.set_title(f"{len(problems)} problem{'s' * (len(problems) != 1)}" + (f", {out} left out" if out else ""))
        self.setVisible(bool(problems))

    @property
    def texts(self) -> list[str]:
        return [self.list.item(row).text() for row in range(self.list.count())]


def _row(parent: QWidget, *widgets: tuple[QWidget, int]) -> QWidget:
    row = QWidget(parent)
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget, stretch in widgets:
        layout.addWidget(widget, stretch)
    return row
