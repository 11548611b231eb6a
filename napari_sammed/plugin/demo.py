"""The demo in a viewer: a sample image, the panel beside it, and a first object that is being segmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sammed.plugin.files.sample_data import layers_of
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.prompts import Point
from napari_sammed.samples import Sample

if TYPE_CHECKING:
    import napari

_PANEL = "Segment by clicks and boxes"
_SIZE = (1400, 900)  # of the window at least, where the screen is large enough


def show(sample: Sample, title: str, clicks: Sequence[Point], model: str) -> None:
    """Open a window with the demo and stay until it is closed."""
    import napari
    from qtpy.QtCore import QTimer

    viewer = napari.Viewer(title="napari-sammed demo")
    make_room(viewer)
    set_up(viewer, sample, title, clicks, model)
    QTimer.singleShot(0, viewer.reset_view)  # once the panel has taken its part of the window
    napari.run()


def make_room(viewer: napari.Viewer) -> None:
    """Enlarge the window, which napari makes so small at first that the panel takes half of it."""
    from qtpy.QtGui import QGuiApplication

    screen = QGuiApplication.primaryScreen().availableSize()
    _, _, *size = viewer.window.geometry()
    wanted = zip(size, _SIZE, (screen.width(), screen.height()), strict=True)
    viewer.window.resize(*(max(now, min(least, most)) for now, least, most in wanted))


def set_up(viewer: napari.Viewer, sample: Sample, title: str, clicks: Sequence[Point], model: str) -> SegmentWidget:
    """Add the sample to a viewer, open the panel, and click.

    Parameters
    ----------
    viewer : napari.Viewer
    sample : Sample
    title : str
        Name of the object.
    clicks : sequence of Point
        In index coordinates of the sample's image.
    model : str
        Registry name.

    Returns
    -------
    SegmentWidget
    """
    from napari.layers import Layer

    layers = [viewer.add_layer(Layer.create(*data)) for data in layers_of(sample)]
    image = layers[0]
    viewer.layers.selection.active = image
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name=_PANEL, area="right")
    widget.coordinator.choose_image(image)
    if clicks:
        viewer.dims.set_point(range(3), image.data_to_world(clicks[0].index))
        widget.coordinator.current.start(title, clicks, model)
    return widget
