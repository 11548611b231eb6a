"""The layer that shows the objects as labels, and takes what the user paints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.backend.slicing import slice_of
from napari_sammed.geometry import Box, Grid
from napari_sammed.plugin.image.coordinates import current_slice, hidden_axis, matrix_of
from napari_sammed.plugin.image.images import origin_of, spatial_shape
from napari_sammed.plugin.layers.left_behind import come_back_to, leave_behind
from napari_sammed.session.roster import default_colour

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from napari.utils import DirectLabelColormap

    from napari_sammed.plugin.image.image_view import ImageView

_AHEAD = 16  # objects to come, whose colours are known to the colormap already
_UNKNOWN = "#808080"  # of labels that no object has
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine")


def like(image: ImageView) -> dict[str, Any]:
    """Transform, units and axis labels of an image layer, as keyword arguments of a layer at the same place."""
    return {name: getattr(image, name) for name in (*TRANSFORM, "units", "axis_labels")}


def marks_like(image: ImageView) -> dict[str, Any]:
    """The same for a layer of points: the same place, without a negative scale.

    napari 0.7 cannot mark a selected point where the last axis is flipped by its scale, as it is in many volumes; by
    the affine it may be.
    """
    if image.scale[-1] > 0:
        return like(image)
    n = image.ndim
    plain = {"scale": np.ones(n), "translate": np.zeros(n), "rotate": np.eye(n), "shear": np.zeros(n * (n - 1) // 2)}
    return like(image) | plain | {"affine": matrix_of(image)}


def follow(layer: Layer, transform: Mapping[str, Any]) -> None:
    """Put a layer elsewhere; every part of a transform that is set draws it anew, so only what differs is."""
    for name in TRANSFORM:
        if not np.array_equal(np.asarray(getattr(layer, name)), np.asarray(transform[name])):
            setattr(layer, name, transform[name])


def place(layer: Layer, where: Mapping[str, Any]) -> None:
    """Put a layer to another image's place, with its units and the names of its axes; see `like`."""
    follow(layer, where)
    for name in ("units", "axis_labels"):
        if tuple(getattr(layer, name)) != tuple(where[name]):
            setattr(layer, name, where[name])


def ahead(label: int) -> dict[int, str]:
    """The usual colours of the labels that come after one."""
    return {known: default_colour(known) for known in range(label + 1, label + 1 + _AHEAD)}


def colormap_of(colours: Mapping[int, str]) -> DirectLabelColormap:
    from napari.utils import DirectLabelColormap

    return DirectLabelColormap(color_dict={None: _UNKNOWN, 0: "transparent", **colours})


