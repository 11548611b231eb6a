"""A thin frame around a part of the image, drawn by the program for a moment or by the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import (
    between,
    box_of,
    current_slice,
    hidden_axis,
    rectangle_of,
    to_world,
)
from napari_sammed.plugin.layers.helpers import HelperLayers
from napari_sammed.plugin.layers.prompt_looks import shapes_can_be_added
from napari_sammed.plugin.settings.keys import Keyboard

if TYPE_CHECKING:
    from napari.layers import Layer, Shapes

COLOUR = "#40c4ff"
_NAME = "closer look"  # of the layer, after the image's
_WIDTH = 0.5  # voxels
_MOMENT = 2500  # ms that a frame stays when what it shows has been done
_LEAST_DRAG = 4  # pixels of the canvas; a rectangle without a drag is less


class Frame:
    """The frame of one image, in a layer that is seen as long as the frame is.

    Parameters
    ----------
    helpers : HelperLayers
        Keeps the layer.
    parent : QObject
        Of the timer.
    post : callable
        Runs a function soon, outside of napari's own callbacks.
    on_drawn : callable
        Told of the rectangle that the user has drawn, as a box of thickness one on the slices of a volume.
    on_drawing : callable
        Told whether the user is to draw now.
    keys : Keyboard
        Binds keys on the layer while the user draws; Escape is added.

    Attributes
    ----------
    drawing : bool
        Whether the next rectangle on the canvas is the frame.
    """

    def __init__(
        self,
        helpers: HelperLayers,
        parent: QObject,
        post: Callable[..., None],
        *,
        on_drawn: Callable[[Box], None],
        on_drawing: Callable[[bool], None],
        keys: Keyboard,
    ) -> None:
        self.viewer = viewer = helpers.viewer
        self.image = helpers.image
        self.drawing = False
        self._helpers = helpers
        self._drawn_in: Any = None  # the layer, while the user draws
        self._post = post
        self._on_drawn = on_drawn
        self._on_drawing = on_drawing
        self._keys = keys
        self._box: Box | None = None
        self._before: Layer | None = None  # active when the drawing began
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        viewer.dims.events.order.connect(self._place)
        viewer.dims.events.current_step.connect(self._place)

    @property
    def layer(self) -> Shapes | None:
        """None while it is hidden."""
        return self._helpers.shown(_NAME)

    def show(self, box: Box) -> None:
        """Show a frame around a part of the image, until `fade` or `hide`."""
        self._timer.stop()
        self._stop_drawing()
        self._make()
        self._box = box
        self._place()

    def fade(self) -> None:
        """Take the frame away in a moment."""
        if not self.drawing:
            self._timer.start(_MOMENT)

    def hide(self) -> None:
        """Take the frame away; leaves the drawing of one."""
        self._timer.stop()
        self._stop_drawing()
        self._box = None
        layer = self.layer
        if layer is not None and layer in self.viewer.layers:
            if len(layer.data):
                layer.data = []
            self._helpers.hide(_NAME)

    def draw(self) -> None:
        """Have the user draw the frame: the next rectangle is it."""
        self.hide()
        self._before = self.viewer.layers.selection.active
        layer = self._drawn_in = self._make()
        self._keys.bind(layer)
        layer.bind_key("Escape", lambda _: self._post(self.hide), overwrite=True)
        layer.events.data.connect(self._on_data)
        self.viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"
        self.drawing = True
        self._on_drawing(True)

    def close(self) -> None:
        """Take the frame away for good."""
        self.hide()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.layers.selection.events.active.disconnect(self._on_active)
        self.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        self.viewer.dims.events.order.disconnect(self._place)
        self.viewer.dims.events.current_step.disconnect(self._place)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _make(self) -> Shapes:
        from napari.layers import Shapes

        colours = {"edge_color": COLOUR, "face_color": "transparent"}
        return self._helpers.show(_NAME, Shapes, edge_width=_WIDTH, **colours)

    def _stop_drawing(self) -> None:
        """Go back to the tool that the user had before; the layer stays."""
        if not self.drawing:
            return
        self.drawing = False
        layer, self._drawn_in = self._drawn_in, None
        layer.events.data.disconnect(self._on_data)
        layer.mode = "pan_zoom"
        self._keys.release(layer)
        layer.bind_key("Escape", None)
        self._activate(self._before)
        self._on_drawing(False)

    def _activate(self, layer: Layer | None) -> None:
        """The user's tool belongs to the layer that was active, if it is still there."""
        if layer is None or layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer

    def _place(self, event: Any = None) -> None:
        """Show the frame on the displayed slice, if it reaches there."""
        if self.layer is None or self._box is None:
            return
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        index = current_slice(self.image, self.viewer.dims)
        if len(self.layer.data):
            self.layer.data = []
        if not shapes_can_be_added(self.layer, self.viewer.dims):
            return
        if self.image.ndim == 2 or (axis is not None and self._box.low[axis] <= index < self._box.high[axis]):
            rectangle = rectangle_of(self._box, axis, index or 0)
            self.layer.add_rectangles([rectangle], edge_color=COLOUR, face_color="transparent", edge_width=_WIDTH)

    def _drawn(self) -> None:
        if not self.drawing or not len(self.layer.data):
            return
        vertices = np.asarray(self.layer.data[-1])
        size = np.ptp(to_world(self.layer, vertices), axis=0)
        if np.sort(size)[-2] < _LEAST_DRAG * self.layer.scale_factor:
            self.layer.data = []
            self._on_drawing(True)
            return
        box = box_of(between(self.layer, self.image, vertices), hidden_axis(self.viewer.dims, self.image.ndim))
        self._stop_drawing()
        self._on_drawn(box)
        if self._box is None:  # refused
            self.hide()

    def _on_data(self, event: Any) -> None:
        if str(getattr(event, "action", "")) == "added":
            self._post(self._drawn)

    def _on_active(self, event: Any) -> None:
        """The user has turned to another layer or tool."""
        if self.drawing and event.value is not self._drawn_in:
            self._post(self._left)

    def _left(self) -> None:
        """Some time after: a layer that is being added is active for a moment only."""
        active = self.viewer.layers.selection.active
        if self.drawing and active is not self._drawn_in:
            self._before = self._before if active is None else active
            self.hide()

    def _on_ndisplay(self, event: Any = None) -> None:
        if self.drawing:
            self._post(self.hide)
        else:
            self._place()

    def _on_removed(self, event: Any) -> None:
        if event.value in (self.layer, self._drawn_in):
            self._post(self.hide)
