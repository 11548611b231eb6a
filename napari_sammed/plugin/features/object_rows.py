"""Rows of the table of objects, measured beside the GUI thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias

from qtpy.QtCore import QObject, QTimer

from napari_sammed.measures import Measures, measure
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.views.object_model import ObjectRow
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session import Session
from napari_sammed.session.roster import covering, stacked, uncovered
from napari_sammed.volume import Volume

_PAUSE = 200  # ms between two rounds of measuring, so that a dragged prompt does not keep a processor busy

Shape: TypeAlias = tuple[MaskPrompt | None, tuple[MaskPrompt, ...]]
"""A mask and those that lie over it."""


class ObjectRows:
    """Makes the rows, with the measures that are known, and has the others measured. Belongs to the GUI thread.

    Measures are those of the voxels that an object has where others overlap it, as they are shown and saved. Until new
    ones are there, the old ones stay.

    Parameters
    ----------
    parent : QObject
    gui : GuiThread
    on_measured : callable
        Called when there are new measures.
    """

    def __init__(self, parent: QObject, gui: GuiThread, on_measured: Callable[[], None]) -> None:
        self._background = Background(gui)
        self._on_measured = on_measured
        self._known: dict[int, tuple[Shape, Measures]] = {}
        self._wanted: dict[int, Shape] = {}
        self._image: Volume | None = None
        self._closed = False
        self._pause = QTimer(parent)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self._next)
        self._running = False

    def rows(self, session: Session) -> list[ObjectRow]:
        """The objects as they stand."""
        self._image = session.image
        objects = session.objects
        stack = stacked(objects.values(), session.overlap)
        shapes = {state.label: (state.mask, covering(state, stack)) for state in stack}
        self._known = {label: known for label, known in self._known.items() if label in shapes}
        self._wanted = {
            label: shape
            for label, shape in shapes.items()
            if label not in self._known or not _same(shape, self._known[label][0])
        }
        if not self._running and not self._pause.isActive():
            self._next()
        return [
            ObjectRow(
                label,
                state.name,
                state.kind,
                state.colour,
                state.visible,
                state.locked,
                len(state.prompts),
                state.score,
                self._known[label][1] if label in self._known else None,
            )
            for label, state in objects.items()
        ]

    @property
    def busy(self) -> bool:
        """Whether measures are missing."""
        return bool(self._wanted)

    def close(self) -> None:
        """Measure no more."""
        self._closed = True
        self._pause.stop()
        self._background.close(wait=False)

    def _next(self) -> None:
        if self._closed or not self._wanted:
            return
        wanted, image = dict(self._wanted), self._image
        self._running = True
        self._background.run(lambda: _measured(wanted, image), lambda done: self._on_done(wanted, done))

    def _on_done(self, wanted: dict[int, Shape], done: Future[dict[int, Measures]]) -> None:
        self._running = False
        if self._closed:
            return
        for label, measures in done.result().items():
            self._known[label] = (wanted[label], measures)
        self._pause.start()
        self._on_measured()


def _measured(wanted: dict[int, Shape], image: Volume) -> dict[int, Measures]:
    return {label: measure(uncovered(mask, covers), image) for label, (mask, covers) in wanted.items()}


def _same(one: Shape, other: Shape) -> bool:
    """By identity: comparing voxels would take as long as measuring them."""
    return one[0] is other[0] and len(one[1]) == len(other[1]) and all(map(lambda a, b: a is b, one[1], other[1]))
