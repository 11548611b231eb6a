"""A small ring around one place of the image, for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_sammed.plugin.layers.frame import COLOUR
from napari_sammed.plugin.layers.label_view import like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Points

    from napari_sammed.plugin.image.image_view import ImageView

_PIXELS = 44  # of the canvas, as it is zoomed then
_BORDER = 0.07  # of that
_WHILE = 20_000  # ms


class Ring:
    """The ring of one image, in a layer of its own that goes when the ring goes.

    Parameters
    ----------
    viewer : napari viewer
    image : ImageView
        Never written to.
    parent : QObject
        Of the timer.
    post : callable
        Runs a function soon, outside of napari's own callbacks.

    Attributes
    ----------
    layer : Points or None
    """

    def __init__(self, viewer: ViewerModel, image: ImageView, parent: QObject, post: Callable[..., None]) -> None:
        self.viewer = viewer
        self.image = image
        self.layer: Points | None = None
        self._post = post
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WHILE)
        self._timer.timeout.connect(self.hide)
        viewer.layers.events.removed.connect(self._on_removed)

    def show(self, index: Sequence[int]) -> None:
        """Put the ring around a voxel."""
        if self.layer is None:
            active = self.viewer.layers.selection.active
            self.layer = self.viewer.add_points(
                ndim=self.image.ndim,
                name=f"{self.image.name} look here",
                face_color="transparent",
                border_color=COLOUR,
                border_width=_BORDER,
                **like(self.image),
            )
            self.layer.editable = False
            self._activate(active)
        self.layer.data = [list(index)]
        self.layer.size = _PIXELS * self.layer.scale_factor / np.abs(self.layer.scale).min()
        self.layer.selected_data = set()
        self._timer.start()

    def hide(self) -> None:
        """Take the ring away."""
        self._timer.stop()
        layer, self.layer = self.layer, None
        if layer is not None and layer in self.viewer.layers:
            active = self.viewer.layers.selection.active
            self.viewer.layers.remove(layer)
            self._activate(active)

    def close(self) -> None:
        """Take the ring away for good."""
        self.hide()
        self.viewer.layers.events.removed.disconnect(self._on_removed)

    def _activate(self, layer: Layer | None) -> None:
        """Adding and removing layers makes others active; the user's tool belongs to the one that was."""
        if layer is None or layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self._post(self.hide)
