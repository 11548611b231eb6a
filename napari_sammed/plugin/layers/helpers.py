"""Layers in which the program shows something for a moment; they are kept in between, hidden, as making one takes long.

At most one of each kind is in the viewer. One that the user deletes is made again when it is next needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_sammed.plugin.image.coordinates import point_at_seen
from napari_sammed.plugin.layers.label_view import like, place

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_sammed.plugin.image.image_view import ImageView


class HelperLayers:
    """The layers of this kind of one image; another image of as many dimensions may go on with them.

    Parameters
    ----------
    viewer : napari viewer
    image : ImageView
        Never written to.

    Attributes
    ----------
    making : bool
        A layer is being added, which makes other layers active for a moment.
    """

    def __init__(self, viewer: ViewerModel, image: ImageView) -> None:
        self.viewer = viewer
        self.image = image
        self.making = False
        self._layers: dict[str, Layer] = {}
        self._hidden: set[str] = set()
        viewer.layers.events.removed.connect(self._on_removed)

    def turn_to(self, image: ImageView) -> None:
        """Belong to another image from now on."""
        other, self.image = image.layer is not self.image.layer, image
        if other:
            for name, layer in self._layers.items():
                layer.name = f"{image.name} {name}"
                place(layer, like(image))

    def shown(self, name: str) -> Any:
        """The layer of a name; None while it is hidden, or not there."""
        return None if name in self._hidden else self._layers.get(name)

    def show(self, name: str, make: Callable[..., Layer], **options: Any) -> Any:
        """Show a layer, or make it.

        Parameters
        ----------
        name : str
            Of the layer, after the image's.
        make : callable
            A class of napari layers.
        **options
            For it.
        """
        layer = self._layers.get(name)
        if layer is None:
            layer = make(ndim=self.image.ndim, name=f"{self.image.name} {name}", **options, **like(self.image))
            point_at_seen(layer, self, self.viewer.dims)
            self.making = True
            try:
                with keeping_active(self.viewer):
                    self.viewer.layers.append(layer)
            finally:
                self.making = False
            self._layers[name] = layer
        elif name in self._hidden:
            place(layer, like(self.image))
            layer.visible = True
        self._hidden.discard(name)
        return layer

    def hide(self, name: str) -> None:
        """Hide a layer, if it is there."""
        layer = self.shown(name)
        if layer is not None:
            self._hidden.add(name)
            layer.visible = False

    def close(self) -> list[Layer]:
        """Let go of the layers, which are to be taken away."""
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        layers, self._layers = list(self._layers.values()), {}
        return layers

    def _on_removed(self, event: Any) -> None:
        for name, layer in list(self._layers.items()):
            if layer is event.value:
                del self._layers[name]
                self._hidden.discard(name)


@contextmanager
def keeping_active(viewer: ViewerModel) -> Iterator[None]:
    """Adding and removing layers makes others active; the user's tool belongs to the one that was."""
    active = viewer.layers.selection.active
    yield
    if active is None or active in viewer.layers:
        viewer.layers.selection.active = active
