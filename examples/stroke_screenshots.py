"""Click into a structure in a real viewer, correct the answer with brush and eraser, and write a picture of each step.

    python examples/stroke_screenshots.py FOLDER --image FILE --labels FILE LABEL

The strokes run along the thickest part of what is missing, and of what is too much, by the reference labels. Needs a
display (``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from screenshots import LEFT, NOTHING, Tour, largest_piece, read

from napari_sammed.geometry import Box
from napari_sammed.samples import Sample

_ROUNDS = 2


def strokes(sample: Sample, label: int, folder: Path) -> None:
    """A structure from a click, corrected with brush and eraser where the answer is wrong."""
    guide = Tour(sample, folder)
    index, flat = largest_piece(sample, label)

    def found() -> np.ndarray:
        return guide.widget.coordinator.current.writer.labels.data[index or ...] > 0

    def dice() -> float:
        return 2 * np.count_nonzero(found() & flat) / (np.count_nonzero(found()) + np.count_nonzero(flat))

    box = Box.of_mask(flat)
    guide.zoom_to((*index, *box.low), (*index, *np.subtract(box.high, 1)), 0.6)
    depth = ndimage.distance_transform_edt(flat)
    guide.click((*index, *np.unravel_index(int(depth.argmax()), depth.shape)))
    guide.picture("click")
    print(f"Dice {dice():.3f} after a click")
    for _ in range(_ROUNDS):
        for mode, wrong in (("brush", flat & ~found()), ("eraser", found() & ~flat)):
            way, width = along(wrong)
            if width:
                guide.panel.brush.size_.setValue(width)
                paint(guide, [(*index, *place) for place in way], mode)
                guide.picture(mode)
                print(f"Dice {dice():.3f} after the {mode}")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def paint(guide: Tour, places: Sequence[Sequence[float]], mode: str) -> None:
    """Lead the brush or the eraser past some voxels."""
    guide.look_at(places[0])
    guide.mode(mode)
    way = [guide.position(place) for place in places]
    QTest.mouseMove(guide.canvas, way[0])
    QTest.mousePress(guide.canvas, LEFT, NOTHING, way[0])
    for place in way[1:]:
        QTest.mouseMove(guide.canvas, place)
        QTest.qWait(20)
    QTest.mouseRelease(guide.canvas, LEFT, NOTHING, way[-1])
    guide.settle()


def along(region: np.ndarray) -> tuple[np.ndarray, int]:
    """The way of a brush along the thickest part of a flat region, and how wide it may be; 0 if there is little."""
    depth = ndimage.distance_transform_edt(region)
    pieces, _ = ndimage.label(region)
    thickest = pieces == pieces[np.unravel_index(int(depth.argmax()), depth.shape)]
    places = np.argwhere(thickest & (depth > 0.7 * depth.max()))
    if depth.max() < 2 or len(places) < 2:
        return places, 0
    middle = places.mean(0)
    order = np.argsort((places - middle) @ np.linalg.svd(places - middle, full_matrices=False)[2][0])
    way = np.array([part.mean(0) for part in np.array_split(places[order], min(12, len(places)))])
    return way, round(depth.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("label", type=int)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = sessions
        application = QApplication.instance() or QApplication([])
        strokes(read(arguments.image, arguments.labels), arguments.label, arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