class LabelView:
    """The label layer of one image.

    Of a volume, `show` brings the displayed slice up to date, which is all that the user sees, and leaves the rest for
    `finish`: a million voxels take longer to compare and write than the answer to a click should.

    Parameters
    ----------
    viewer : napari viewer
    image : ImageView
        Never written to.
    on_paint : callable
        Called when the user has painted.

    Attributes
    ----------
    layer : Labels or None
        None until it is needed, and after the user deleted it.
    """

    def __init__(self, viewer: ViewerModel, image: ImageView, on_paint: Callable[[], None]) -> None:
        self.viewer = viewer
        self.image = image
        self.layer: Labels | None = None
        self._on_paint = on_paint
        self._colours: dict[int, str] = {}
        self._behind: Box | None = None  # where the layer may not show yet what it should
        self._part: Callable[[Box], np.ndarray] | None = None
        viewer.dims.events.current_step.connect(self.finish)

    def turn_to(self, image: ImageView, on_paint: Callable[[], None]) -> None:
        """Belong to another frame of the same layer from now on."""
        self.image, self._on_paint = image, on_paint

    def make(self, at: int) -> Labels:
        """Have the layer, with nothing in it, at a place of the layer list: a new one, or that from the last time."""
        from napari.layers import Labels

        layers, self._colours = self.viewer.layers, ahead(0)
        look = {"colormap": colormap_of(self._colours), "visible": True, "metadata": origin_of(self.image)}
        self.layer = come_back_to(self.viewer, self.image)
        if self.layer is None:
            about = {"name": f"{self.image.name} objects", "opacity": 0.5, **look, **like(self.image)}
            self.layer = Labels(self._nothing(), **about, **self._options)
            layers.insert(at, self.layer)
        else:
            self.layer.data = self._nothing()
            for name, value in look.items():
                setattr(self.layer, name, value)
            place(self.layer, like(self.image))
            layers.move(layers.index(self.layer), at)
        self.layer.events.paint.connect(self._report_paint)
        return self.layer

    def set_colours(self, colours: Mapping[int, str]) -> None:
        """Show labels in these colours; the voxels stay as they are.

        A new colormap draws everything anew, so it has the usual colours of objects to come as well, and is kept
        while all colours are in it. Labels without any colour are grey.
        """
        if self.layer is None or colours.items() <= self._colours.items():
            return
        self._colours = ahead(max(colours)) | colours
        self.layer.colormap = colormap_of(self._colours)

    def show(self, box: Box, part: Callable[[Box], np.ndarray]) -> None:
        """Bring the displayed slice up to date inside a box, and remember the rest of the box.

        Parameters
        ----------
        box : Box
            Where something may have changed.
        part : callable
            Gives the label image inside a box.
        """
        box = box.intersect(self._whole)
        if box is None:
            return
        self._behind = box if self._behind is None else self._behind.union(box)
        self._part = part
        displayed = self._displayed()
        if displayed is None or self.layer.n_edit_dimensions == 3:  # strokes through slices must find them all written
            self.finish()
            return
        seen = box.intersect(displayed)
        if seen is not None and self._write(seen):
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)

    def blank(self, box: Box) -> None:
        """Show nothing inside a box."""
        self.show(box, lambda part: np.zeros(part.shape, self.layer.data.dtype))

    def finish(self, event: Any = None) -> None:
        """Write what `show` has left."""
        box, self._behind = self._behind, None
        if box is None or self.layer is None:
            return
        seen = box.intersect(self._displayed() or box)
        anew = seen is not None and self._write(seen)  # the user may have gone to another slice
        if seen != box:
            self._write(box)
        self.layer.refresh(data_displayed=anew, extent=False, highlight=False)

    def painted_part(self) -> tuple[Box, np.ndarray] | None:
        """The part that the user's last stroke can have touched, and its labels."""
        if self.layer is None:
            return None
        displayed = self._displayed()
        box = self._whole if displayed is None or self.layer.n_edit_dimensions == 3 else displayed
        return box, self.layer.data[box.slices]

    def forget(self) -> None:
        """The user deleted the layer."""
        self.layer = self._behind = None

    def close(self) -> None:
        """Let go of the layer, with everything written in it."""
        self.finish()
        self.viewer.dims.events.current_step.disconnect(self.finish)
        if self.layer is not None:
            self.layer.events.paint.disconnect(self._report_paint)
            leave_behind(self.layer, self.image)
        self.layer = None

    _options: Mapping[str, Any] = {}  # for a new layer

    def _nothing(self) -> Any:
        """The data of a layer that shows no object."""
        return np.zeros(spatial_shape(self.image), np.uint16)

    @property
    def _whole(self) -> Box:
        return Box.of_shape(self.layer.data.shape)

    def _displayed(self) -> Box | None:
        """The slice of a volume that the user sees; None where everything is seen."""
        axis = hidden_axis(self.viewer.dims, self.layer.ndim)
        index = current_slice(self.layer, self.viewer.dims)
        shape = self.layer.data.shape
        if axis is None or index is None or not 0 <= index < shape[axis]:
            return None
        return slice_of(Grid.plain(shape), axis, index)

    def _write(self, box: Box) -> bool:
        """Write what has changed inside a box; whether anything has."""
        new, old = self._part(box), self.layer.data[box.slices]
        changed = new != old
        if not changed.any():
            return False
        np.copyto(old, new, where=changed)  # ten times faster than indexing with a mask
        return True

    def _report_paint(self, event: Any = None) -> None:
        self._on_paint()
