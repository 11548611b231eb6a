"""Drive the plugin in a real viewer through a session, and write a picture of each step.

    python examples/screenshots.py FOLDER [--sample brain|torso|abdomen] [--image FILE [--labels FILE]]
    python examples/screenshots.py FOLDER --image FILE --labels FILE --closer LABEL
    python examples/screenshots.py FOLDER --image FILE --labels FILE --preview LABEL
    python examples/screenshots.py FOLDER --image FILE --labels FILE --compare LABEL

The second form draws a box around one structure of the reference labels and looks closer at it, with LiteMedSAM:
pictures before and after, one of both side by side with the reference as an outline, and the Dice of both. The third
rests the pointer on a structure, with LiteMedSAM, and takes the preview; the fourth asks all models that are here about
one click on a structure.

Needs a display (``xvfb-run -a -s "-screen 0 1600x1000x24"`` gives one).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import napari
import numpy as np
from napari.utils.io import imsave
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_sammed.geometry import Box
from napari_sammed.plugin.files.sample_data import layers_of
from napari_sammed.plugin.views.object_model import column_number
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.samples import Sample, load
from napari_sammed.volume import read_volume, resample_labels

NOTHING, LEFT = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton


class Tour:
    """A viewer with the plugin, hands for it, and a camera.

    Parameters
    ----------
    sample : Sample
    folder : Path
        Where the pictures go.
    """

    def __init__(self, sample: Sample, folder: Path) -> None:
        self.viewer = napari.Viewer(show=False)
        for data, keywords, kind in layers_of(sample):
            getattr(self.viewer, f"add_{kind}")(data, **keywords)
        self.image = self.viewer.layers[0]
        self.viewer.layers.selection.active = self.image
        self.widget = SegmentWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.widget, name="Segment by clicks and boxes")
        self.viewer.show()
        self.viewer.window.resize(1500, 900)
        self.folder = folder
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.settle()
        self.viewer.reset_view()

    @property
    def panel(self):
        return self.widget.panel

    def settle(self, seconds: float = 120) -> None:
        """Wait until nothing runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(4):
                QTest.qWait(60)
            current = self.widget.coordinator.current
            if current is None or (current.session is not None and not current.session.busy):
                return

    def rest(self, seconds: float = 120) -> None:
        """Wait until nothing is encoded ahead either: on a busy machine a prompt would wait for that."""
        QTest.qWait(500)
        end = time.monotonic() + seconds
        while self.panel.status.aside.text() and time.monotonic() < end:
            QTest.qWait(200)

    def picture(self, name: str, picture: np.ndarray | None = None) -> None:
        """Write the window, or a picture that was taken already, to a file."""
        QTest.qWait(300)
        self.count += 1
        path = self.folder / f"{self.count:02d}_{name}.png"
        if picture is None:
            self.viewer.screenshot(path, canvas_only=False, flash=False)
        else:
            imsave(str(path), picture)
        print(f"{path}: {self.panel.status.message.text()}")

    def zoom_to(self, low: Sequence[float], high: Sequence[float], share: float) -> None:
        """Have the box between two corners of a slice fill a share of the canvas."""
        self.look_at(low)
        shown = list(self.viewer.dims.displayed)
        corners = np.array([self.image.data_to_world(corner) for corner in (low, high)])[:, shown]
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        camera.center = (0, *corners.mean(0))
        sizes = np.array([self.canvas.height(), self.canvas.width()])
        camera.zoom = float((share * sizes / np.abs(np.diff(corners, axis=0)[0])).min())
        QTest.qWait(200)

    def close_up(self) -> np.ndarray:
        """The canvas alone, without the layers of prompts."""
        hidden = [layer for layer in self.viewer.layers if type(layer).__name__ in ("Points", "Shapes")]
        for layer in hidden:
            layer.visible = False
        QTest.qWait(200)
        found = self.viewer.screenshot(canvas_only=True, flash=False)
        for layer in hidden:
            layer.visible = True
        return found

    def look_at(self, index: Sequence[float]) -> None:
        """Show the slice that a voxel lies in."""
        world = self.image.data_to_world(index)
        for axis in self.viewer.dims.not_displayed:
            self.viewer.dims.set_point(axis, world[axis])
        QTest.qWait(100)

    def position(self, index: Sequence[float]) -> QPoint:
        """Where on the canvas a voxel is seen."""
        world = np.array(self.image.data_to_world(index))[list(self.viewer.dims.displayed)]
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, column = (world - np.array(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(column), round(row))

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def mode(self, mode: str) -> None:
        QTest.mouseClick(self.panel.modes.buttons[mode], LEFT)

    def click(self, index: Sequence[float], mode: str = "positive") -> None:
        self.look_at(index)
        self.mode(mode)
        QTest.mouseMove(self.canvas, self.position(index))
        QTest.mouseClick(self.canvas, LEFT, NOTHING, self.position(index))
        self.settle()

    def hover(self, index: Sequence[float]) -> None:
        """Rest the pointer on a voxel until the outline of the coming mask is there."""
        for shift in (3, 0):
            QTest.mouseMove(self.canvas, self.position(index) + QPoint(shift, 0))
            QTest.qWait(100)
        for _ in range(300):  # the slice may have to be encoded first
            if any(type(layer).__name__ == "Vectors" and len(layer.data) for layer in self.viewer.layers):
                return
            QTest.qWait(200)

    def drag(self, start: Sequence[float], stop: Sequence[float]) -> None:
        self.look_at(start)
        self.mode("box")
        places = [self.position(np.array(start) + np.subtract(stop, start) * t) for t in np.linspace(0, 1, 5)]
        QTest.mouseMove(self.canvas, places[0])
        QTest.mousePress(self.canvas, LEFT, NOTHING, places[0])
        for place in places[1:]:
            QTest.mouseMove(self.canvas, place)
            QTest.qWait(30)
        QTest.mouseRelease(self.canvas, LEFT, NOTHING, places[-1])
        self.settle()

    def act(self, name: str) -> None:
        QTest.mouseClick(self.panel.actions_[name], LEFT)
        self.settle()


def tour(sample: Sample, folder: Path) -> None:
    """Every step of a session, on the structures of the sample's reference labels or around the middle."""
    guide = Tour(sample, folder)
    guide.picture("opened")
    first, second = targets(sample)
    middle, low, high = first
    guide.mode("positive")
    guide.picture("mode_positive")
    guide.click(middle)
    guide.picture("positive_point")
    guide.click(np.array([middle[0], low[1] - 3, middle[2]]), "negative")
    guide.picture("negative_point")
    guide.act("undo")
    guide.picture("undo")
    QTest.mouseClick(guide.panel.objects.new_button, LEFT)
    guide.settle()
    middle, low, high = second
    guide.drag((middle[0], low[1], low[2]), (middle[0], high[1], high[2]))
    guide.picture("box")
    guide.act("propagate")
    guide.picture("propagated")
    model = guide.panel.objects.model
    model.setData(model.index(0, column_number("name")), "First structure")
    guide.panel.save_wanted.emit(folder / "objects.nii.gz")
    guide.settle()
    guide.picture("saved")
    QTest.mouseClick(guide.panel.objects.new_button, LEFT)
    guide.panel.slices.across.setChecked(True)
    guide.panel.image_section.window_.box.set_key("custom")
    guide.mode("box")
    guide.settle()
    guide.picture("box_across_slices")
    guide.viewer.dims.ndisplay = 3
    guide.settle()
    guide.picture("in_3d")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def closer(sample: Sample, label: int, folder: Path) -> None:
    """A structure from a box around it, and from looking closer then."""
    guide = Tour(sample, folder)
    guide.panel.image_section.model.box.set_key("litemedsam")
    truth = np.asarray(sample.labels) == label
    axes = tuple(range(1, truth.ndim))
    index = int(truth.sum(axis=axes).argmax()) if truth.ndim == 3 else None
    piece = piece_of(truth if index is None else truth[index])
    box = Box.of_mask(piece).grow((2, 2)).intersect(Box.of_shape(piece.shape))
    slice_ = () if index is None else (index,)
    low, high = (*slice_, *box.low), (*slice_, *np.subtract(box.high, 1))
    guide.drag(low, high)
    reference = guide.viewer.layers[f"{guide.image.name} reference"]
    outlined = np.zeros(truth.shape, np.uint8)
    outlined[slice_ or ...] = ndimage.binary_fill_holes(piece)
    reference.data = outlined
    reference.contour, reference.opacity = 1, 1.0
    reference.colormap = {None: "transparent", 1: "white"}

    def dice() -> float:
        found = guide.widget.coordinator.current.writer.labels.data[slice_ or ...] > 0
        return 2 * np.count_nonzero(found & piece) / (np.count_nonzero(found) + np.count_nonzero(piece))

    def shown() -> np.ndarray:
        reference.visible = True
        found = guide.close_up()
        reference.visible = False
        return found

    guide.zoom_to(low, high, 0.5)
    around = box.grow(box.shape).intersect(Box.of_shape(piece.shape))
    guide.image.contrast_limits = np.percentile(guide.image.data[slice_ or ...][around.slices], (0.5, 99.5))
    guide.picture("box")
    before, first = shown(), dice()
    QTest.mouseClick(guide.panel.closer.button, LEFT)
    guide.settle()
    guide.picture("closer")
    after, second = shown(), dice()
    gap = np.full((before.shape[0], 12, before.shape[2]), 255, np.uint8)
    guide.picture("before_and_after", np.concatenate((before, gap, after), axis=1))
    print(f"{np.count_nonzero(piece)} pixels, Dice {first:.3f} before, {second:.3f} after")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def largest_piece(sample: Sample, label: int) -> tuple[tuple[int, ...], np.ndarray]:
    """The slice (no index for a flat image) on which a structure is largest, and its largest piece there."""
    truth = np.asarray(sample.labels) == label
    index = (int(truth.sum(axis=(1, 2)).argmax()),) if truth.ndim == 3 else ()
    return index, piece_of(truth[index])


def shared_slice(sample: Sample, labels: Sequence[int]) -> tuple[int, list[np.ndarray]]:
    """The slice of a volume that shows most of all of some structures, and the largest piece of each there."""
    masks = [np.asarray(sample.labels) == label for label in labels]
    index = int(np.prod([mask.sum((1, 2), dtype=float) for mask in masks], axis=0).argmax())
    return index, [piece_of(mask[index]) for mask in masks]


def piece_of(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask."""
    pieces, _ = ndimage.label(mask)
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def preview(sample: Sample, label: int, folder: Path) -> None:
    """The outline of the coming mask, with the pointer resting on a structure."""
    guide = Tour(sample, folder)
    guide.panel.image_section.model.box.set_key("litemedsam")
    index, piece = largest_piece(sample, label)
    place = np.unravel_index(int(ndimage.distance_transform_edt(piece).argmax()), piece.shape)
    box = Box.of_mask(piece)
    guide.zoom_to((*index, *box.low), (*index, *np.subtract(box.high, 1)), 0.4)
    around = box.grow(box.shape).intersect(Box.of_shape(piece.shape))
    guide.image.contrast_limits = np.percentile(guide.image.data[index or ...][around.slices], (0.5, 99.5))
    guide.mode("positive")
    guide.hover((*index, *place))
    guide.picture("preview")
    guide.click((*index, *place))
    wrong = (guide.widget.coordinator.current.writer.labels.data[index or ...] > 0) & ~piece
    place = np.unravel_index(int(ndimage.distance_transform_edt(wrong).argmax()), wrong.shape)
    guide.mode("negative")
    guide.hover((*index, *place))
    guide.picture("preview_of_a_correction")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def compare(sample: Sample, label: int, folder: Path) -> None:
    """What all models that are on this machine make of one click inside of a structure."""
    guide = Tour(sample, folder)
    guide.panel.image_section.model.box.set_key("litemedsam")
    index, piece = largest_piece(sample, label)
    place = np.unravel_index(int(ndimage.distance_transform_edt(piece).argmax()), piece.shape)
    box = Box.of_mask(piece)
    guide.zoom_to((*index, *box.low), (*index, *np.subtract(box.high, 1)), 0.35)
    around = box.grow(box.shape).intersect(Box.of_shape(piece.shape))
    guide.image.contrast_limits = np.percentile(guide.image.data[index or ...][around.slices], (0.5, 99.5))
    guide.click((*index, *place))
    guide.panel.preview.setChecked(False)
    guide.act("compare")
    guide.picture("compared")
    guide.panel.comparison.table.selectRow(1)
    guide.picture("compared_one_selected")
    guide.widget.coordinator.close(wait=True)
    guide.viewer.close()


def targets(sample: Sample) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Innermost voxel, and low and high corner on its slice, of the largest structure and of one of middling size."""
    labels = sample.labels
    if labels is None:
        shape = np.array(sample.image.grid.shape)
        return [(shape // 2, shape // 2 - 30, shape // 2 + 30)] * 2
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    found = []
    order = values[np.argsort(counts)[::-1]]
    for value in (order[0], order[len(order) // 2]):
        depth = ndimage.distance_transform_edt(labels == value, sampling=sample.image.grid.spacing)
        middle = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
        part, _ = ndimage.label(labels[middle[0]] == value)
        where = np.argwhere(part == part[tuple(middle[1:])])
        low, high = where.min(0) - 1, where.max(0) + 1
        found.append((middle, np.array([middle[0], *low]), np.array([middle[0], *high])))
    return found


def read(image: Path, labels: Path | None) -> Sample:
    """An image of the user's, with reference labels on the same grid or one that is flipped against it."""
    volume = read_volume(image)
    if labels is None:
        return Sample(volume, "")
    return Sample(volume, "", resample_labels(read_volume(labels), volume.grid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sample", default="brain")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--closer", type=int, metavar="LABEL")
    parser.add_argument("--preview", type=int, metavar="LABEL")
    parser.add_argument("--compare", type=int, metavar="LABEL")
    arguments = parser.parse_args()
    sample = load(arguments.sample) if arguments.image is None else read(arguments.image, arguments.labels)
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = sessions
        application = QApplication.instance() or QApplication([])
        if arguments.closer is not None:
            closer(sample, arguments.closer, arguments.folder)
        elif arguments.preview is not None:
            preview(sample, arguments.preview, arguments.folder)
        elif arguments.compare is not None:
            compare(sample, arguments.compare, arguments.folder)
        else:
            tour(sample, arguments.folder)
        application.processEvents()


if __name__ == "__main__":
    main()
