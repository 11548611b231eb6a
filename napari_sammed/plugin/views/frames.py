"""What the axes of a layer are, and which of its channels is segmented."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_sammed.plugin.views.choosers import Choice, Chooser


class FrameChooser(QObject):
    """Rows of a form for layers with more axes than an image; hidden where there is nothing to choose.

    Parameters
    ----------
    form : QFormLayout
    place : int
        The row that the first one becomes.
    parent : QWidget

    Signals
    -------
    axes_chosen : str
        Key of what the user says the axes are.
    channel_chosen : str
        Key of the channel that the user picked.
    copy_wanted
        The user wants the objects of this frame in the next one too.
    """

    axes_chosen = Signal(str)
    channel_chosen = Signal(str)
    copy_wanted = Signal()

    def __init__(self, form: QFormLayout, place: int, parent: QWidget) -> None:
        super().__init__(parent)
        self.axes, self.channel = Chooser(parent=parent), Chooser(parent=parent)
        self.where = QLabel(parent)
        self.copy_button = QPushButton("Copy to next", parent)
        self.copy_button.setToolTip(
            "Go to the next frame and take the objects of this one along, as masks to correct there; undo there takes "
            "them back one by one"
        )
        self._labels = {self.axes: QLabel("Axes", parent), self.channel: QLabel("Channel", parent)}
        frame = QWidget(parent)
        row = QHBoxLayout(frame)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.where, 1)
        row.addWidget(self.copy_button)
        self._frame = (QLabel("Showing", parent), frame)
        rows = [(label, chooser) for chooser, label in self._labels.items()]
        for number, (label, field) in enumerate([*rows, self._frame]):
            form.insertRow(place + number, label, field)
        self.axes.chosen.connect(self.axes_chosen)
        self.channel.chosen.connect(self.channel_chosen)
        self.copy_button.clicked.connect(lambda _: self.copy_wanted.emit())
        self.set_axes((), "")
        self.set_channels((), "")
        self.set_frame("", last=True)

    def set_axes(self, choices: Sequence[Choice], key: str) -> None:
        """Offer what the axes of the layer can be."""
        self._offer(self.axes, choices, key)

    def set_channels(self, choices: Sequence[Choice], key: str) -> None:
        """Offer channels."""
        self._offer(self.channel, choices, key)

    def set_frame(self, name: str, *, last: bool) -> None:
        """Say which frame is segmented, and whether there is none after it."""
        self.where.setText(name[:1].upper() + name[1:])
        self.copy_button.setEnabled(not last)
        for widget in self._frame:
            widget.setVisible(bool(name))

    def _offer(self, chooser: Chooser, choices: Sequence[Choice], key: str) -> None:
        chooser.set_choices(choices)
        chooser.set_key(key)
        for widget in (chooser, self._labels[chooser]):
            widget.setVisible(len(choices) > 1)
