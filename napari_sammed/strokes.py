"""Strokes as prompts: thin scribbles, and what a brush or an eraser of some width has painted.

In index coordinates of the image array, as all prompts (`napari_sammed.prompts`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, nearest_voxel

WIDEST = 10_000.0
"""Largest radius of a stroke in voxels."""

_EDGE = 1e-9  # voxels; a voxel centre on the rim belongs to the disc


@dataclass(frozen=True)
class Stroke:
    """What was drawn along a polyline: the voxels under it belong to the object (positive) or do not.

    A thin stroke is a hint like a click. A thick one (of a brush or an eraser) also is a promise: where it was painted
    the object is, or is not, whatever a model says.

    Parameters
    ----------
    points : tuple of tuple of float
        Vertices in index coordinates, in drawing order; at least one. A single one with a radius is a dab.
    positive : bool
    radius : float
        Of the brush, in voxels of the slice that it was drawn on; 0 for a thin stroke, which may lead through slices.
    axis : int, optional
        For thick strokes in volumes: the array axis across the slice, which they do not leave. Default: the first one
        along which all vertices lie in one slice.

    Raises
    ------
    InputError
        Without vertices, for coordinates that are not finite, for a radius below 0 or above `WIDEST`, and for a thick
        stroke that is not drawn on one slice.
    """

    points: tuple[tuple[float, ...], ...]
    positive: bool = True
    radius: float = 0.0
    axis: int | None = None

    def __post_init__(self) -> None:
        points = tuple(coordinates(p, "stroke vertex") for p in self.points)
        if not points:
            raise InputError("A stroke needs at least one vertex.")
        if len({len(p) for p in points}) > 1:
            raise InputError(f"The vertices of a stroke differ in dimension: {points[:3]} ...")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "radius", _radius(self.radius))
        object.__setattr__(self, "axis", self._across() if self.radius else None)

    @property
    def ndim(self) -> int:
        return len(self.points[0])

    @property
    def line(self) -> Box:
        """The box around the voxels under the polyline."""
        return Box.around(np.array(self.points))

    @property
    def extent(self) -> Box:
        """The box around the voxels that the stroke marks; that of a thick one may reach beyond the image."""
        return self.line if not self.radius else self.line.union(_reach(np.array(self.points), self.radius, self.axis))

    def voxels(self) -> np.ndarray:
        """Indices (N, ndim), int, of the voxels under the polyline, without repeats, in drawing order."""
        vertices = np.array(self.points)
        pieces = [vertices[:1]]
        for start, stop in itertools.pairwise(vertices):
            steps = max(int(np.ceil(2 * np.abs(stop - start).max())), 1)  # half a voxel, so that none is skipped
            pieces.append(start + (stop - start) * np.linspace(0, 1, steps + 1)[1:, None])
        indices = nearest_voxel(np.concatenate(pieces))
        _, first = np.unique(indices, axis=0, return_index=True)
        return indices[np.sort(first)]

    def spread(self, count: int) -> np.ndarray:
        """At most ``count`` voxels (N, ndim) of the stroke, evenly spaced along it, and none within another's radius.

        Dense neighbouring points confuse networks that were trained on few clicks; a handful of spread ones does not.
        """
        voxels = self.voxels()
        picks = np.unique(np.linspace(0, len(voxels) - 1, min(count, len(voxels)) + 2).round().astype(int)[1:-1])
        chosen = voxels[picks] if len(voxels) > 2 else voxels
        if not self.radius:
            return chosen
        kept: list[np.ndarray] = []
        for voxel in chosen:  # a brush goes to and fro, so that places far along it may lie side by side
            if all(np.linalg.norm(voxel - other) > self.radius for other in kept):
                kept.append(voxel)
        return np.array(kept)

    def footprint(self, within: Box) -> tuple[Box, np.ndarray] | None:
        """The voxels that the stroke marks, as far as they lie in a part of the image.

        Parameters
        ----------
        within : Box
            Such as the whole image.

        Returns
        -------
        tuple of Box and ndarray of bool, or None
            Where they lie, of thickness one in volumes if the stroke is thick, and which voxels of that box they are
            (read-only): those under the polyline, and those whose centres are no farther from it than the radius. None
            if there are none.
        """
        box = self.extent.intersect(within)
        mask = None if box is None else _swept(self, box)
        return None if box is None or mask is None or not mask.any() else (box, mask)

    def marks(self, index: Sequence[float]) -> bool:
        """Whether the voxel nearest to a point is one that the stroke marks."""
        return self.footprint(Box.around(np.array(index))) is not None

    def _across(self) -> int | None:
        flat = [axis for axis, size in enumerate(self.line.shape) if size == 1]
        if self.ndim == 2:
            if self.axis is not None:
                raise InputError(f"A stroke on a flat image lies across no axis, not across {self.axis!r}.")
            return None
        if not flat or (self.axis is not None and self.axis not in flat):
            where = "one slice" if self.axis is None else f"one slice across axis {self.axis}"
            raise InputError(
                f"A stroke with a radius stays in {where}, but this one reaches from {self.line.low} to "
                f"{self.line.high}: draw it on one slice, or with radius 0."
            )
        return flat[0] if self.axis is None else int(self.axis)


def coordinates(values: Sequence[float], what: str) -> tuple[float, ...]:
    """Index coordinates as a tuple of floats; InputError, which names what they are of, for anything else."""
    try:
        result = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise InputError(f"A {what} is a tuple of numbers, not {values!r}.") from None
    if len(result) not in (2, 3) or not np.isfinite(result).all():
        raise InputError(f"A {what} has 2 or 3 finite coordinates, not {result}.")
    return result


def _radius(value: float) -> float:
    try:
        radius = float(value)
    except (TypeError, ValueError):
        raise InputError(f"The radius of a stroke is a number of voxels, not {value!r}.") from None
    if not 0 <= radius <= WIDEST:
        raise InputError(f"The radius of a stroke is 0 to {WIDEST:g} voxels, not {radius:g}.")
    return radius


def _reach(points: np.ndarray, radius: float, axis: int | None) -> Box:
    """The box of all voxels whose centres may lie in a disc around one of the points."""
    reach = np.full(points.shape[1], radius + _EDGE)
    if axis is not None:
        reach[axis] = 0
    low, high = np.ceil(points.min(0) - reach), np.floor(points.max(0) + reach)
    if axis is not None:
        low[axis] = high[axis] = nearest_voxel(points[0])[axis]
    high = np.maximum(high, low)  # a small disc between voxel centres
    return Box(tuple(low.astype(int).tolist()), tuple((high + 1).astype(int).tolist()))


@lru_cache(maxsize=256)
def _swept(stroke: Stroke, box: Box) -> np.ndarray:
    """Which voxels of a box a stroke marks."""
    mask = np.zeros(box.shape, bool)
    voxels = stroke.voxels()
    inside = voxels[((voxels >= box.low) & (voxels < box.high)).all(axis=1)] - box.low
    mask[tuple(inside.T)] = True
    if stroke.radius:
        plane = [axis for axis in range(stroke.ndim) if axis != stroke.axis]
        flat = mask.reshape([box.shape[axis] for axis in plane])
        vertices = np.array(stroke.points)
        for start, stop in itertools.pairwise(vertices if len(vertices) > 1 else np.repeat(vertices, 2, axis=0)):
            _sweep(flat, box, plane, np.array([start, stop]), stroke.radius)
    mask.setflags(write=False)
    return mask


def _sweep(flat: np.ndarray, box: Box, plane: list[int], ends: np.ndarray, radius: float) -> None:
    """Mark, in a slice of a box, what a disc covers that moves along one piece of the polyline."""
    across = next((axis for axis in range(ends.shape[1]) if axis not in plane), None)
    window = _reach(ends, radius, across).intersect(box)
    if window is None:
        return
    start, way = ends[0][plane], (ends[1] - ends[0])[plane]
    rows, columns = (
        np.arange(window.low[axis], window.high[axis]) - first for axis, first in zip(plane, start, strict=True)
    )
    rows, columns = rows[:, None], columns[None]
    length = float(way @ way)
    share = np.clip((rows * way[0] + columns * way[1]) / length, 0, 1) if length else 0.0
    near = (rows - share * way[0]) ** 2 + (columns - share * way[1]) ** 2 <= (radius + _EDGE) ** 2
    part = window.shift([-low for low in box.low]).slices
    flat[tuple(part[axis] for axis in plane)] |= near
