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


def show(sample: Sample, title: str, clicks: Sequence[Point], model: str) -> None:
    """Open a window with the demo and stay until it is closed."""
    import napari

    viewer = napari.Viewer(title="napari-sammed demo")
    set_up(viewer, sample, title, clicks, model)
    napari.run()


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
