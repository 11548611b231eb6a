"""The way of the mouse with its left button down, over a layer in which napari sketches a path meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_TOLERANCE = 0.2  # voxels that a simplified way may be off


class Freehand:
    """Follows the mouse.

    Parameters
    ----------
    on_drawn : callable
        Given the way as world positions (N, ndim) when the button is up.
    on_drawing : callable
        Called when the button is pressed.

    Attributes
    ----------
    drawing : bool
        Whether the button is down.
    """

    def __init__(self, on_drawn: Callable[[np.ndarray], None], on_drawing: Callable[[], None]) -> None:
        self.drawing = False
        self._on_drawn = on_drawn
        self._on_drawing = on_drawing

    def follow(self, layer: Any) -> None:
        """Follow the mouse over a layer, and hear of it after the layer's own tool has."""
        if self._drag in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._drag)
        layer.mouse_drag_callbacks.append(self._drag)

    def _drag(self, layer: Any, event: Any) -> Iterator[None]:
        if str(layer.mode) != "add_path" or event.button != 1:
            return
        self.drawing = True
        self._on_drawing()
        way = [np.array(event.position)]
        yield
        while event.type == "mouse_move":
            way.append(np.array(event.position))
            yield
        way.append(np.array(event.position))
        self.drawing = False
        self._on_drawn(np.array(way)[:, -layer.ndim :])


def simplified(places: np.ndarray, shown: list[int]) -> np.ndarray:
    """A way with no more vertices than it needs, (N, ndim); one if it leads nowhere.

    Parameters
    ----------
    places : ndarray
        Index coordinates (N, ndim).
    shown : list of int
        The axes along which it leads.
    """
    from skimage.measure import approximate_polygon

    moved = np.linalg.norm(places[:, shown] - places[0, shown], axis=1).max()
    if moved < _TOLERANCE:
        return places[:1]
    kept = approximate_polygon(places[:, shown], _TOLERANCE)
    result = np.repeat(places[:1], len(kept), axis=0)
    result[:, shown] = kept
    return result
