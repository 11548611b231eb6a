"""From what napari says to index coordinates of the image, and back.

A napari layer has data coordinates, which for an image are its index coordinates, and a transform to the viewer's
world. Prompts live in layers of their own; what counts is where they are seen. napari's world has the axis order of
the arrays, ``(z, y, x)``; it is taken for LPS millimetres with the axes in reverse order, so that a plain image has
x along its last axis, as in `napari_sammed.geometry.Grid.plain`.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.geometry import Box, Grid

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Layer

    from napari_sammed.plugin.image.image_view import ImageView

GRID_KEY = "napari_sammed_grid"
"""Where a layer's metadata may hold the `Grid` that its reader found in the file."""

NOT_IN_3D = "Prompts are given on slices: switch back to the 2D display (the cube button below the layer list) first."
NO_SLICE = (
    "The canvas runs through the frames, not along the image: bring back the usual order of the axes (the buttons that "
    "roll and transpose, below the layer list) to give prompts."
)

_STRAIGHT = 1e-3  # relative; an axis turned by less than about 2.5 degrees counts as straight
_EDGE = 1e-6  # voxels; tells an edge that lies between two voxels from one just beyond it


def matrix_of(layer: ImageView | Layer) -> np.ndarray:
    """Homogeneous matrix (n+1, n+1) from a layer's data coordinates to napari's world."""
    n = layer.ndim
    matrix = np.eye(n + 1)
    matrix[:n, n] = layer.data_to_world(np.zeros(n))
    for axis, unit in enumerate(np.eye(n)):
        matrix[:n, axis] = np.subtract(layer.data_to_world(unit), matrix[:n, n])
    return matrix


def grid_of(layer: ImageView | Layer, shape: tuple[int, ...]) -> Grid:
    """The grid of an image layer: the one that its reader left in the metadata, else that of its transform.

    Parameters
    ----------
    layer : ImageView or Layer
        Lengths in units other than millimetres are converted; pixels count as millimetres.
    shape : tuple of int
        Of the image without colours.
    """
    known = layer.metadata.get(GRID_KEY)
    if isinstance(known, Grid) and known.shape == shape:
        return known
    n = len(shape)
    matrix = matrix_of(layer)
    affine = np.eye(n + 1)
    affine[:n] = (np.array(_millimetres(layer))[:, None] * matrix[:n])[::-1]
    return Grid.from_affine(shape, affine)


def placement(grid: Grid) -> dict[str, Any]:
    """How napari should place an image: in LPS where its axes allow it, so that slices look as doctors expect.

    napari draws slices of turned images askew, so those are placed as if their own axes were the world's: images that
    are turned alike still lie right to one another. What networks look at are slices of the array anyway. `GRID_KEY`
    keeps the truth.

    Returns
    -------
    dict
        Keyword arguments of a layer.
    """
    matrix = grid.affine[: grid.ndim][::-1]
    scale = np.diagonal(matrix)
    if np.allclose(np.abs(scale), grid.spacing, rtol=_STRAIGHT):
        return {"scale": scale.tolist(), "translate": matrix[:, -1].tolist(), "units": "mm"}
    along_axes = np.linalg.solve(np.array(grid.direction), grid.origin)
    return {"scale": list(grid.spacing), "translate": along_axes.tolist(), "units": "mm"}


def displayed_axes(dims: Dims, ndim: int) -> tuple[int, ...]:
    """Which axes of a layer the viewer shows; layers with fewer axes than the viewer have its last ones."""
    offset = dims.ndim - ndim
    return tuple(axis - offset for axis in dims.displayed if axis >= offset)


def obstacle(dims: Dims, ndim: int) -> str:
    """Why no prompts can be given on what the viewer shows of an image with `ndim` axes; empty if they can."""
    if dims.ndisplay == 3:
        return NOT_IN_3D
    return "" if len(displayed_axes(dims, ndim)) == 2 else NO_SLICE


def hidden_axis(dims: Dims, ndim: int) -> int | None:
    """The axis across the displayed slices of a volume; None for a flat image or a display in 3D."""
    shown = displayed_axes(dims, ndim)
    return next(a for a in range(3) if a not in shown) if ndim == 3 and len(shown) == 2 else None


def current_slice(image: ImageView | Layer, dims: Dims) -> int | None:
    """Index, along `hidden_axis`, of the slice that the viewer shows of a volume."""
    axis = hidden_axis(dims, image.ndim)
    if axis is None:
        return None
    inverse = np.linalg.inv(matrix_of(image))
    world = dims.point[dims.ndim - image.ndim :]
    return int(np.rint(inverse[axis, axis] * world[axis] + inverse[axis, -1]))


