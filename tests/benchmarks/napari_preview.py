"""What the preview under the pointer costs a click, and how soon it is there.

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/napari_preview.py [--clicks 20] [--model litemedsam]

A real viewer with the plugin shows a CT-like slice of 512 x 512 pixels with discs, which are clicked in turn with
previews switched off, with the pointer resting until the preview is there, and at the worst moment: a preview of
another place has just begun. A click counts from the mouse event to the canvas drawn with the mask in it. All three
take turns in one run, so their ratios hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest

from napari_sammed.plugin.widget import SegmentWidget

SIDE = 512
NOTHING, LEFT = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
WAYS = ("off", "rested", "worst")


def wait_for(condition, seconds: float = 30) -> None:
    """Let the event loop run until something is so."""
    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if condition() else None)
    timer.start(1)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()
    timer.stop()
    if not condition():
        raise SystemExit("waited in vain")


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A slice with discs, and their centres."""
    random = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(64, SIDE, 96), np.arange(64, SIDE, 96), indexing="ij"), -1).reshape(-1, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    grey = random.normal(60, 8, (SIDE, SIDE))
    for row, column in centres:
        grey[(rows - row) ** 2 + (columns - column) ** 2 < random.uniform(20, 34) ** 2] += 70
    return grey.clip(0, 255).astype(np.uint8), centres


class Stage:
    """A viewer with the plugin, and hands."""

    def __init__(self, model: str) -> None:
        array, self.centres = scene()
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1000, 700)
        self.viewer.add_image(array)
        self.widget = SegmentWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.widget)
        self.panel = self.widget.panel
        wait_for(lambda: self.current is not None and self.current.session is not None)
        chooser = self.panel.image_section.model.box
        chooser.set_key(model)
        if chooser.key != model:
            raise SystemExit(f"There is no model {model} here: its weights are missing.")
        self.viewer.reset_view()  # the panel has made the canvas smaller
        QTest.qWait(200)
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.drawn: list[float] = []
        events = self.canvas._scene_canvas.events
        events.draw.connect(lambda _: self.drawn.append(time.perf_counter()), position="last")

    @property
    def current(self):
        return self.widget.coordinator.current

    @property
    def ghost(self) -> bool:
        preview = self.current._preview
        return bool(preview.outlines.shown) and preview._running is None

    def place(self, index) -> QPoint:
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        middle = np.array([self.canvas.native.height(), self.canvas.native.width()]) / 2
        row, column = (np.array(index) - np.array(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(column), round(row))

    def move(self, index) -> None:
        place = self.place(index)
        if not self.canvas.native.rect().contains(place):
            raise SystemExit(f"{place} is outside of the canvas")
        for shift in (QPoint(3, 2), QPoint(0, 0)):
            QTest.mouseMove(self.canvas.native, place + shift)
            QTest.qWait(10)  # napari leaves out moves that come within 5 ms

    def click(self, index) -> float:
        """Seconds until the mask is painted."""
        answers = len(self.current.session.history.answers)
        written: list[float] = []

        def note(event=None) -> None:
            written.append(time.perf_counter())

        self.current.writer.labels.events.set_data.connect(note)
        start = time.perf_counter()
        QTest.mouseClick(self.canvas.native, LEFT, NOTHING, self.place(index))
        wait_for(lambda: bool(written) and bool(self.drawn) and self.drawn[-1] > written[0])
        self.current.writer.labels.events.set_data.disconnect(note)
        wait_for(lambda: len(self.current.session.history.answers) == answers + 1)
        return next(t for t in self.drawn if t > written[0]) - start


def measure(clicks: int, model: str) -> tuple[dict[str, list[float]], list[float], list[float]]:
    stage = Stage(model)
    QTest.mouseClick(stage.panel.modes.buttons["positive"], LEFT)
    stage.panel.preview.insisted = True  # it is what is measured, however slow
    stage.move(stage.centres[0])
    wait_for(lambda: stage.ghost, 300)  # the model is loaded, the slice encoded
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    shown, model_times = [], []
    random = np.random.default_rng(1)
    for number in range(clicks + 1):  # the first round only warms up
        for way in random.permutation(WAYS):
            stage.panel.objects.new_button.click()
            QTest.qWait(150)
            index = stage.centres[random.integers(len(stage.centres))] + random.integers(-6, 7, 2)
            stage.panel.preview.setChecked(way != "off")
            QTest.qWait(100)
            if way == "rested":
                start = time.perf_counter()
                stage.move(index)
                wait_for(lambda: stage.ghost)
                if number:
                    shown.append(time.perf_counter() - start)
                    model_times.append(stage.current._preview._seconds[-1])
            elif way == "worst":
                stage.move((index + SIDE // 2) % SIDE)
                wait_for(lambda: stage.current._preview._running is not None)
            else:
                stage.move(index)
                QTest.qWait(100)
            seconds = stage.click(index)
            if number:
                times[way].append(seconds)
            QTest.qWait(200)
    stage.widget.coordinator.close(wait=True)
    stage.viewer.close()
    return times, shown, model_times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--model", default="litemedsam")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAMMED_SESSIONS"] = folder
        times, shown, model_times = measure(arguments.clicks, arguments.model)
    print(f"{arguments.model}, {arguments.clicks} clicks each on {SIDE} x {SIDE} pixels")
    for name, values in (("from rest to outline", shown), ("of it the model", model_times)):
        print(f"{name:28} p50 {1000 * np.median(values):6.0f} ms   p95 {1000 * np.percentile(values, 95):6.0f} ms")
    base = np.median(times["off"])
    for way, text in zip(WAYS, ("preview off", "on, pointer had rested", "on, at the worst moment"), strict=True):
        values = times[way]
        ratio = np.median(values) / base
        print(
            f"click to painted, {text:24} p50 {1000 * np.median(values):6.0f} ms   "
            f"p95 {1000 * np.percentile(values, 95):6.0f} ms   ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
