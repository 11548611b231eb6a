"""Outlines of masks on the displayed slice, in a layer of their own that no click can reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.plugin.image.in_view import canvas_pixel
from napari_sammed.plugin.layers.helpers import HelperLayers

if TYPE_CHECKING:
    from napari.layers import Vectors

_DASH = 5.0  # pixels of the canvas, and so fine that straight dashes follow the outline
_MOST = 4000  # dashes; where more would be needed, they are longer


@dataclass(frozen=True)
class Outline:
    """A line around a mask.

    Parameters
    ----------
    path : ndarray
        Positions (N, ndim) along it, in index coordinates of the image.
    colours : tuple of str
        Of its dashes, in turn; one makes a plain line.
    """

    path: np.ndarray
    colours: tuple[str, ...]


class Outlines:
    """The outlines of one image, in a Vectors layer that is seen as long as it is needed.

    Parameters
    ----------
    helpers : HelperLayers
        Keeps the layer.
    name : str
        Of the layer, after the image's.
    width : float
        Of the lines, in pixels of the canvas.
    """

    def __init__(self, helpers: HelperLayers, name: str, width: float) -> None:
        self.viewer = helpers.viewer
        self.image = helpers.image
        self._helpers = helpers
        self._name = name
        self._width = width
        self._shown: tuple[Outline, ...] = ()

    @property
    def layer(self) -> Vectors | None:
        """None while it is hidden."""
        return self._helpers.shown(self._name)

    @property
    def shown(self) -> tuple[Outline, ...]:
        """What is in the layer now."""
        return self._shown if self.layer is not None else ()

    def show(self, outlines: Sequence[Outline]) -> None:
        """Show these, and no others."""
        from napari.layers import Vectors

        if self.layer is None and not outlines:
            return
        layer = self._helpers.show(self._name, Vectors, vector_style="line")
        self._shown = tuple(outlines)
        pixel = canvas_pixel(self.viewer, self.image)
        starts, steps, colours = dashes(outlines, _DASH * pixel)
        width = self._width * pixel
        if not np.isclose(layer.edge_width, width):
            layer.edge_width = width
        if not len(starts) and self.image.ndim == 2:  # napari fails to draw a flat layer without vectors in 3D
            starts, steps, colours = np.zeros((1, 2)), np.ones((1, 2)), np.zeros((1, 4))
        if len(starts) or len(layer.data):
            layer.data = np.stack((starts, steps), axis=1) if len(starts) else np.empty((0, 2, self.image.ndim))
        if len(starts):
            layer.edge_color = colours

    def clear(self) -> None:
        """Show nothing; the layer stays, ready for more."""
        if self.shown:
            self.show(())

    def redraw(self, event: Any = None) -> None:
        """The zoom has changed: lines are as thin as before on the screen."""
        if self.shown:
            self.show(self._shown)

    def hide(self) -> None:
        """Show nothing, and hide the layer; it comes back with what is shown next."""
        self.clear()
        self._shown = ()
        self._helpers.hide(self._name)


def around(mask: np.ndarray, box: Box, axis: int | None, index: int | None) -> list[np.ndarray]:
    """The lines around a mask on one slice.

    Parameters
    ----------
    mask : ndarray of bool
    box : Box
        Where it lies in the image.
    axis, index : int or None
        The axis across the slice, and which one; None for flat images.

    Returns
    -------
    list of ndarray
        Closed paths (N, ndim) in index coordinates, half a voxel outside of the outermost voxels' centres.
    """
    from skimage.measure import find_contours

    if axis is not None:
        if index is None or not box.low[axis] <= index < box.high[axis]:
            return []
        mask = mask.take(index - box.low[axis], axis=axis)
    axes = [a for a in range(box.ndim) if a != axis]
    if not mask.any():
        return []
    low = np.array([box.low[a] for a in axes]) - 1.0
    paths = []
    for line in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        path = np.full((len(line), box.ndim), float(index or 0))
        path[:, axes] = line + low
        paths.append(path)
    return paths


def dashes(outlines: Iterable[Outline], length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outlines cut into straight pieces.

    Parameters
    ----------
    outlines : iterable of Outline
    length : float
        Of a piece, in voxels; longer where there would be too many.

    Returns
    -------
    starts, steps : ndarray
        (N, ndim): where each piece begins, and from there to its end.
    colours : ndarray
        (N, 4), red, green, blue and opacity from 0 to 1.
    """
    from napari.utils.colormaps.standardize_color import transform_color

    outlines = [outline for outline in outlines if len(outline.path) > 1]
    alongs = [np.r_[0, np.cumsum(np.linalg.norm(np.diff(o.path, axis=0), axis=1))] for o in outlines]
    length = max(length, sum(along[-1] for along in alongs) / _MOST, 1e-6)
    starts, steps, colours = [], [], []
    for outline, along in zip(outlines, alongs, strict=True):
        count = max(round(along[-1] / length), 3)
        ends = np.linspace(0, along[-1], count + 1)
        points = np.stack([np.interp(ends, along, column) for column in outline.path.T], axis=1)
        starts.append(points[:-1])
        steps.append(np.diff(points, axis=0))
        palette = transform_color(list(outline.colours))
        colours.append(palette[np.arange(count) % len(palette)])
    if not starts:
        return np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 4))
    return np.concatenate(starts), np.concatenate(steps), np.concatenate(colours)