def seen_index(image: ImageView | Layer, world: np.ndarray, shown: tuple[int, ...]) -> np.ndarray:
    """Index coordinates of what is seen at a world position.

    For transforms that turn or shear displayed axes into hidden ones this differs from ``image.world_to_data``: napari
    draws a whole slice of the array flat, without the part of the transform that leads out of it.

    Parameters
    ----------
    image : ImageView or Layer
    world : ndarray
        Positions (N, ndim).
    shown : tuple of int
        The displayed axes.

    Returns
    -------
    ndarray
        (N, ndim); whole numbers along the hidden axes.
    """
    matrix = matrix_of(image)
    inverse = np.linalg.inv(matrix)
    world = np.atleast_2d(world)
    index = np.empty_like(world, dtype=float)
    shown_axes = list(shown)
    hidden_axes = [axis for axis in range(image.ndim) if axis not in shown]
    inside = matrix[np.ix_(shown_axes, shown_axes)]
    index[:, shown_axes] = np.linalg.solve(inside, (world[:, shown_axes] - matrix[shown_axes, -1]).T).T
    across = inverse[np.ix_(hidden_axes, hidden_axes)]
    index[:, hidden_axes] = np.rint(world[:, hidden_axes] @ across.T + inverse[hidden_axes, -1])
    return index


def to_world(layer: ImageView | Layer, coordinates: np.ndarray) -> np.ndarray:
    """World positions (N, ndim) of data coordinates (N, ndim) of a layer."""
    matrix = matrix_of(layer)
    return np.atleast_2d(coordinates) @ matrix[:-1, :-1].T + matrix[:-1, -1]


def between(source: ImageView | Layer, target: ImageView | Layer, coordinates: np.ndarray) -> np.ndarray:
    """Data coordinates (N, ndim) of one layer as those of another at the same place of the world."""
    one, other = matrix_of(source), matrix_of(target)
    coordinates = np.atleast_2d(np.asarray(coordinates, float))
    if np.allclose(one, other):
        return coordinates
    matrix = np.linalg.solve(other, one)
    return coordinates @ matrix[:-1, :-1].T + matrix[:-1, -1]


def point_at_seen(layer: Layer, owner: Any, dims: Dims) -> None:
    """Have a layer count what the user points at to the displayed slice of an image; see `seen_index`.

    Where slices are turned or sheared, napari itself counts it to other ones: it does not show what is drawn, and fails
    while a rectangle is.

    Parameters
    ----------
    layer : Layer
        Of prompts.
    owner : object
        Has the image that lies under it as ``image``; held weakly, since napari keeps some layers after they are gone.
    dims : Dims
        Of the viewer.
    """
    plain, held = layer.world_to_data, weakref.ref(owner)

    def world_to_data(position: Sequence[float]) -> np.ndarray:
        owner = held()
        shown = displayed_axes(dims, layer.ndim)
        if owner is None or len(shown) != 2 or len(position) < layer.ndim:
            return plain(position)
        under = owner.image
        world = np.asarray(position, float)[-layer.ndim :]
        return between(under, layer, seen_index(under, world, shown))[0]

    layer.world_to_data = world_to_data


def box_of(vertices: np.ndarray, axis: int | None, span: tuple[int, int] | None = None) -> Box:
    """The voxels that a drawn shape's bounding rectangle touches.

    Parameters
    ----------
    vertices : ndarray
        (N, ndim) index coordinates; a voxel reaches half a voxel to each side of its index.
    axis : int or None
        The axis across the slice it was drawn on; None for flat images.
    span : tuple of int, optional
        First and last slice of a box across slices; the slice it was drawn on without.
    """
    low = np.floor(vertices.min(0) + 0.5 + _EDGE).astype(int)
    high = np.maximum(np.ceil(vertices.max(0) + 0.5 - _EDGE).astype(int), low + 1)
    if axis is not None:
        first = last = int(np.rint(vertices[:, axis].mean()))
        if span is not None:
            first, last = min(span), max(span)
        low[axis], high[axis] = first, last + 1
    return Box(tuple(map(int, low)), tuple(map(int, high)))


def rectangle_of(box: Box, axis: int | None, index: int = 0) -> np.ndarray:
    """Four vertices (4, ndim) around the voxels of a box, on slice ``index`` across ``axis``."""
    rows, columns = (a for a in range(box.ndim) if a != axis)
    vertices = np.full((4, box.ndim), float(index))
    vertices[:, rows] = np.array([box.low[rows], box.low[rows], box.high[rows], box.high[rows]]) - 0.5
    vertices[:, columns] = np.array([box.low[columns], box.high[columns], box.high[columns], box.low[columns]]) - 0.5
    return vertices


def _millimetres(layer: ImageView | Layer) -> tuple[float, ...]:
    """How many millimetres one unit of the world is, along each axis."""
    return tuple(float((1 * unit).to("mm").magnitude) if unit.is_compatible_with("mm") else 1.0 for unit in layer.units)
