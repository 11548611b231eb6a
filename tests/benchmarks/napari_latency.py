"""How long napari takes from a click to the painted mask, beside what the model takes.

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/napari_latency.py [--clicks 60]

A real viewer with the plugin shows a volume of 200 x 512 x 512 voxels; the model paints balls of up to a million
voxels. A click is a mouse event on the canvas, which napari and Qt handle first. It is written when the label layer has
its new voxels, and painted when the canvas has been drawn with them, by software where there is no GPU: then drawing
takes most of the time, and more on a larger canvas. The backend's own time (load, embed, decode) is taken off.
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

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, Logits, ModelCard
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume

SHAPE = (200, 512, 512)
RADIUS = 62  # voxels, at most: about a million of them in a ball


class Balls:
    """A ball around every click, all of them larger with each click: every answer changes the displayed slice."""

    card = ModelCard(
        "balls", "Balls", frozenset({3}), frozenset({"point"}), (), "A ball around every click.", None, "", "", ""
    )
    weights_hash = ""

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        box = (prompts.extent or grid.box).grow(RADIUS).intersect(grid.box) or grid.box
        return Region.of_box(grid, box, box.shape)

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        return Embedding(None, region, image.grid, 0)

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        box = embedding.region.box
        values = np.full(box.shape, -1.0, np.float32)
        axes = np.ogrid[box.slices]
        points = prompts.of(Point)
        radius = RADIUS - 5 + len(points)
        for point in points:
            values[sum((a - c) ** 2 for a, c in zip(axes, point.index, strict=True)) <= radius**2] = 1.0
        return Logits(values, embedding.region, 1.0)

    def restore(self, logits: Logits) -> np.ndarray:
        return logits.values


def wait_for(condition, seconds: float = 30) -> None:
    """Let the event loop run until something is so."""
    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if condition() else None)
    timer.start(1)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()
    if not condition():
        raise SystemExit("the mask was not painted")


def measure(clicks: int, window: tuple[int, int] = (1000, 700)) -> np.ndarray:
    """Seconds from click to handled, to written, to painted, and of the backend among them, for each click (N, 4)."""
    array = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    backend = LocalBackend(models={"balls": Balls()})
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*window)
    viewer.add_image(array)
    widget = SegmentWidget(viewer, backend)
    viewer.window.add_dock_widget(widget)
    widget.panel.image_section.model.set_models([Choice("balls", "Balls")], {})
    widget.panel.preview.setChecked(False)  # a previewed answer would be there before the click
    wait_for(lambda: widget.coordinator.current is not None and widget.coordinator.current.session is not None)
    current = widget.coordinator.current
    canvas = viewer.window._qt_viewer.canvas
    drawn: list[float] = []
    canvas._scene_canvas.events.draw.connect(lambda _: drawn.append(time.perf_counter()), position="last")
    times = []
    random = np.random.default_rng(1)
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    for number in range(clicks):
        if number % 5 == 0:  # an object grows from small to large, then comes the next one
            widget.panel.objects.new_button.click()
            centre = random.integers((RADIUS, 150, 150), (SHAPE[0] - RADIUS, 362, 362))
        index = centre + random.integers(-25, 25, 3)
        viewer.dims.set_point(0, int(index[0]))
        QTest.mouseClick(widget.panel.modes.buttons["positive"], Qt.MouseButton.LeftButton)
        middle = np.array([canvas.native.height(), canvas.native.width()]) / 2
        row, column = (index[1:] - np.array(camera.center)[-2:]) * camera.zoom + middle
        place = QPoint(round(column), round(row))
        QTest.mouseMove(canvas.native, place)
        QTest.qWait(200)
        before = len(current.session.history.answers)
        painted: list[float] = []

        def note(event=None, painted=painted) -> None:
            painted.append(time.perf_counter())

        current.writer.labels.events.set_data.connect(note)
        start = time.perf_counter()
        QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        handled = time.perf_counter()
        wait_for(lambda: bool(painted) and bool(drawn) and drawn[-1] > painted[0])  # noqa: B023
        done = next(t for t in drawn if t > painted[0])
        current.writer.labels.events.set_data.disconnect(note)
        answer = current.session.history.answers[max(current.session.history.answers)]
        if len(current.session.history.answers) != before + 1:
            raise SystemExit("a click was not answered")
        times.append((handled - start, painted[0] - start, done - start, answer.seconds["total"]))
    widget.coordinator.close(wait=True)
    backend.shutdown()
    viewer.close()
    return np.array(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--window", type=int, nargs=2, default=(1000, 700), metavar=("WIDTH", "HEIGHT"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAMMED_SESSIONS"] = folder
        times = 1000 * measure(arguments.clicks, tuple(arguments.window))
    handled, written, painted, backend = times.T
    print(f"{len(times)} clicks on {' x '.join(map(str, SHAPE))} voxels, window of {arguments.window} pixels")
    for name, values in (
        ("backend", backend),
        ("click handled by napari and Qt", handled),
        ("written, less backend", written - backend),
        ("painted, less backend", painted - backend),
    ):
        print(f"{name:31} p50 {np.percentile(values, 50):6.1f} ms   p95 {np.percentile(values, 95):6.1f} ms")


if __name__ == "__main__":
    main()
