"""Brush and eraser: how wide they are, and prompts turned into the other kind."""

from __future__ import annotations

from napari_sammed.plugin.desk import Desk
from napari_sammed.plugin.layers.mode import Mode

_NOTHING = (
    "First select clicks or strokes with napari's arrow, in their layer: then this turns them into the other kind."
)


class Brush:
    """The brush of one image. All methods belong to the GUI thread.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.panel.brush
        self._view.changed.connect(self._set_size)
        desk.writer.brush.on_size = self._view.show_size
        desk.writer.brush.set_size(self._view.size_.value())

    def close(self) -> None:
        """Leave the panel alone."""
        self._view.changed.disconnect(self._set_size)

    def next_mode(self) -> Mode:
        """What the brush's key turns to: the brush, or the eraser and back."""
        return Mode.ERASER if self._desk.writer.mode is Mode.BRUSH else Mode.BRUSH

    def flip(self) -> None:
        """Turn the selected clicks and strokes into the other kind."""
        if not self._desk.writer.flip_selected():
            self._desk.say(_NOTHING)

    def _set_size(self, size: int) -> None:
        self._desk.writer.brush.set_size(size)
