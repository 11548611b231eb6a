"""What an empty panel shows, and a line for the first steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

_TEXT = (
    "Open a scan or a picture, or drop it on the canvas: NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG, TIFF.\n\n"
    "Then click inside of an organ, or draw a box around it: its mask appears, and further clicks correct it."
)


class WelcomeView(QWidget):
    """Guidance while there is no image.

    Parameters
    ----------
    samples : mapping of str to str
        Key of each sample -> what it is.

    Signals
    -------
    opened : Path
        An image that the user picked: a file, or a folder with a DICOM series.
    sample_wanted : str
        Key of a sample.
    """

    opened = Signal(Path)
    sample_wanted = Signal(str)

    def __init__(self, samples: Mapping[str, str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        title = QLabel("There is no image yet", self)
        title.setStyleSheet("font-weight: bold;")
        text = QLabel(_TEXT, self)
        text.setWordWrap(True)
        self.file_button, self.folder_button = QPushButton("Open…", self), QPushButton("Open DICOM folder…", self)
        self.file_button.setToolTip("Pick an image file")
        self.folder_button.setToolTip("Pick a folder with the files of a DICOM series")
        self.file_button.clicked.connect(self._pick_file)
        self.folder_button.clicked.connect(self._pick_folder)
        row = QHBoxLayout()
        row.addWidget(self.file_button)
        row.addWidget(self.folder_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(title)
        layout.addWidget(text)
        layout.addLayout(row)
        layout.addWidget(QLabel("Or try it on a sample:", self))
        self.sample_buttons: dict[str, QPushButton] = {}
        for key, what in samples.items():
            button = self.sample_buttons[key] = QPushButton(what, self)
            button.setToolTip(f"Open this sample: {what}")
            button.clicked.connect(lambda _, key=key: self.sample_wanted.emit(key))
            layout.addWidget(button)

    def set_busy(self, busy: bool) -> None:
        """While an image is being read, no other can be asked for."""
        for button in (self.file_button, self.folder_button, *self.sample_buttons.values()):
            button.setEnabled(not busy)

    def _pick_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open an image")
        if chosen:
            self.opened.emit(Path(chosen))

    def _pick_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a DICOM series")
        if chosen:
            self.opened.emit(Path(chosen))


class HintBar(QWidget):
    """A line that says what to do first, with a cross to be rid of it.

    Signals
    -------
    dismissed
        The user has pressed the cross.
    """

    dismissed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = QLabel(self)
        self.text.setWordWrap(True)
        self.text.setObjectName("hint")
        self.text.setStyleSheet("font-style: italic;")
        self.close_button = QToolButton(self)
        self.close_button.setText("✕")
        self.close_button.setAutoRaise(True)
        self.close_button.setToolTip("Do not show this hint again")
        self.close_button.clicked.connect(lambda: self.dismissed.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.text, 1)
        row.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.show_text("")

    def show_text(self, text: str) -> None:
        """Show a hint; empty hides the line."""
        self.text.setText(text)
        self.setVisible(bool(text))
