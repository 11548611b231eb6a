"""The dock for learning from corrections: from what, how, and the run."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_sammed.plugin.views.learning_data import DataSection
from napari_sammed.plugin.views.learning_how import HowSection, MoreSection
from napari_sammed.plugin.views.learning_run import RunSection

START, GO_ON = "Start learning", "Go on"


class LearnView(QWidget):
    """All of the dock.

    Signals
    -------
    started, checked, stopped
        The user wants to start or go on, to have the data checked first, or to stop.
    """

    started = Signal()
    checked = Signal()
    stopped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.data, self.how, self.more, self.run = (
            section(self) for section in (DataSection, HowSection, MoreSection, RunSection)
        )
        self.message = QLabel(self)
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.start_button, self.check_button = QPushButton(START, self), QPushButton("Check the data", self)
        self.stop_button = QPushButton("Stop", self)
        self.check_button.setToolTip(
            "Read all images and labels, and list what is wrong with them; nothing is learnt yet"
        )
        self.stop_button.setToolTip("Stop, and keep what was learnt: it can be gone on with")
        self._arrange()
        self.start_button.clicked.connect(lambda: self.started.emit())
        self.check_button.clicked.connect(lambda: self.checked.emit())
        self.stop_button.clicked.connect(lambda: self.stopped.emit())
        self.set_working(False)
        self.set_run(False)

    def say(self, text: str) -> None:
        """Show a sentence."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def set_working(self, working: bool) -> None:
        """Whether a run is at work."""
        self.stop_button.setVisible(working)
        self.stop_button.setText("Stop")
        for button in (self.start_button, self.check_button):
            button.setVisible(not working)

    def set_run(self, begun: bool, *, done: bool = False) -> None:
        """Whether a run is shown that was begun, rather than what a new one is to be."""
        for section in (self.data, self.how, self.more):
            section.setVisible(not begun)
        self.start_button.setText(GO_ON if begun else START)
        tooltip = "Go on where it was stopped" if begun else "Check the data, and learn; napari can be used meanwhile"
        self.start_button.setToolTip(tooltip)
        self.start_button.setVisible(self.stop_button.isHidden() and not done)
        self.check_button.setVisible(self.stop_button.isHidden() and not begun)

    def _arrange(self) -> None:
        """Everything scrolls in a low window but what starts and stops."""
        inner = QWidget(self)
        layout = QVBoxLayout(inner)
        layout.setSpacing(6)
        for section in (self.run, self.data, self.how, self.more):
            layout.addWidget(section)
        layout.addStretch(1)
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        area.setMinimumWidth(inner.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())
        foot = QVBoxLayout()
        foot.setContentsMargins(9, 0, 9, 9)
        buttons = QHBoxLayout()
        for button in (self.check_button, self.start_button, self.stop_button):
            buttons.addWidget(button, 1)
        foot.addWidget(self.message)
        foot.addLayout(buttons)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area, 1)
        outer.addLayout(foot)
        # Else napari pushes everything up, and it scrolls while there is room below.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
