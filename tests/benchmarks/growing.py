"""How long the interface stands still while an object grows through a large volume.

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/growing.py [--pace 0.1]

A real viewer with the plugin shows 200 x 512 x 512 voxels, with a ball of 90 voxels' radius that is propagated by a
model without a network, a slice every `pace` seconds. A timer counts how long the GUI thread keeps others waiting: at
rest, while the object grows, and when the answer is there. Drawing of the canvas is part of it, by software where there
is no GPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.prompts import Point
from tests.thresholder import Thresholder

SHAPE, RADIUS = (200, 512, 512), 90


class Paced(Thresholder):
    """Answers the slices of a propagation at a steady pace."""

    def __init__(self, pace: float) -> None:
        super().__init__(planar=True)
        self.pace = pace

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        time.sleep(self.pace)
        return super().decode_boxes(embedding, boxes[:1]) * len(boxes)


class Heart:
    """Beats on the GUI thread as often as it is let."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(1)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def report(self, what: str) -> None:
        gaps = 1000 * np.array(self.gaps)
        p50, p99 = np.percentile(gaps, (50, 99))
        print(f"{what:24} {len(gaps):6} beats, p50 {p50:5.1f} ms, p99 {p99:6.1f} ms, longest {gaps.max():6.1f} ms")
        self.gaps = []
        self._last = time.perf_counter()


def measure(pace: float) -> None:
    """Print the figures."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ball = (z - 100) ** 2 + (y - 256) ** 2 + (x - 256) ** 2 <= RADIUS**2
    array = np.where(ball, np.uint8(150), np.uint8(20))
    backend = LocalBackend(models={"planar": Paced(pace)})
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    viewer.add_image(array)
    widget = SegmentWidget(viewer, backend)
    viewer.window.add_dock_widget(widget)
    widget.panel.image_section.model.set_models([Choice("planar", "Planar")], {})
    while widget.coordinator.current is None or widget.coordinator.current.session is None:
        QTest.qWait(50)
    current = widget.coordinator.current
    session = current.session
    session.new_object()
    session.add(Point((100, 256, 256)), model="planar", axis=0).result(60)
    QTest.qWait(2000)
    heart = Heart()
    QTest.qWait(3000)
    heart.report("at rest")
    current.propagate("all")
    grown = 0
    while session.busy:
        QTest.qWait(200)
        growth = session.growth
        if growth is not None and len(growth.pieces) > grown + 10:  # the user scrolls along
            grown = len(growth.pieces)
            viewer.dims.set_point(0, growth.pieces[-1].scope.low[0])
    heart.report("growing")
    QTest.qWait(3000)
    heart.report("the answer is there")
    print(f"{len(session.history.answers[max(session.history.answers)].slice_scores)} slices")
    widget.coordinator.close(wait=True)
    backend.shutdown()
    viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pace", type=float, default=0.1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAMMED_SESSIONS"] = folder
        measure(arguments.pace)


if __name__ == "__main__":
    main()
