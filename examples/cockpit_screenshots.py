"""Pictures of the propagation cockpit: an object that grows through a CT, the strip below it, and where to go next.

    python examples/cockpit_screenshots.py FOLDER --image FILE_OR_DICOM_FOLDER --labels FILE --label VALUE

Draws a box around one structure of the reference labels on its largest slice, with LiteMedSAM, propagates it, and asks
where to click next; the Dice of both with the reference is printed.

Needs a display (``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from screenshots import LEFT, Tour, read

from napari_sammed.geometry import Box
from napari_sammed.samples import Sample

_GROWN = 0.4  # of the slices, for the picture on the way


def cockpit(sample: Sample, label: int, folder: Path) -> None:
    """A structure from a box on one slice, carried through the stack."""
    guide = Tour(sample, folder)
    guide.panel.image_section.model.box.set_key("litemedsam")
    for key in ("image", "prompt", "classes"):
        guide.panel.sections[key].set_open(False)
    truth = np.asarray(sample.labels) == label
    index = int(truth.sum(axis=(1, 2)).argmax())
    pieces, _ = ndimage.label(truth[index])
    piece = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    box = Box.of_mask(piece).grow((2, 2)).intersect(Box.of_shape(piece.shape))
    low, high = (index, *box.low), (index, *np.subtract(box.high, 1))
    guide.panel.sections["prompt"].set_open(True)
    guide.drag(low, high)
    guide.panel.sections["prompt"].set_open(False)
    guide.zoom_to(low, high, 0.45)
    current = guide.widget.coordinator.current
    QTest.mouseClick(guide.panel.actions_["propagate"], LEFT)
    while current.session.growth is None or len(current.session.growth.pieces) < _GROWN * len(truth):
        QTest.qWait(50)
    guide.picture("growing")
    guide.settle(1800)
    QTest.qWait(1000)
    guide.picture("propagated")
    found = current.writer.labels.data > 0
    print(f"Dice {2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth)):.3f}")
    for wish in ("worst", "next"):
        QTest.mouseClick(guide.panel.cockpit.buttons[wish], LEFT)
        guide.settle()
        guide.picture(wish)
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--label", type=int, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = sessions
        application = QApplication.instance() or QApplication([])
        cockpit(read(arguments.image, arguments.labels), arguments.label, arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
