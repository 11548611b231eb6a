"""What the axes of a layer are, and which of its frames and channels is segmented."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_sammed.plugin.views.choosers import Choice, Chooser
from napari_sammed.plugin.views.section import Section


class FrameSection(Section):
    """The section of layers that are a series of images or have channels; hidden for all others.

    Parameters
    ----------
    form : QFormLayout
        Of the image, which the row for the axes goes to.
    place : int
        That row.
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
        super().__init__(
            "Frames", "Which image of the layer is segmented: the sliders below the canvas choose it", parent=parent
        )
        self.axes = Chooser(parent=parent, about="Which axes of the layer make an image")
        self.channel = Chooser(parent=self, about="Which channel is segmented")
        self.where = QLabel(self)
        self.where.setWordWrap(True)
        self.copy_button = QPushButton("Copy to next", self)
        self.copy_button.setToolTip(
            "Go to the next frame and take the objects of this one along, as masks to correct there; undo there takes "
            "them back one by one"
        )
        self._labels = {self.axes: QLabel("Axes", parent), self.channel: QLabel("Channel", self)}
        form.insertRow(place, self._labels[self.axes], self.axes)
        self.add(
            _row(self, (self.where, 1), (self.copy_button, 0)),
            _row(self, (self._labels[self.channel], 0), (self.channel, 1)),
        )
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
        """Say which frame is segmented, and whether there is none after it; nothing is shown if it has no name."""
        self.where.setText(name[:1].upper() + name[1:])
        self.copy_button.setEnabled(not last)
        self.setVisible(bool(name))

    def _offer(self, chooser: Chooser, choices: Sequence[Choice], key: str) -> None:
        chooser.set_choices(choices)
        chooser.set_key(key)
        for widget in (chooser, self._labels[chooser]):
            widget.setVisible(len(choices) > 1)


def _row(parent: QWidget, *widgets: tuple[QWidget, int]) -> QWidget:
    """Widgets side by side, each with its share of the room that is left over."""
    row = QWidget(parent)
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget, share in widgets:
        layout.addWidget(widget, share)
    return row
