"""A small ring around one place of the image, for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_sammed.plugin.layers.frame import COLOUR
from napari_sammed.plugin.layers.helpers import HelperLayers

if TYPE_CHECKING:
    from napari.layers import Points

_NAME = "look here"  # of the layer, after the image's
_PIXELS = 44  # of the canvas, as it is zoomed then
_BORDER = 0.07  # of that
_WHILE = 20_000  # ms


class Ring:
    """The ring of one image, in a layer that is seen as long as the ring is.

    Parameters
    ----------
    helpers : HelperLayers
        Keeps the layer.
    parent : QObject
        Of the timer.
    """

    def __init__(self, helpers: HelperLayers, parent: QObject) -> None:
        self._helpers = helpers
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WHILE)
        self._timer.timeout.connect(self.hide)

    @property
    def layer(self) -> Points | None:
        """None while it is hidden."""
        return self._helpers.shown(_NAME)

    def show(self, index: Sequence[int]) -> None:
        """Put the ring around a voxel."""
        from napari.layers import Points

        look = {"face_color": "transparent", "border_color": COLOUR, "border_width": _BORDER}
        layer = self._helpers.show(_NAME, Points, **look)
        layer.editable = False
        layer.data = [list(index)]
        layer.size = _PIXELS * layer.scale_factor / np.abs(layer.scale).min()
        layer.selected_data = set()
        self._timer.start()

    def hide(self) -> None:
        """Take the ring away."""
        self._timer.stop()
        self._helpers.hide(_NAME)
