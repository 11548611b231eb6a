"""Drive the plugin in a real viewer through a series of volumes with two channels, and write a picture of each step.

    python examples/series_screenshots.py FOLDER

The series is the synthetic torso, breathing, before and with contrast. Needs a display.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from screenshots import LEFT, Tour, targets

from napari_sammed.samples import Sample, load


def series(sample: Sample, folder: Path) -> None:
    """Two structures segmented on one frame of a series with channels, and copied to the next frame."""
    guide = Tour(sample, folder)
    guide.viewer.layers.clear()
    native, labels = sample.image.array, np.asarray(sample.labels)
    contrast = native + 70 * np.isin(labels, np.unique(labels)[1:4]).astype(native.dtype)
    breath = [0, 1, 3, 4, 3, 1]
    frames = np.stack([np.stack([np.roll(channel, by, 0) for channel in (native, contrast)]) for by in breath])
    guide.image = guide.viewer.add_image(
        frames,
        name="torso, breathing",
        axis_labels=("t", "c", "z", "y", "x"),
        scale=(1, 1, *sample.image.grid.spacing),
        metadata={"channel_names": ["native", "contrast"], "modality": "CT"},
        contrast_limits=(-160, 240),
    )
    guide.settle()
    guide.viewer.reset_view()
    frame = 2
    for number, (middle, _, _) in enumerate(targets(sample)):
        if number:
            QTest.mouseClick(guide.panel.objects.new_button, LEFT)
        guide.click((frame, 1, middle[0] + breath[frame], *middle[1:]))
    guide.picture("frame")
    QTest.mouseClick(guide.panel.frames.copy_button, LEFT)
    guide.settle()
    guide.picture("copied")
    guide.viewer.dims.set_point(0, 0)
    QTest.qWait(300)
    guide.settle()
    guide.picture("other_frame")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = sessions
        application = QApplication.instance() or QApplication([])
        series(load("torso"), Path(sys.argv[1]))
        application.processEvents()
