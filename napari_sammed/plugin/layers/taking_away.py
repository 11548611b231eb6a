"""Takes layers out of a viewer, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_APART = 100  # ms, in which the canvas is drawn, on slow machines too


def take_away(parent: QObject, viewer: ViewerModel, layers: Sequence[Layer], then: Callable[[], None]) -> None:
    """Remove layers, the first one first, and go on when all are gone.

    One in each drawing of the canvas: where several go at once and others come, napari 0.9 with vispy 0.17 draws from
    buffers that are no longer there, and the process dies.

    Parameters
    ----------
    parent : QObject
        Nothing happens once it is gone.
    viewer : napari viewer
    layers : sequence of Layer
        Those that are not there any more are passed over.
    then : callable
    """
    waiting, there = list(layers), viewer.layers  # not the viewer itself, which may be closed meanwhile
    timer = QTimer(parent)
    timer.setInterval(_APART)

    def next_one() -> None:
        while waiting and waiting[0] not in there:
            waiting.pop(0)
        if waiting:
            there.remove(waiting.pop(0))
        else:
            timer.stop()
            timer.deleteLater()
            then()

    timer.timeout.connect(next_one)
    timer.start()


def hide_and_take_away(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Hide layers at once, and remove them one after the other: removing several holds everything up for a while."""
    there = [layer for layer in layers if layer in viewer.layers]
    for layer in there:
        layer.visible = False
    if there:
        take_away(QApplication.instance(), viewer, there, lambda: None)
