"""What is going on: a sentence, remarks that stay, progress and a way to stop it."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_sammed.plugin.views.small_print import AMBER, SmallPrint, ThemedLabel

_STEPS = 1000
_PATIENCE = 400  # ms before progress is shown: quick answers should neither flicker nor wait for the bar to be drawn


class StatusView(QWidget):
    """Messages and progress.

    Signals
    -------
    cancelled
        The user wants everything that is running to stop.
    retried
        The user wants prompts without an answer to be asked again.
    """

    cancelled = Signal()
    retried = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.message, self.remark = QLabel(self), QLabel(self)
        self.warning, self.aside = ThemedLabel(AMBER, parent=self), SmallPrint(self)
        names = ("message", "remark", "warning", "aside")
        for label, name in zip((self.message, self.remark, self.warning, self.aside), names, strict=True):
            label.setWordWrap(True)
            label.setObjectName(name)
            label.setTextFormat(Qt.TextFormat.PlainText)  # servers have a say in it, too
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.remark.setStyleSheet("font-style: italic;")
        self.bar = QProgressBar(self)
        self.bar.setTextVisible(False)
        # Never the moving bar of unknown progress: each of its frames repaints the whole window, canvas included, and
        # without a GPU that takes the processors away from the model.
        self.bar.setRange(0, _STEPS)
        self.bar.setMaximumHeight(10)
        self.cancel_button = QPushButton("Cancel", self)
        self.cancel_button.setToolTip("Stop what is running; the prompts stay")
        self.retry_button = QPushButton("Try again", self)
        self.retry_button.setToolTip("Ask again for the prompts that have no answer yet")
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        for widget in (self.message, self.remark, self.warning, self.retry_button, self.aside):
            layout.addWidget(widget)
        self.cancel_button.clicked.connect(lambda: self.cancelled.emit())
        self.retry_button.clicked.connect(lambda: self.retried.emit())
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_PATIENCE)
        self._soon.timeout.connect(self._show_progress)
        self._progress = ("", 0.0)
        self._warnings: dict[str, str] = {}
        self.set_busy(False)
        self.murmur("")
        self.say("")
        self.warn("")

    def say(self, message: str, remark: str = "", *, retry: bool = False) -> None:
        """Show a sentence, a remark below it, and whether asking again makes sense."""
        self.message.setText(message)
        self.remark.setText(remark)
        self.remark.setVisible(bool(remark))
        self.retry_button.setVisible(retry)

    def murmur(self, text: str) -> None:
        """Show what goes on by itself, in small print; the line keeps its place, so that nothing jumps."""
        if text != self.aside.text():
            self.aside.setText(text)

    def warn(self, warning: str, about: str = "image") -> None:
        """Show a warning that stays until another one about the same replaces it; empty takes it away."""
        self._warnings[about] = warning
        self.warning.setText("\n".join(filter(None, self._warnings.values())))
        self.warning.setVisible(bool(self.warning.text()))

    def set_busy(self, busy: bool) -> None:
        """Show, after a moment, or hide progress and the cancel button."""
        if not busy:
            self._soon.stop()
            self._progress = ("", 0.0)
            self.bar.hide()
            self.cancel_button.hide()
        elif not self._soon.isActive() and self.bar.isHidden():
            self._soon.start()

    def set_progress(self, text: str, fraction: float) -> None:
        """Say what is being done and how far it is, 0 to 1."""
        self._progress = (text, fraction)
        if not self.bar.isHidden():
            self._show_progress()

    def _show_progress(self) -> None:
        text, fraction = self._progress
        if text:
            self.message.setText(text)
        self.bar.setValue(round(_STEPS * min(max(fraction, 0.0), 1.0)))
        self.bar.show()
        self.cancel_button.show()
