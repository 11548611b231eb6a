"""Keeps the slider of the viewer near the middle of a slice while rectangles are drawn.

The slider moves in the smallest steps of all images in the viewer, and so stops between two slices of the others. What
is drawn there in a Shapes layer napari counts to the lower slice, does not show, and then fails while it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.plugin.image.coordinates import hidden_axis, matrix_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sammed.plugin.image.image_view import ImageView

_LOWER = 0.49  # of a slice; up to here napari counts what is drawn to the slice that it shows
_NOTHING = 1e-9


class OnSlice:
    """Moves the slider to where rectangles can be drawn, by less than half a slice and the way that it was going.

    Parameters
    ----------
    viewer : napari viewer
    image : callable
        Gives the image that is drawn on.
    drawing : callable
        Whether rectangles are being drawn now.
    """

    def __init__(self, viewer: ViewerModel, image: Callable[[], ImageView], drawing: Callable[[], bool]) -> None:
        self._viewer = viewer
        self._image = image
        self._drawing = drawing
        self._before = 0.0  # where the slider was, in slices
        viewer.dims.events.point.connect(self.align)

    def close(self) -> None:
        """Leave the slider alone."""
        self._viewer.dims.events.point.disconnect(self.align)

    def align(self, event: Any = None) -> None:
        """Move the slider if that is needed."""
        image, dims = self._image(), self._viewer.dims
        axis = hidden_axis(dims, image.ndim)
        if axis is None or not self._drawing():
            return
        matrix = matrix_of(image)
        inverse = np.linalg.inv(matrix)
        place = dims.ndim - image.ndim + axis
        index = inverse[axis, axis] * dims.point[place] + inverse[axis, -1]
        before, self._before = self._before, index
        lower = np.floor(index)
        if index - lower < _LOWER + _NOTHING:
            return
        # Else it could never be moved from one slice to the next by steps that are smaller.
        back = event is not None and index < before
        self._before = lower + (_LOWER if back or np.rint(index) == lower else 1)
        dims.set_point(place, float((self._before - inverse[axis, -1]) / inverse[axis, axis]))
