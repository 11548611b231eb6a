"""Which part of an image the user sees, and how large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import current_slice, displayed_axes, hidden_axis, matrix_of, seen_index

if TYPE_CHECKING:
    from napari.components import Dims, ViewerModel
    from napari.layers import Labels

    from napari_sammed.plugin.image.image_view import ImageView


def camera_of(viewer: ViewerModel) -> Any:
    """The camera of a viewer, which has been in its scene since napari 0.9."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def canvas_pixel(viewer: ViewerModel, image: ImageView) -> float:
    """The size of a pixel of the canvas, in voxels of the displayed slice."""
    shown = list(displayed_axes(viewer.dims, image.ndim))
    sizes = np.linalg.norm(matrix_of(image)[:-1, shown], axis=0)
    return 1 / max(camera_of(viewer).zoom * sizes.mean(), 1e-12)


def part_in_view(image: ImageView, labels: Labels | None, dims: Dims) -> Box:
    """The part of an image that the user sees: of a volume, a part of the displayed slice.

    Parameters
    ----------
    image : ImageView
    labels : Labels or None
        A layer of the image's own grid; without it, of an image in several resolutions more than is seen may come back.
    dims : Dims
        Of the viewer, in 2D display.

    Returns
    -------
    Box
        In index coordinates, up to a voxel more than is seen on each side.

    Raises
    ------
    InputError
        If nothing of the image is in view.
    """
    layer = image if labels is None else labels
    step = layer.downsample_factors[layer.data_level] if layer.multiscale else 1
    low = np.floor(layer.corner_pixels[0] * step).astype(int)
    high = np.ceil((layer.corner_pixels[1] + 1) * step).astype(int)
    shown = list(displayed_axes(dims, image.ndim))
    axis, index = hidden_axis(dims, image.ndim), current_slice(image, dims)
    if axis is not None:
        low[axis], high[axis] = index, index + 1
    if (np.ptp(layer.corner_pixels, axis=0)[shown] == 0).any():
        raise InputError(f"Nothing of {image.name} is in view: move it into view, or choose to look around the object.")
    return Box(tuple(low.tolist()), tuple(high.tolist()))


def part_seen(viewer: ViewerModel, image: ImageView, labels: Labels | None) -> Box | None:
    """The part of an image that the user sees; None if that is nothing, or everything because of a display in 3D.

    Where napari says how large its canvas is (since 0.9), no more than is seen; else, of an image in several
    resolutions, as much as napari has loaded for it.
    """
    if viewer.dims.ndisplay == 3:
        return None
    try:
        part = part_in_view(image, labels, viewer.dims)
    except InputError:
        return None
    if not (image.layer if labels is None else labels).multiscale:
        return part
    canvas, scene = getattr(viewer, "canvas", None), getattr(viewer, "scene", None)
    if canvas is None or scene is None or not scene.camera.zoom:
        return part
    shown = list(displayed_axes(viewer.dims, image.ndim))
    half = np.array(canvas.size) / scene.camera.zoom / 2
    middle = np.array(scene.camera.center)[-2:]
    corners = np.tile(np.array(viewer.dims.point)[-image.ndim :], (4, 1))
    corners[:, shown] = [middle + half * signs for signs in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    seen = seen_index(image, corners, tuple(shown))
    low, high = list(part.low), list(part.high)
    for axis in shown:
        low[axis] = max(low[axis], int(np.floor(seen[:, axis].min() + 0.5)))
        high[axis] = min(high[axis], int(np.ceil(seen[:, axis].max() + 0.5)))
    return Box(tuple(low), tuple(high)) if all(a < b for a, b in zip(low, high, strict=True)) else None
