"""A real viewer with the plugin in it, and hands to work it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sammed.backend.local import LocalBackend
from napari_sammed.plugin.features import frames
from napari_sammed.plugin.sessions.journals import FOLDER_VARIABLE
from napari_sammed.plugin.settings import memory
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.widget import SegmentWidget
from tests.labeller import Labeller
from tests.pixelated import Pixelated
from tests.plugin.ambiguous import Ambiguous
from tests.thresholder import Thresholder

_SOON = 60
"""ms in which things follow what has been done: once the canvas has been painted, if there is one."""


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Journals of a test go to a folder of its own."""
    folder = tmp_path / "sessions"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """So does what the plugin remembers."""
    folder = tmp_path / "config"
    monkeypatch.setenv(memory.FOLDER_VARIABLE, str(folder))
    return folder


@pytest.fixture(autouse=True)
def brief_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slider need not rest for long before a frame is segmented."""
    monkeypatch.setattr(frames, "_REST", 40)


@pytest.fixture
def backend() -> Iterator[LocalBackend]:
    """The real backend with models that need no weights."""
    models = {
        "thresholder": Thresholder(),
        "planar": Thresholder(planar=True),
        "ambiguous": Ambiguous(),
        "pixelated": Pixelated(),
        "pixelated-2d": Pixelated(planar=True),
        "labeller": Labeller(),
    }
    backend = LocalBackend(models=models)
    yield backend
    backend.shutdown()


@pytest.fixture
def open_plugin(request, backend, qtbot) -> Iterator[Callable[..., Hands]]:
    """Open a viewer with a layer and the plugin; the model is the one that thresholds.

    ``model`` None leaves the plugin's own choice, ``own_backend`` its own backend.
    Without ``show`` it is a viewer without a window, which is much faster and has everything but a canvas.
    """
    opened: list[Hands] = []

    def open_(
        array: np.ndarray | None = None,
        *,
        show: bool = False,
        model: str | None = "thresholder",
        own_backend: bool = False,
        **layer,
    ) -> Hands:
        viewer = request.getfixturevalue("make_napari_viewer")(show=True) if show else ViewerModel()
        if array is not None:
            viewer.add_image(array, **layer)
        widget = SegmentWidget(viewer, None if own_backend else backend)
        if show:
            viewer.window.add_dock_widget(widget, name="SAMMed")
        hands = Hands(viewer, widget, qtbot)
        opened.append(hands)
        if model is not None:
            names = ("thresholder", "planar", "ambiguous", "pixelated", "pixelated-2d")
            choices = [Choice(name, name.title()) for name in names]
            widget.panel.image_section.model.set_models(choices, {})
            widget.panel.classes.model.set_models([Choice("labeller", "Labeller")], {})
            widget.panel.image_section.model.box.set_key(model)
        if array is not None:
            hands.settle()
        if show:
            viewer.reset_view()
            QApplication.processEvents()
        return hands

    yield open_
    for hands in opened:
        hands.widget.coordinator.close(wait=True)
        if type(hands.viewer) is ViewerModel:  # no window that has taken the widget
            hands.widget.deleteLater()
    # Here and now: else Python may collect them later, and Qt objects must not end on the thread that it does so on.
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


class Hands:
    """What a user can do, in image indices instead of screen positions."""

    def __init__(self, viewer, widget: SegmentWidget, qtbot) -> None:
        self.viewer = viewer
        self.widget = widget
        self.panel = widget.panel
        self.qtbot = qtbot

    @property
    def segmentation(self):
        return self.widget.coordinator.current

    @property
    def session(self):
        return self.segmentation.session

    @property
    def writer(self):
        return self.segmentation.writer

    @property
    def labels(self) -> np.ndarray:
        return self.writer.labels.data

    @property
    def message(self) -> str:
        return self.panel.status.message.text()

    def settle(self, seconds: float = 60) -> None:
        """Wait until the session is open, nothing runs and everything posted has been done."""

        def quiet() -> bool:
            current = self.segmentation
            return (
                current is None
                or not self.panel.isEnabled()
                or (current.session is not None and not current.session.busy)
            )

        def caught_up() -> bool:
            return quiet() and not any(
                timer.isActive() and timer.isSingleShot() and timer.interval() <= _SOON
                for timer in self.panel.findChildren(QTimer)
            )

        self.qtbot.wait(10)
        self.qtbot.waitUntil(quiet, timeout=round(1000 * seconds))
        if type(self.viewer) is ViewerModel:
            self.qtbot.wait(10)
            self.qtbot.waitUntil(caught_up, timeout=round(1000 * seconds))
        else:
            self.qtbot.wait(_SOON)

    def press(self, button) -> None:
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def mode(self, mode: str) -> None:
        self.press(self.panel.modes.buttons[mode])

    def act(self, name: str) -> None:
        self.press(self.panel.actions_[name])
        self.settle()

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    @property
    def camera(self):
        scene = getattr(self.viewer, "scene", None)  # since napari 0.9
        return self.viewer.camera if scene is None else scene.camera

    def position(self, index: Sequence[float]) -> QPoint:
        """Where on the canvas a voxel of the image is seen."""
        image = self.segmentation.image
        shown = list(self.viewer.dims.displayed)
        world = np.array(image.data_to_world(index))[shown]
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, column = (world - np.array(self.camera.center)[-2:]) * self.camera.zoom + middle
        return QPoint(round(column), round(row))

    def look_at(self, index: Sequence[float]) -> None:
        """Show the slice that a voxel lies in."""
        world = self.segmentation.image.data_to_world(index)
        for axis in self.viewer.dims.not_displayed:
            self.viewer.dims.set_point(axis, world[axis])
        QApplication.processEvents()

    def click(self, index: Sequence[float]) -> None:
        """A click on the canvas."""
        self.look_at(index)
        place = self.position(index)
        QTest.mouseMove(self.canvas, place)
        QApplication.processEvents()
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        self.settle()

    def drag(self, start: Sequence[float], stop: Sequence[float]) -> None:
        """Press at one voxel, move, and release at another."""
        self.look_at(start)
        none, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
        places = [self.position(start + (np.array(stop) - start) * t) for t in (0.0, 0.5, 1.0)]
        QTest.mouseMove(self.canvas, places[0])
        QTest.mousePress(self.canvas, left, none, places[0])
        QApplication.processEvents()
        for place in places[1:]:
            QTest.mouseMove(self.canvas, place)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, left, none, places[-1])
        self.settle()

    def key(self, key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
        """A key on the canvas."""
        QTest.keyClick(self.canvas, key, modifier)
        self.settle()
