"""The hands of `tests.plugin.conftest`, without a test around them: they need not wait until everything is quiet."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QWidget

from napari_sammed.plugin.widget import SegmentWidget
from tests.plugin.conftest import Hands


class Bot:
    """What `Hands` uses of pytest-qt."""

    def wait(self, milliseconds: int) -> None:
        """Let the event loop run."""
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def waitUntil(self, condition: Callable[[], bool], timeout: int = 5000) -> bool:
        """Let the event loop run until something is so; whether it is."""
        end = time.perf_counter() + timeout / 1000
        while not condition():
            if time.perf_counter() > end:
                return False
            self.wait(15)
        return True

    def mouseClick(self, widget: QWidget, button: Qt.MouseButton) -> None:
        QTest.mouseClick(widget, button)


class Paws(Hands):
    """Hands that go on before an answer is there, mostly.

    Attributes
    ----------
    random : Random
        For what is being done now.
    """

    def __init__(self, viewer: object, widget: SegmentWidget) -> None:
        super().__init__(viewer, widget, Bot())
        self.random = Random(0)

    @staticmethod
    def wait_a_bit() -> None:
        """For what Qt and the threads still have to do."""
        Bot().wait(300)

    def dismiss(self) -> None:
        """Close what napari notifies of, which stays as long as its window is not the active one."""
        for shown in self.canvas.findChildren(QDialog):
            shown.close()

    @property
    def canvas_busy(self) -> bool:
        """Whether a shape is being drawn, so that the layers are not to be touched."""
        return bool(self.writer._unfinished)

    @property
    def open_(self) -> bool:
        """Whether an image is being segmented and its session is there."""
        return self.widget is not None and self.segmentation is not None and self.segmentation.session is not None

    def settle(self, seconds: float = 0) -> None:
        """Wait for a moment; usually not until all answers are there."""
        self.qtbot.wait(self.random.choice((0, 0, 20, 60, 150)))

    def rest(self, seconds: float = 60) -> bool:
        """Wait until nothing runs and everything posted has been done; whether that came to pass."""

        def quiet() -> bool:
            if self.widget is None or not self.open_:
                return self.widget is None or self.segmentation is None or not self.panel.modes.isEnabled()
            return not self.session.busy

        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.qtbot.waitUntil(quiet, timeout=round(1000 * seconds))
            self.qtbot.wait(60)  # what is posted may begin something
            if quiet():
                return True
        return False

    def position(self, index: Sequence[float]) -> QPoint:
        """As for `Hands`, also for images with fewer axes than the viewer, which are its last ones."""
        world = self._world(index)[list(self.viewer.dims.displayed[-2:])]
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, column = (world - np.array(self.camera.center)[-2:]) * self.camera.zoom + middle
        return QPoint(round(column), round(row))

    def look_at(self, index: Sequence[float]) -> None:
        world = self._world(index)
        for axis in self.viewer.dims.not_displayed:
            self.viewer.dims.set_point(axis, world[axis])
        QApplication.processEvents()

    def _world(self, index: Sequence[float]) -> np.ndarray:
        """World position with all axes of the viewer."""
        world = np.array(self.viewer.dims.point, float)
        own = np.array(self.segmentation.view.data_to_world(index))
        world[len(world) - len(own) :] = own
        return world

    def state(self) -> str:
        """What is known of what still runs."""
        current = self.segmentation
        where = "no image" if current is None else f"{current.image.name}, session {current.session}"
        return f"{where}; the panel says: {self.message!r}\n{self.stacks()}"

    @staticmethod
    def stacks() -> str:
        """What the threads of ours are doing."""
        frames = sys._current_frames()
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("napari-sammed")]
        there = [(thread.name, frames[thread.ident]) for thread in ours if thread.ident in frames]
        return "".join(f"{name}:\n{''.join(traceback.format_stack(frame)[-6:])}" for name, frame in there)

    def stroke(self, places: Sequence[Sequence[float]], modifier: Qt.KeyboardModifier | None = None) -> None:
        """Press at the first voxel, move through all of them, and release at the last."""
        none = Qt.KeyboardModifier.NoModifier if modifier is None else modifier
        left = Qt.MouseButton.LeftButton
        self.look_at(places[0])
        spots = [self.position(place) for place in places]
        QTest.mouseMove(self.canvas, spots[0])
        QApplication.processEvents()
        QTest.mousePress(self.canvas, left, none, spots[0])
        QApplication.processEvents()
        for spot in spots[1:]:
            QTest.mouseMove(self.canvas, spot)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, left, none, spots[-1])
        self.settle()

    def somewhere(self, *, on_structure: float = 0.7) -> tuple[int, ...]:
        """A voxel of the image, on something bright with this probability."""
        image = self.segmentation.view
        array = np.asarray(image.data)
        shape = array.shape[: image.ndim]
        if self.random.random() < on_structure:
            grey = array[..., 0] if image.rgb else array
            bright = np.argwhere(grey > 60)
            if len(bright):
                return tuple(map(int, bright[self.random.randrange(len(bright))]))
        return tuple(self.random.randrange(size) for size in shape)

    def here(self, **how: float) -> tuple[int, ...]:
        """A voxel of the displayed slice, on something bright of it if there is any."""
        from napari_sammed.plugin.image.coordinates import current_slice, hidden_axis

        place = list(self.somewhere(**how))
        image, dims = self.segmentation.view, self.viewer.dims
        axis, index = hidden_axis(dims, image.ndim), current_slice(image, dims)
        if axis is not None and index is not None:
            place[axis] = min(max(index, 0), image.data.shape[axis] - 1)
        return tuple(place)

    @property
    def axes(self) -> list[int]:
        """The displayed axes of the image."""
        from napari_sammed.plugin.image.coordinates import displayed_axes

        return list(displayed_axes(self.viewer.dims, self.segmentation.view.ndim))
