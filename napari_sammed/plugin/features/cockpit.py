"""The propagation cockpit: how far each slice of the current object can be trusted, and where to go next."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_sammed.backend.doubt import Suggestion
from napari_sammed.backend.slice_quality import SliceQuality, ranked
from napari_sammed.errors import InputError
from napari_sammed.plugin.image.coordinates import current_slice, displayed_axes, hidden_axis, matrix_of
from napari_sammed.plugin.image.in_view import camera_of
from napari_sammed.plugin.layers.ring import Ring
from napari_sammed.session import Session

if TYPE_CHECKING:
    from napari_sammed.plugin.desk import Desk

_PAUSE = 250  # ms between two rounds of judging, so that an object that grows does not keep a processor busy
_NOTHING_STANDS_OUT = "Nothing about {} stands out: look through it, and correct what you see."


class Cockpit:
    """Keeps the strip of one image up to date, and goes where it says. All methods belong to the GUI thread.

    Quality is assessed beside the GUI, one object at a time: what has changed meanwhile is assessed next.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.panel.cockpit
        self._axis: int | None = None  # across the slices that the strip shows
        self._slices: tuple[SliceQuality, ...] = ()
        self._shown: tuple[Any, ...] = ()  # what the strip shows, and what is being assessed
        self._assessing = False
        self._pause = QTimer(desk.panel)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self.refresh)  # something may have changed meanwhile
        self._ringed: tuple[int, ...] = ()  # how much had been done when the ring was shown
        self._going = False  # the user waits to be brought to the worst slice
        self._at: int | None = None  # the slice that the user was brought to as the worst one
        self.ring = Ring(desk.writer.helpers, desk.panel)
        dims = desk.viewer.dims.events
        dims.current_step.connect(self._on_step)
        dims.order.connect(self._on_order)
        dims.ndisplay.connect(self._on_order)
        self._view.set_stack(desk.image.ndim == 3)
        self._clear()

    def close(self) -> None:
        """Let go of the viewer, with nothing left in the strip."""
        dims = self._desk.viewer.dims.events
        dims.current_step.disconnect(self._on_step)
        dims.order.disconnect(self._on_order)
        dims.ndisplay.disconnect(self._on_order)
        self._pause.stop()
        self.ring.hide()
        self._view.strip.set_slices(0, ())

    def refresh(self) -> None:
        """Assess the current object, unless that is known or under way."""
        session = self._desk.session
        if session is None or self._desk.closed:
            return
        if self._state(session)[-1] != self._ringed:  # what the ring was about is over
            self.ring.hide()
        if self._desk.image.ndim != 3:
            return
        axis = hidden_axis(self._desk.viewer.dims, 3)
        self._axis = self._axis if axis is None else axis
        wanted = self._state(session)
        if wanted == self._shown or self._assessing or self._pause.isActive() or self._axis is None:
            return
        self._shown = wanted
        if wanted[1] is None:
            self._clear()
            return
        self._assessing = True
        label, axis = session.current, self._axis
        self._desk.background.run(lambda: _assessed(session, axis, label), self._on_assessed)

    def leave(self) -> None:
        """The viewer shows another frame: show nothing until the next `refresh`."""
        self.ring.hide()
        self._shown = ()
        self._clear()

    def go_to(self, index: int) -> None:
        """Show a slice across the axis of the strip."""
        axis, image = self._axis, self._desk.image
        if axis is None:
            return
        matrix = matrix_of(image)
        inverse = np.linalg.inv(matrix)
        dims = self._desk.viewer.dims
        dims.set_point(axis + dims.ndim - image.ndim, (index - inverse[axis, -1]) / inverse[axis, axis])

    def go_to_worst(self) -> None:
        """Show the slice that can be trusted least; from there, the next one."""
        self._desk.attempt(self._to_worst)

    def where_next(self) -> None:
        """Show the place where the current object is most in doubt."""
        self._desk.attempt(self._ask_where)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _to_worst(self, session: Session | None) -> None:
        self._pause.stop()
        self.refresh()
        self._going = self._assessing  # once it is known
        if self._going:
            return
        order = ranked(self._slices)
        if not order:
            raise InputError(
                "There is no slice to judge: propagate an object first; slices that you marked count as right."
            )
        here = current_slice(self._desk.image, self._desk.viewer.dims)
        places = [one.index for one in order]
        place = (places.index(here) + 1) % len(order) if here == self._at and here in places else 0
        self._at = places[place]
        self.go_to(self._at)
        which = "The worst slice" if place == 0 else f"Number {place + 1} of {len(order)} from the worst"
        self._desk.say(f"{which}. {self._view.strip.describe(places[place])}.")

    def _ask_where(self, session: Session | None) -> None:
        if session is None or session.current is None or session.objects[session.current].mask is None:
            raise InputError("There is no object yet that could be in doubt: mark one with a click or a box first.")
        name = session.objects[session.current].name
        found = session.where_next(self._axis)
        self._desk.answers.expect(found, lambda place: self._on_place(place, name))

    def _on_place(self, found: Suggestion | None, name: str) -> None:
        if self._desk.closed:
            return
        if found is None:
            self.ring.hide()
            self._desk.say(_NOTHING_STANDS_OUT.format(name))
            return
        self._ringed = self._state(self._desk.session)[-1]
        self._show_place(found.index)
        self.ring.show(found.index)
        self._desk.say(found.reason)

    def _show_place(self, index: tuple[int, ...]) -> None:
        """Go to the slice of a voxel, and move it into view if it is not."""
        viewer, image = self._desk.viewer, self._desk.image
        axis = hidden_axis(viewer.dims, image.ndim)
        if axis is not None:
            self._axis = axis
            self.go_to(index[axis])
        shown = list(displayed_axes(viewer.dims, image.ndim))
        low, high = image.corner_pixels[:, shown]
        place = np.array(index)[shown]
        if (place < low).any() or (place > high).any():
            camera_of(viewer).center = (0, *np.array(image.data_to_world(index))[shown])[-3:]

    def _state(self, session: Session) -> tuple[Any, ...]:
        """What the bars depend on, to be compared."""
        state = session.objects.get(session.current)
        growth = session.growth
        grown = 0 if growth is None or growth.action.label != session.current else len(growth.pieces)
        actions = len(session.history.done), len(session.history.answers)
        return session.current, None if state is None else (state.mask or grown or None), self._axis, grown, actions

    def _on_assessed(self, future: Future[tuple[SliceQuality, ...]]) -> None:
        self._assessing = False
        if self._desk.closed or not self._shown:
            return
        if future.exception() is None:
            self._slices, self._at = future.result(), None
            order = ranked(self._slices)
            count = self._desk.session.image.grid.shape[self._axis]
            self._view.strip.set_slices(count, self._slices, order[0].index if order else None)
        else:
            self._clear()  # the object is gone
        self._on_step()
        if self._going:
            self.go_to_worst()
        self._pause.start()

    def _clear(self) -> None:
        self._slices = ()
        session = self._desk.session
        self._view.strip.set_slices(
            0 if session is None or self._axis is None else session.image.grid.shape[self._axis], ()
        )
        self._on_step()

    def _on_step(self, event: Any = None) -> None:
        index = current_slice(self._desk.image, self._desk.viewer.dims)
        if index is not None:
            self._view.strip.set_current(index)

    def _on_order(self, event: Any = None) -> None:
        if self._shown:
            self._desk.gui.post(self.refresh)
        self._on_step()


def _assessed(session: Session, axis: int, label: int | None) -> tuple[SliceQuality, ...]:
    return session.slice_quality(axis, label)
