"""Segment a volume in a real scene of 3D Slicer, by clicks in its slice view, and write pictures for the extension.

    python examples/slicer_screenshots.py FOLDER [--image FILE --labels FILE --organs LABEL=NAME ...] [--server URL]

Without an image: the synthetic torso. With a server, which has to run already, it does the work. Scene, nodes, views,
mouse and answers are Slicer's and ours; the panel is the module's own on a plain Qt, whose widgets look a little
different in Slicer. Needs the extra ``slicer``, and no display.
"""

# ruff: noqa: E402 (Qt and VTK read the environment, and Python its path, when they are imported)

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import types
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ.pop("DISPLAY", None)
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "slicer_extension" / "Sammed")]

import numpy as np
import slicer
import vtk
from PIL import Image
from PyQt6 import QtWidgets
from SammedLib import volumes
from scipy import ndimage
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
from vtk.util import numpy_support

from napari_sammed.samples import torso
from napari_sammed.volume import Volume, read_volume
from tests.slicer.pythonqt import stand_ins

SIDE = 620


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--organs", nargs="+", default=["1=liver", "2=spleen"], metavar="LABEL=NAME")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--server", help="address of one that needs no key")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = tempfile.TemporaryDirectory()  # not the user's
    os.environ["NAPARI_SAMMED_CONFIG"] = settings.name
    if options.image is None:
        sample = torso()
        image, labels = sample.image, sample.labels
        organs = dict(list(sample.names.items())[1:4])
    else:
        image, labels = read_volume(options.image), read_volume(options.labels).array
        organs = {int(label): name for label, _, name in (text.partition("=") for text in options.organs)}
    _application, views = start()
    node = add(image)
    qt = QtWidgets.QApplication([])
    window = QtWidgets.QMainWindow()
    with stand_ins({"Send": True}, window) as module:
        panel = QtWidgets.QWidget()
        QtWidgets.QVBoxLayout(panel)
        widget = module.SammedWidget(panel)
        widget.setup()
        panel.resize(400, 800)
        panel.show()
        if options.server:
            use_server(widget, options.server)
            wait(qt, widget)
        widget._parameters.volume = node
        widget._parameters.model = options.model
        show(views[0], node, labels, organs)
        for number, (label, name) in enumerate(organs.items()):
            widget.presenter.next_segment(name)
            wait(qt, widget)
            widget.ui.positiveButton.widget.click() if number == 0 else None
            click(views[0], inside(labels, label, views[0], node))
            wait(qt, widget)
        pictures = [grab(views[0])]
        views[1].set_render_blocked(False)
        widget.presenter.logic.segmentation.CreateClosedSurfaceRepresentation()
        views[1].reset_focal_point()
        views[1].reset_camera()
        pictures.append(grab(views[1]))
        qt.processEvents()
        panel.grab().save(str(options.folder / "panel.png"))
        side = Image.open(options.folder / "panel.png").convert("RGB")
        widget.cleanup()
    pictures = pictures[: 1 if options.server else 2]
    both = Image.new("RGB", (side.width + len(pictures) * SIDE, max(side.height, SIDE)), "black")
    both.paste(side, (0, 0))
    for number, picture in enumerate(pictures):
        both.paste(picture, (side.width + number * SIDE, (both.height - SIDE) // 2))
        picture.save(options.folder / f"{('slice', '3d')[number]}.png", optimize=True)
    both.save(options.folder / ("server.png" if options.server else "module.png"), optimize=True)


def start() -> tuple[SlicerApp, list]:
    """Slicer's core, an axial view and one in 3D, off screen."""
    application = SlicerApp()
    slicer.mrmlScene = application.scene
    slicer.modules = types.SimpleNamespace(
        volumes=types.SimpleNamespace(logic=lambda: application.volumes_logic),
        segmentations=types.SimpleNamespace(logic=lambda: application.segmentations_logic),
        terminologies=types.SimpleNamespace(logic=lambda: application.terminologies_logic),
    )
    slicer.app = types.SimpleNamespace(applicationLogic=lambda: application.app_logic, connect=lambda *_: None)
    application.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    layouts = (ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.threed_view())
    views = [application.view_manager.create_view(layout) for layout in layouts]
    for view in views:
        view.update_size(SIDE, SIDE)
        view.render_window().SetSize(SIDE, SIDE)
    views[1].set_render_blocked(True)  # a drawing of every step takes seconds without a GPU
    return application, views


def use_server(widget, address: str) -> None:
    """Choose a server in the panel."""
    ui = widget.ui
    ui.placeSection.setCollapsed(False)
    ui.placeBox.setCurrentIndex(ui.placeBox.widget.count() - 1)
    ui.addressEdit.setText(address)
    ui.useButton.click()


def add(image: Volume) -> slicer.vtkMRMLScalarVolumeNode:
    """The image as a node of the scene."""
    to_world = volumes.RAS_TO_LPS @ image.grid.affine
    node = slicer.util.addVolumeFromArray(image.array, ijkToRAS=to_world[:, [2, 1, 0, 3]], name="CT")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(400, 40)
    return node


def show(view, node, labels: np.ndarray, organs: dict[int, str]) -> None:
    """Turn the view to the slice that shows the most of the organs."""
    view.set_background_volume_id(node.GetID())
    view.get_view_node().RotateToVolumePlane(node)
    view.fit_view_to_content()
    smallest = np.min([(labels == label).sum((1, 2)) for label in organs], axis=0)
    middle = [int(smallest.argmax()), *(size / 2 for size in labels.shape[1:])]
    view.get_view_node().JumpSliceByOffsetting(*volumes.to_world(node, [middle])[0])
    view.render()


def inside(labels: np.ndarray, label: int, view, node) -> np.ndarray:
    """The place of an organ, in the slice that is shown, that lies deepest inside."""
    axis, index = volumes.slice_shown(node, view.get_view_node())
    depth = ndimage.distance_transform_edt(np.take(labels == label, index, axis))
    place = np.insert(np.array(np.unravel_index(depth.argmax(), depth.shape), float), axis, index)
    return volumes.to_world(node, [place])[0]


def click(view, world: np.ndarray) -> None:
    """Press the mouse at a position of the world."""
    from_xy = slicer.util.arrayFromVTKMatrix(view.get_view_node().GetXYToRAS())
    x, y = (round(value) for value in np.linalg.solve(from_xy, (*world, 1))[:2])
    view.interactor().SetEventInformation(x, y)
    for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
        view.interactor().InvokeEvent(event)


def wait(qt: QtWidgets.QApplication, widget) -> None:
    """Let the panel's timer deliver everything."""
    quiet = 0
    while quiet < 10:
        qt.processEvents()
        time.sleep(0.03)
        quiet = 0 if widget.presenter.busy else quiet + 1


def grab(view) -> Image.Image:
    """What a view shows."""
    view.render()
    window = vtk.vtkWindowToImageFilter()
    window.SetInput(view.render_window())
    window.ReadFrontBufferOff()
    window.Update()
    shot = window.GetOutput()
    columns, rows, _ = shot.GetDimensions()
    pixels = numpy_support.vtk_to_numpy(shot.GetPointData().GetScalars()).reshape(rows, columns, -1)
    return Image.fromarray(np.ascontiguousarray(pixels[::-1, :, :3]))


if __name__ == "__main__":
    main()
