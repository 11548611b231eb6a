"""Drive the plugin in a real viewer through a large OME-Zarr pyramid, and write a picture of each step.

    python examples/large_screenshots.py FOLDER --image FILE --labels FILE --structures LABEL [LABEL ...]

The pyramid is the volume, enlarged until its slices have 4096 rows or columns. On the slice that shows most of all
structures each is zoomed to and marked by a box, with LiteMedSAM; all are seen together at the end. Needs a display
(``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import reduce
from pathlib import Path

import napari
import numpy as np
import zarr
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from screenshots import LEFT, Tour, read, shared_slice

from napari_sammed.geometry import Box
from napari_sammed.plugin.files.reader import read as open_layers
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.samples import Sample

SIZE = 4096
CHUNK = (8, 256, 256)
DEPTH = 4  # as many slices


def write_pyramid(sample: Sample, path: Path) -> int:
    """The volume as OME-Zarr 0.5, enlarged; how many times, in rows and columns."""
    image = sample.image
    times = SIZE // max(image.grid.shape[1:])
    group, datasets = zarr.open_group(path, mode="w"), []
    for level in range(5):
        zoom = times / 2**level
        shape = (len(image.array) * DEPTH, *(round(n * zoom) for n in image.grid.shape[1:]))
        array = group.create_array(str(level), shape=shape, chunks=CHUNK, dtype="int16")
        for index in range(len(image.array)):
            one = ndimage.zoom(image.array[index].astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest")
            array[index * DEPTH : (index + 1) * DEPTH] = np.broadcast_to(one.astype(np.int16), (DEPTH, *one.shape))
        scale = [image.grid.spacing[0] / DEPTH, *(spacing / zoom for spacing in image.grid.spacing[1:])]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    about = {"window": {"start": -160, "end": 240, "min": -1024, "max": 3071}, "color": "FFFFFF", "label": ""}
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets}],
        "omero": {"channels": [about]},
    }
    return times


class LargeTour(Tour):
    """A viewer with a pyramid from disk."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.viewer = napari.Viewer(show=False)
        self.widget = SegmentWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.widget, name="Segment by clicks and boxes")
        self.viewer.show()
        self.viewer.window.resize(1500, 900)
        for data, options, _ in open_layers(str(path)):
            self.image = self.viewer.add_image(data, **options)
        self.folder = folder
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.settle()
        self.viewer.reset_view()


def large(sample: Sample, structures: list[int], folder: Path) -> None:
    """A box around each structure, zoomed to it, and then all of them."""
    with tempfile.TemporaryDirectory(prefix="scans_") as place:
        path = Path(place) / "abdomen.ome.zarr"
        times = np.array((DEPTH, *[write_pyramid(sample, path)] * 2))
        guide = LargeTour(path, folder)
        guide.picture("opened")
        guide.panel.image_section.model.box.set_key("litemedsam")
        index, pieces = shared_slice(sample, structures)
        boxes = [Box.of_mask(piece).grow((1, 1)).intersect(Box.of_shape(piece.shape)) for piece in pieces]
        for number, (label, box) in enumerate(zip(structures, boxes, strict=True)):
            if number:
                QTest.mouseClick(guide.panel.objects.new_button, LEFT)
            low, high = times * (index, *box.low), times * (index, *box.high)
            guide.zoom_to(low, high, 0.7)
            guide.drag(low, high)
            guide.picture(f"structure_{label}")
        around = reduce(Box.union, boxes)
        guide.zoom_to(times * (index, *around.low), times * (index, *around.high), 0.8)
        guide.mode("positive")
        guide.settle()
        guide.panel.save_wanted.emit(Path(place) / "abdomen_objects.ome.zarr")
        guide.settle()
        guide.rest()
        guide.picture("all")
        guide.viewer.reset_view()
        guide.settle()
        guide.picture("whole")
        guide.widget.coordinator.close(wait=True)
        guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--structures", type=int, nargs="+", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = sessions
        application = QApplication.instance() or QApplication([])
        large(read(arguments.image, arguments.labels), arguments.structures, arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
