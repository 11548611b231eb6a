"""Where to click next, by what the latest answer about an object leaves open."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.doubt import Suggestion, by_logits, by_readings, by_slices
from napari_sammed.backend.slice_quality import SliceQuality, assess
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits
from napari_sammed.prompts import Point, Prompts
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.growth import Growth
from napari_sammed.session.history import History
from napari_sammed.session.slices import KnownSlices, known_slices


class Suggester:
    """Looks through one image's history.

    Parameters
    ----------
    grid : Grid
        Of the image.
    history : History
        Read under the lock.
    lock : threading.RLock
    growth : callable
        Gives what has come of an answer on its way.
    recalled : callable
        An answer with its logits, by the action that asked for it.
    restore : callable
        Gives the logits of a model, by its name, on the image grid.
    """

    def __init__(
        self,
        grid: Grid,
        history: History,
        lock: threading.RLock,
        growth: Callable[[], Growth | None],
        recalled: Callable[[int], Prediction],
        restore: Callable[[str, Logits], np.ndarray],
    ) -> None:
        self._grid = grid
        self._history = history
        self._lock = lock
        self._growth = growth
        self._recalled = recalled
        self._restore = restore

    def slices(self, label: int, axis: int) -> tuple[SliceQuality, ...]:
        """How far each slice of an object can be trusted, with those that a running propagation has reached."""
        with self._lock:
            state = self._history.objects[label]
            known = known_slices(self._history, label, axis)
            growth = self._growth()
            pieces = [] if growth is None or growth.action.label != label else list(growth.pieces)
            kept = self._history.closer(label) if pieces else []
        scores = dict(known.scores)
        if pieces:
            grown = Growth(growth.action, pieces)
            whole = grown.extent if state.mask is None else state.mask.extent.union(grown.extent or state.mask.extent)
            state = state if whole is None else grown.shown(state, whole, kept)
        for piece in pieces:
            scores |= piece.slice_scores if piece.axis == axis else {}
        return assess(state.mask, axis, scores, known.marked)

    def suggest(self, label: int, axis: int | None) -> Suggestion | None:
        """The place where an object is most in doubt; None if nothing stands out.

        Of an object that was propagated along `axis`, on its least trustworthy slice; else where the network was unsure
        in its latest answer; else where the readings of that differ.
        """
        with self._lock:
            state = self._history.objects[label]
            latest = self._history.latest(label)
            known = KnownSlices() if axis is None else known_slices(self._history, label, axis)
        if latest is None or state.mask is None:
            return None
        if known.scores:
            slices = assess(state.mask, axis, known.scores, known.marked)
            found = by_slices(state.mask, axis, slices, self._grid.spacing)
            if found is not None:
                return found
        action, _ = latest
        asked = action.target if action.do == "choose" else action.id
        return self._by_answer(asked, state)

    def _by_answer(self, asked: int, state: ObjectState) -> Suggestion | None:
        answer = self._recalled(asked)
        shown = answer.readings[min(state.reading, len(answer.alternatives))]
        clicks = [np.rint(p.index).astype(int) for p in state.prompts if isinstance(p, Point)]
        known = np.array(clicks, int).reshape(-1, self._grid.ndim)
        if shown.logits is not None:
            values = self._restore(shown.model, shown.logits)
            found = by_logits(values, shown.logits, self._grid.spacing, _limits(state.prompts, shown.scope), known)
            if found is not None:
                return found
        others = [reading for reading in answer.readings if reading is not shown]
        if not others:
            return None
        box = shown.box.union(others[0].box)
        masks = [np.zeros(box.shape, bool) for _ in range(2)]
        for mask, reading in zip(masks, (shown, others[0]), strict=True):
            mask[reading.box.shift([-lo for lo in box.low]).slices] = reading.mask
        return by_readings(*masks, box, self._grid.spacing)


def _limits(prompts: Prompts, scope: Box) -> Box:
    """Where voxels of the object may lie: an answer to a box ends with the box."""
    boxes = [box.intersect(scope) for box in prompts.of(Box)]
    inside = Prompts(tuple(box for box in boxes if box is not None)).extent
    return scope if inside is None else inside
