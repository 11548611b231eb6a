"""Drive the plugin in a real viewer through a folder of images, and write a picture of each step.

    python examples/folder_screenshots.py FOLDER --classes "1: spleen, 5: liver" IMAGE LABELS [IMAGE LABELS ...]

The folder is made of the images, volumes with all of the classes; each class is marked by a box around its largest
piece in the reference labels, on the slice that shows most of all, with LiteMedSAM. Needs a display
(``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import napari
import numpy as np
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from screenshots import Tour, read, shared_slice

from napari_sammed.geometry import Box
from napari_sammed.plugin.series.widget import SeriesWidget
from napari_sammed.plugin.widget import SegmentWidget


class FolderTour(Tour):
    """A viewer with the dock for folders and the panel below it."""

    def __init__(self, folder: Path) -> None:
        self.viewer = napari.Viewer(show=False)
        self.widget = SegmentWidget(self.viewer)
        self.dock = SeriesWidget(self.viewer, self.widget)
        self.viewer.window.add_dock_widget(self.dock, name="Annotate a folder")
        self.viewer.window.add_dock_widget(self.widget, name="Segment by clicks and boxes")
        self.viewer.show()
        self.viewer.window.resize(1500, 900)
        self.folder = folder
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def image(self):
        """The layer of the image that is open."""
        return self.dock.work.layer

    def wait_for(self, name: str) -> None:
        """Until an image of the folder is open, with an object for each class."""
        for _ in range(300):
            QTest.qWait(200)
            work, current = self.dock.work, self.widget.coordinator.current
            session = None if current is None else current.session
            if work.current is not None and work.current.path == name and session is not None and session.objects:
                break
        self.settle()


def annotate(images: list[tuple[Path, Path]], classes: str, folder: Path) -> None:
    """All classes of each image; pictures of the folder when it is opened, and of each image."""
    guide = FolderTour(folder)
    with tempfile.TemporaryDirectory() as place:
        names = []
        for number, (image, _) in enumerate(images, 1):
            names.append(f"patient_{number:02d}{''.join(image.suffixes)}")
            target = Path(place) / "abdomen" / names[-1]
            if image.is_dir():
                shutil.copytree(image, target)
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copy(image, target)
        guide.dock.view.folder.setText(str(Path(place) / "abdomen"))
        guide.dock.view.classes.setText(classes)
        guide.picture("folder")
        guide.dock.view.open_button.click()
        for name, (image, labels) in zip(names, images, strict=True):
            guide.wait_for(name)
            sample = read(image, labels)
            if sample.image.modality == "CT" or sample.image.array.min() < -500:
                guide.image.contrast_limits = (-160, 240)
            guide.panel.image_section.model.box.set_key("litemedsam")
            guide.viewer.reset_view()
            values = [one.value for one in guide.dock.work.series.classes]
            index, pieces = shared_slice(sample, values)
            for label, piece in enumerate(pieces, 1):
                guide.widget.coordinator.current.choose_object(label)
                box = Box.of_mask(piece).grow((1, 1)).intersect(Box.of_shape(piece.shape))
                guide.look_at((index, 0, 0))
                guide.rest()
                guide.drag((index, *box.low), (index, *np.subtract(box.high, 1)))
            for action in ("undo", "redo"):  # the time of an answer tells nothing on a busy machine
                guide.act(action)
            guide.mode("positive")
            guide.picture(name.split(".")[0])
            guide.dock.view.buttons["done"].click()
        guide.settle()
        guide.dock.work.close(wait=True)
        guide.widget.coordinator.close(wait=True)
        guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--classes", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = sessions
        application = QApplication.instance() or QApplication([])
        annotate(
            list(zip(arguments.images[::2], arguments.images[1::2], strict=True)), arguments.classes, arguments.folder
        )
        application.processEvents()


if __name__ == "__main__":
    main()
