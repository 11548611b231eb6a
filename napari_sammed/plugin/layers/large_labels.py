"""The label layer of an image that is read by region: no labels are kept, they are made of the objects where seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.formats.lazy_array import LazyArray
from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import displayed_axes
from napari_sammed.plugin.image.images import spatial_shape
from napari_sammed.plugin.layers.label_view import LabelView

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sammed.plugin.image.image_view import ImageView

_COARSEST = {2: 512, 3: 256}  # voxels along an axis of the coarsest level, for a display in 2D and 3D

Reader = Callable[[Box, Sequence[int]], np.ndarray]
"""Gives every so many-th label along each axis inside a box."""


class LargeLabelView(LabelView):
    """A `LabelView` whose layer holds no voxels: napari asks for what is in view, in the resolution that it needs.

    napari cannot paint in such a layer.
    """

    def __init__(self, viewer: ViewerModel, image: ImageView, on_paint: Callable[[], None]) -> None:
        super().__init__(viewer, image, on_paint)
        viewer.dims.events.order.connect(self._turn)
        viewer.dims.events.ndisplay.connect(self._turn)

    _options: Mapping[str, Any] = {"multiscale": True}

    def show(self, box: Box, part: Callable[..., np.ndarray]) -> None:
        """See `LabelView.show`; `part` takes steps along the axes as well. Only the thumbnail is left for `finish`."""
        self._part = part
        self._behind = box
        displayed = self._displayed()
        if displayed is None or box.intersect(displayed) is not None:
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)

    def blank(self, box: Box) -> None:
        """See `LabelView.blank`."""
        self.show(box, _nothing)

    def finish(self, event: Any = None) -> None:
        """See `LabelView.finish`."""
        behind, self._behind = self._behind, None
        if behind is not None and self.layer is not None:
            self.layer.refresh(data_displayed=False, extent=False, highlight=False)

    def painted_part(self) -> None:
        """Nothing: nobody paints in such a layer."""

    def close(self) -> None:
        """See `LabelView.close`; the layer goes on to show the objects as they are now."""
        self.viewer.dims.events.order.disconnect(self._turn)
        self.viewer.dims.events.ndisplay.disconnect(self._turn)
        super().close()

    def _nothing(self) -> list[LazyArray]:
        return self._levels()

    def _levels(self) -> list[LazyArray]:
        """Coarser along the displayed axes only: no label may seem to lie on another slice than it does."""
        shape = spatial_shape(self.image)
        shown = displayed_axes(self.viewer.dims, len(shape)) or tuple(range(len(shape)))
        most = _COARSEST[3 if len(shown) == 3 else 2]
        steps = [(1,) * len(shape)]
        while len(steps) < 2 or any(shape[axis] / steps[-1][axis] > most for axis in shown):
            large = [axis for axis in shown if shape[axis] / steps[-1][axis] > most] or shown
            steps.append(tuple(2 * step if axis in large else step for axis, step in enumerate(steps[-1])))
        return [LazyArray(Level(shape, step, self._read)) for step in steps]

    def _read(self, box: Box, steps: Sequence[int]) -> np.ndarray:
        return (self._part or _nothing)(box, steps)

    def _turn(self, event: Any = None) -> None:
        """Other axes are displayed."""
        if self.layer is not None:
            self.layer.data = self._levels()


class Level:
    """The labels of an image at one resolution, computed where they are asked for; wants a `LazyArray` around it.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    steps : tuple of int
        Voxels of the image to one of the level, along each axis; the middle one of them is shown.
    read : Reader

    Attributes
    ----------
    shape, dtype
        As those of arrays.
    """

    dtype = np.dtype(np.uint16)

    def __init__(self, shape: Sequence[int], steps: Sequence[int], read: Reader) -> None:
        self._whole = tuple(shape)
        self._steps = tuple(steps)
        self._read = read
        counts = [(size - step // 2 + step - 1) // step for size, step in zip(shape, steps, strict=True)]
        self.shape = tuple(max(count, 1) for count in counts)  # the middles of all lie inside of the image

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        low, high, strides = [], [], []
        for place, step, size in zip(key, self._steps, self._whole, strict=True):
            line = range(size)[place] if isinstance(place, slice) else range(place, place + 1)
            low.append(min(line[0] * step + step // 2, size - 1))
            high.append(min(line[-1] * step + step // 2, size - 1) + 1)
            strides.append(line.step * step)
        labels = self._read(Box(tuple(low), tuple(high)), strides)
        return labels[tuple(slice(None) if isinstance(place, slice) else 0 for place in key)]


def _nothing(box: Box, steps: Sequence[int]) -> np.ndarray:
    """Labels of no object."""
    return np.zeros([-(-size // step) for size, step in zip(box.shape, steps, strict=True)], np.uint16)
