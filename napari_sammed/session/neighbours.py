"""What finished objects beside it say about an object: points well inside of them are not part of it.

A finished object is a locked one. The points go to the model with the object's own prompts, and are written down with
the question, so that nothing that becomes of the neighbours later changes what was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from napari_sammed.backend.masks import cut
from napari_sammed.backend.slicing import extent_of
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point, Prompt, Prompts
from napari_sammed.session.actions import ObjectState

MOST = 4
"""Neighbours that are told of, the nearest ones."""

_REACH_3D = 50.0  # mm around the prompts of a volume; models of volumes look at more than that
_REACH_2D = 0.25  # the same on slices and flat images, as a share of the longest side
_SIDE = 32  # samples along an axis, at most, in which a neighbour's depth is measured: a few ms
_DEEP = 0.5  # of the greatest depth: deep enough for the second point

Beside = tuple[tuple[int, Point], ...]
"""Labels of neighbours, and negative points in them."""


def beside(
    prompts: Prompts, region: Box | None, states: Iterable[ObjectState], label: int, grid: Grid, planar: bool
) -> Beside:
    """Points in the finished neighbours of an object.

    Parameters
    ----------
    prompts : Prompts
        What is asked about the object.
    region : Box or None
        Where the answer will be: a slice, or a part that is looked at closer.
    states : iterable of ObjectState
        All objects.
    label : int
        Of the object.
    grid : Grid
        Of the image.
    planar : bool
        Whether a model of slices will look at it.

    Returns
    -------
    tuple of int and Point
        One or two points for each of the `MOST` nearest ones; empty without any positive prompt to be near to.
    """
    own = [item for item in prompts if getattr(item, "positive", True)]
    if not own:
        return ()
    near = _near(own, region or grid.box, grid, planar)
    found = []
    for state in states:
        part = cut(state.mask, near) if state.locked and state.label != label else None
        if part is None or any(_marks(item, part.mask, part.offset) for item in own):
            continue  # whoever clicks on a finished object means what they do
        points, distance = _inside(part.mask, part.offset, _middle(own), grid)
        found.append((distance, state.label, points))
    return tuple((number, point) for _, number, points in sorted(found)[:MOST] for point in points)


def told(given: Beside, names: dict[int, str]) -> str:
    """A sentence on the points, for the user; empty without any."""
    if not given:
        return ""
    labels = list(dict.fromkeys(label for label, _ in given))
    who = [names.get(label, f"object {label}") for label in labels]
    listed = who[0] if len(who) == 1 else f"{', '.join(who[:-1])} and {who[-1]}"
    points = "One point" if len(given) == 1 else f"{len(given)} points"
    return f"{points} inside of {listed}, finished, told the model what is not the object."


def _near(own: Sequence[Prompt], region: Box, grid: Grid, planar: bool) -> Box:
    """The part of the region that is near to the prompts."""
    extent = extent_of(own[0])
    for item in own[1:]:
        extent = extent.union(extent_of(item))
    if planar or grid.ndim == 2:
        sides = [size for size in region.shape if size > 1] or [1]
        reach = [round(_REACH_2D * max(sides))] * grid.ndim
    else:
        reach = [round(_REACH_3D / step) for step in grid.spacing]
    return extent.grow(reach).intersect(region) or region


def _marks(item: Prompt, mask: np.ndarray, offset: Sequence[int]) -> bool:
    """Whether a click lies in a mask."""
    if not isinstance(item, Point):
        return False
    place = tuple(round(value) - low for value, low in zip(item.index, offset, strict=True))
    inside = all(0 <= value < size for value, size in zip(place, mask.shape, strict=True))
    return inside and bool(mask[place])


def _middle(own: Sequence[Prompt]) -> np.ndarray:
    boxes = [extent_of(item) for item in own]
    return np.mean([(np.add(box.low, box.high) - 1) / 2 for box in boxes], axis=0)


def _inside(mask: np.ndarray, offset: Sequence[int], middle: np.ndarray, grid: Grid) -> tuple[list[Point], float]:
    """The innermost voxel of a mask, one nearer to a place if that is another, and how far this one is in mm."""
    steps = [-(-size // _SIDE) for size in mask.shape]
    seen = mask[tuple(slice(step // 2, None, step) for step in steps)]
    starts = [step // 2 for step in steps]
    if not seen.any():  # too thin for the samples
        seen, steps, starts = mask, [1] * mask.ndim, [0] * mask.ndim
    sampling = np.multiply(grid.spacing, steps)
    around = [(int(size > 1),) * 2 for size in seen.shape]  # on a single slice, depth is measured in the slice
    depth = ndimage.distance_transform_edt(np.pad(seen, around), sampling=sampling)
    depth = depth[tuple(slice(n, n + size) for (n, _), size in zip(around, seen.shape, strict=True))]
    places = np.argwhere(depth >= _DEEP * depth.max())
    indices = places * steps + starts + offset
    distances = np.linalg.norm((indices - middle) * grid.spacing, axis=1)
    deepest = int(np.argmax(depth[tuple(places.T)]))
    nearest = int(np.argmin(distances))
    points = [Point(tuple(map(float, indices[nearest])), False)]
    apart = np.linalg.norm((indices[nearest] - indices[deepest]) * grid.spacing)
    if apart > depth.max():
        points.insert(0, Point(tuple(map(float, indices[deepest])), False))
    return points, float(distances[nearest])
