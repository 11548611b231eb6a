"""Label layers of images that the user has turned away from: they stay with the user, and are found on return.

A layer is known by numbers of napari's in its metadata, its image's and its own, so that a copy of it is none. One that
the user has painted in meanwhile is the user's for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sammed.plugin.image.images import LEFT_KEY, spatial_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_sammed.plugin.image.image_view import ImageView


def leave_behind(layer: Labels, image: ImageView) -> None:
    """Leave the label layer of an image to the user."""
    layer.metadata[LEFT_KEY] = _numbers(layer, image)
    for event in (layer.events.paint, layer.events.data):
        event.connect(_keep)


def come_back_to(viewer: ViewerModel, image: ImageView) -> Labels | None:
    """The label layer that was left behind for an image, which belongs to it again; None if there is none."""
    from napari.layers import Labels

    for layer in viewer.layers:
        if isinstance(layer, Labels) and layer.metadata.get(LEFT_KEY) == _numbers(layer, image):
            _keep(layer=layer)
            if tuple((layer.data[0] if layer.multiscale else layer.data).shape) == spatial_shape(image):
                return layer
    return None


def _numbers(layer: Labels, image: ImageView) -> tuple[Any, Any]:
    return image.layer.unique_id, layer.unique_id


def _keep(event: Any = None, layer: Labels | None = None) -> None:
    """It is the user's for good, or ours again."""
    layer = event.source if layer is None else layer
    layer.metadata.pop(LEFT_KEY, None)
    for emitter in (layer.events.paint, layer.events.data):
        emitter.disconnect(_keep)
