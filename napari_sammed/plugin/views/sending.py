"""The question before images go to a server."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_sammed.messages import server_size


class SendQuestion(QMessageBox):
    """Whether images may go to a server.

    Parameters
    ----------
    host : str
    size : int
        Bytes of the image that is about to be sent.
    parent : QWidget, optional

    Signals
    -------
    answered : bool
    """

    answered = Signal(bool)

    def __init__(self, host: str, size: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setIcon(QMessageBox.Icon.Question)
        self.setWindowTitle("Send the image?")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(f"To segment at {host}, the image has to be sent there: {server_size(size)}.")
        self.setInformativeText(
            "What is sent: voxels and their geometry, no names, no patient data of the file. Voxels of a head show a "
            f"face.\n\nIf you agree, you are not asked again for {host}; the button below the panel takes that back."
        )
        self.send_button = self.addButton("Send", QMessageBox.ButtonRole.AcceptRole)
        self.send_button.setToolTip(f"Send this image to {host}, and others when you ask about them")
        self.later_button = self.addButton("Not now", QMessageBox.ButtonRole.RejectRole)
        self.later_button.setToolTip("Send nothing; your prompts stay")
        self.setDefaultButton(self.later_button)
        self.setEscapeButton(self.later_button)
        self.finished.connect(lambda _: self.answered.emit(self.clickedButton() is self.send_button))
