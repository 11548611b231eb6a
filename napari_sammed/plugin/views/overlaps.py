"""The question whose voxels they are, where a new answer reaches into another object."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import QPoint, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QMenu, QPushButton, QWidget

ALWAYS = {
    "replace": "Always give them to the later object in the list",
    "keep": "Always leave them with the earlier object in the list",
}
_NAME = 22  # letters of a name that fit on a button


@dataclass(frozen=True)
class Question:
    """Two objects and what they share.

    Parameters
    ----------
    label, holder : int
        The object that is new there, and the one that has the voxels.
    name, holder_name : str
    size : str
        How much it is, for people: "1,234 voxels (2.1 ml)".
    more : int
        How many questions come after this one.
    """

    label: int
    holder: int
    name: str
    holder_name: str
    size: str
    more: int = 0


class OverlapBar(QWidget):
    """Asks; hidden where there is nothing to ask.

    Signals
    -------
    decided : int
        Label of the object that is to have the voxels.
    always : str
        The overlap rule that is to decide from now on.
    looked
        The user wants to see where it is.
    """

    decided = Signal(int)
    always = Signal(str)
    looked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = QLabel(self)
        self.text.setWordWrap(True)
        self.text.setObjectName("overlap")
        self.give_button, self.leave_button = QPushButton(self), QPushButton(self)
        self.look_button, self.always_button = QPushButton("Show", self), QPushButton("Always …", self)
        for button in (self.give_button, self.leave_button):
            button.setToolTip("Cut these voxels out of the other object; undo brings them back")
        self.look_button.setToolTip("Go to the slice where the two objects share most")
        self.always_button.setToolTip("Have a rule decide from now on; More > Where objects overlap brings this back")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.text, 0, 0, 1, 4)
        grid.addWidget(self.give_button, 1, 0, 1, 2)
        grid.addWidget(self.leave_button, 1, 2, 1, 2)
        grid.addWidget(self.look_button, 2, 0, 1, 2)
        grid.addWidget(self.always_button, 2, 2, 1, 2)
        self._question: Question | None = None
        self.give_button.clicked.connect(lambda: self.decided.emit(self._question.label))
        self.leave_button.clicked.connect(lambda: self.decided.emit(self._question.holder))
        self.look_button.clicked.connect(lambda: self.looked.emit())
        self.always_button.clicked.connect(
            lambda: self.menu().exec(self.always_button.mapToGlobal(QPoint(0, self.always_button.height())))
        )
        self.ask(None)

    def ask(self, question: Question | None) -> None:
        """Ask this; nothing hides the bar."""
        if question != self._question and question is not None:
            more = f" {question.more} more after this." if question.more else ""
            self.text.setText(f"{question.name} overlaps {question.holder_name} in {question.size}.{more}")
            self.give_button.setText(f"Give to {_short(question.name)}")
            self.leave_button.setText(f"Leave with {_short(question.holder_name)}")
            cut = "Cut these voxels out of {}; undo brings them back"
            self.give_button.setToolTip(cut.format(question.holder_name))
            self.leave_button.setToolTip(cut.format(question.name))
        self._question = question
        self.setVisible(question is not None)

    def menu(self) -> QMenu:
        """What can be always."""
        menu = QMenu(self)
        for rule, title in ALWAYS.items():
            menu.addAction(title).triggered.connect(lambda _=False, rule=rule: self.always.emit(rule))
        return menu


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
