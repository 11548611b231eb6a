"""Slices encoded while the user looks at them, so that the first prompt on a slice is answered at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sammed.backend.slicing import slice_of
from napari_sammed.intensity import Window
from napari_sammed.plugin.coordinates import current_slice, hidden_axis

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sammed.plugin.views.status import StatusView
    from napari_sammed.session import Session

_REST = 300  # ms that the user stays on a slice before it is worth encoding
_POLL = 150  # ms between looks at whether the slice before is done
_REACH = 2  # neighbours to each side
_QUICK = 0.5  # s; a click would wait longer than this for a neighbour of the slice that it is on


@dataclass(frozen=True)
class Ahead:
    """Who should encode, and how it sees grey values."""

    session: Session
    model: str
    window: Window


class EncodeAhead:
    """Follows the user through a volume: the displayed slice first, then its neighbours, one at a time.

    Nothing is started while anything else runs. What has been started cannot be stopped, so a model that takes longer
    than a moment only gets the slice that the user looks at.

    Parameters
    ----------
    viewer : napari viewer
    image : Image
    who : callable
        Gives what to encode with now; None for nothing: no model that looks at slices, or none in use.
    status : StatusView
    """

    def __init__(self, viewer: ViewerModel, image: Image, who: Callable[[], Ahead | None], status: StatusView) -> None:
        self.viewer = viewer
        self.image = image
        self._who = who
        self._status = status
        self._left: list[int] = []
        self._running: list[Future[None]] = []
        self._since = 0.0
        self._here: int | None = None
        self._timer = QTimer(status)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._go_on)
        viewer.dims.events.current_step.connect(self.start)

    def start(self, event: Any = None) -> None:
        """Begin with the displayed slice, as soon as the user rests on it."""
        self._drop()
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        self._here = None if axis is None else current_slice(self.image, self.viewer.dims)
        if self._here is not None:
            beside = [self._here + sign * step for step in range(1, _REACH + 1) for sign in (1, -1)]
            self._left = [self._here, *beside]
            self._timer.start(_REST)

    def close(self) -> None:
        """Encode nothing any more."""
        self.viewer.dims.events.current_step.disconnect(self.start)
        self._timer.stop()
        self._drop()

    def _go_on(self) -> None:
        who = self._who()
        if who is None or self._here is None:
            self._drop()
            return
        if not all(future.done() for future in self._running):
            self._status.murmur("" if who.session.busy else f"Encoding slice {self._here} ahead …")
            self._timer.start(_POLL)
            return
        if self._running and time.perf_counter() - self._since > _QUICK:
            self._left = []
        self._running = []
        if not self._left:
            self._status.murmur("")
            return
        if not who.session.busy:
            self._encode(who, self._left.pop(0))
        self._timer.start(_POLL)

    def _encode(self, who: Ahead, index: int) -> None:
        grid = who.session.image.grid
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        if axis is not None and 0 <= index < grid.shape[axis]:
            self._since = time.perf_counter()
            region = slice_of(grid, axis, index)
            self._running = who.session.backend.prefetch(who.session.image_id, who.model, [region], who.window)

    def _drop(self) -> None:
        """Take back what has not begun."""
        for future in self._running:
            future.cancel()
        self._left, self._running = [], []
        self._status.murmur("")
