"""The victim of `tests.plugin.test_kill_viewer`: a real napari window with the plugin, clicked until it is killed.

    python -m tests.plugin.kill_viewer IMAGE

Prints ``masked N`` when the object of the Nth click has a mask and the journal's actions are on disk.
"""

from __future__ import annotations

import os
import sys

import napari
import numpy as np
from qtpy.QtTest import QTest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.plugin.files.reader import read
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.widget import SegmentWidget
from tests.phantoms import two_balls
from tests.thresholder import Thresholder


def main(path: str) -> None:
    viewer = napari.Viewer(show=True)
    ((data, options, _),) = read(path)
    viewer.add_image(data, **options)
    widget = SegmentWidget(viewer, LocalBackend(models={"thresholder": Thresholder()}))
    viewer.window.add_dock_widget(widget, name="SAMMed")
    coordinator = widget.coordinator
    while coordinator.current is None or coordinator.current.session is None:
        QTest.qWait(20)
    segmentation = coordinator.current
    widget.panel.image_section.model.set_models([Choice("thresholder", "Thresholder")], {})
    QTest.qWait(200)
    widget.panel.modes.buttons["positive"].click()
    _, first, second = two_balls()
    for number, mask in enumerate((first, second), 1):
        if number > 1:
            segmentation.new_object()
        segmentation.writer.points.add(np.argwhere(mask).mean(0).round())
        while (state := segmentation.session.objects.get(number)) is None or state.mask is None:
            QTest.qWait(20)
        os.write(1, f"masked {number}\n".encode())
    while True:  # in mid-work: clicks on and on, prompts in flight
        segmentation.writer.points.add(np.argwhere(second)[0])
        QTest.qWait(10)


if __name__ == "__main__":
    main(sys.argv[1])
