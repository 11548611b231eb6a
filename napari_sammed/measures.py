"""What a radiologist measures of a segmented object: volume, diameters, grey values, place.

Diameters follow RECIST 1.1 (Eisenhauer et al., Eur J Cancer 2009): the longest one in a slice of the acquisition plane,
and the longest one perpendicular to it in the same slice (the second one of the WHO criteria). They are taken between
points of the outline at half height, half a voxel outside of the outermost voxel centres, where marching squares and
the meshes of the Image Biomarker Standardisation Initiative have it too: a row of n voxels is n voxels long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy.spatial import ConvexHull

from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import MaskPrompt
from napari_sammed.volume import Volume

_MOST_READ = 1 << 27  # voxels around an object that are read from disk for its grey values

Line: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Two end points in index coordinates of the image."""


@dataclass(frozen=True)
class Diameters:
    """The longest diameter in a slice, and its longest perpendicular in the same slice.

    Parameters
    ----------
    longest, perpendicular : float
        mm; 0 for an empty mask.
    longest_line, perpendicular_line : tuple, optional
        Their end points, index coordinates (array order); None for an empty mask.
    """

    longest: float = 0.0
    perpendicular: float = 0.0
    longest_line: Line | None = None
    perpendicular_line: Line | None = None


@dataclass(frozen=True)
class Measures:
    """Measures of one mask; those of an empty one are 0, NaN for grey values, None for places.

    Parameters
    ----------
    voxels : int
    slices : int
        Slices of the acquisition plane with a voxel of the mask.
    volume_ml : float or None
        None for flat images.
    area_mm2 : float or None
        None for volumes.
    diameters : Diameters
    mean, deviation, minimum, maximum : float
        Of the image's grey values (the mean of the channels of a colour image) in the mask; the standard deviation is
        that of the voxels themselves, not an estimate from a sample. Voxels that are not finite are left out. NaN for
        objects in images read by region that would take too long to read.
    centroid : tuple of float or None
        Index coordinates (array order).
    centroid_mm : tuple of float or None
        LPS mm, in the order (x, y, z).
    box : Box or None
        The smallest one that holds the mask.
    """

    voxels: int = 0
    slices: int = 0
    volume_ml: float | None = None
    area_mm2: float | None = None
    diameters: Diameters = field(default_factory=Diameters)
    mean: float = math.nan
    deviation: float = math.nan
    minimum: float = math.nan
    maximum: float = math.nan
    centroid: tuple[float, ...] | None = None
    centroid_mm: tuple[float, ...] | None = None
    box: Box | None = None


def measure(mask: MaskPrompt | None, image: Volume, axis: int | None = None) -> Measures:
    """Measure one mask on the grid of its image.

    Parameters
    ----------
    mask : MaskPrompt or None
        None for an empty one. Must lie inside of the image.
    image : Volume
    axis : int, optional
        Across the slices of the acquisition plane; default `acquisition_axis`.
    """
    grid = image.grid
    size = grid.voxel_volume
    if mask is None:
        return Measures(volume_ml=0.0) if grid.ndim == 3 else Measures(area_mm2=0.0)
    voxels = int(np.count_nonzero(mask.mask))
    profiles = [_profile(mask.mask, along) for along in range(grid.ndim)]
    centroid = tuple(
        float(low + profile @ np.arange(len(profile)) / voxels)
        for low, profile in zip(mask.offset, profiles, strict=True)
    )
    across = (acquisition_axis(grid) if axis is None else axis) if grid.ndim == 3 else None
    return Measures(
        voxels=voxels,
        slices=1 if across is None else int(np.count_nonzero(profiles[across])),
        volume_ml=voxels * size / 1000 if grid.ndim == 3 else None,
        area_mm2=voxels * size if grid.ndim == 2 else None,
        diameters=diameters(mask, grid, across),
        **_intensity(mask, image),
        centroid=centroid,
        centroid_mm=tuple(grid.to_world(np.array(centroid)).tolist()),
        box=mask.extent,
    )


def acquisition_axis(grid: Grid) -> int:
    """The axis across the slices that a volume was acquired in: that of the widest spacing, else the first one."""
    return int(np.argmax(np.round(grid.spacing, 3)))


def diameters(mask: MaskPrompt, grid: Grid, axis: int | None = None) -> Diameters:
    """The longest diameter of a mask over all slices, and its longest perpendicular in the same slice.

    Parameters
    ----------
    mask : MaskPrompt
    grid : Grid
        Of the image; its slices may be oblique, even sheared.
    axis : int, optional
        Across the slices; default `acquisition_axis`. Flat images have one slice only.

    Notes
    -----
    Both lines lie between points of the outline's convex hull, so that of a bent object they may leave it in between,
    as calipers do.
    """
    axis = acquisition_axis(grid) if axis is None and grid.ndim == 3 else axis
    in_plane = [a for a in range(grid.ndim) if a != axis]
    plane = np.linalg.qr(grid.matrix[:, in_plane], mode="r").T  # index steps -> mm in the plane, angles kept
    slices = np.moveaxis(mask.mask, axis, 0) if grid.ndim == 3 else mask.mask[None]
    offset = np.array(mask.offset)[in_plane]
    best, found, where = 0.0, None, 0
    for index, outline in _outlines(slices):
        sides = np.abs(np.ptp(outline, axis=0) @ np.abs(plane))
        if float(np.hypot(*sides)) <= best:
            continue  # not even its bounding box is as long
        hull = outline[ConvexHull(outline @ plane).vertices]
        length, ends = _longest(hull @ plane)
        if length > best:
            best, found, where = length, (hull, ends), index
    if found is None:
        return Diameters()
    hull, ends = found
    width, across = _perpendicular(hull @ plane, ends)

    def line(points: np.ndarray) -> Line:
        places = points + offset
        if grid.ndim == 3:
            places = np.insert(places, axis, where + mask.offset[axis], axis=1)
        return tuple(map(tuple, places.tolist()))

    return Diameters(best, width, line(hull[list(ends)]), line(across @ np.linalg.inv(plane)))


def _profile(mask: np.ndarray, axis: int) -> np.ndarray:
    """Voxels of a mask in each of its slices across an axis."""
    return np.count_nonzero(mask, axis=tuple(a for a in range(mask.ndim) if a != axis))


def _intensity(mask: MaskPrompt, image: Volume) -> dict[str, float]:
    if not image.in_memory and mask.mask.size > _MOST_READ:
        return {}
    values = image.part(mask.extent)[mask.mask].astype(np.float64)
    if values.ndim > 1:
        values = values.mean(-1)
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
    }


def _outlines(slices: np.ndarray):
    """Index of each slice that is not empty, and its outermost points (N, 2) at half height.

    The first and the last voxel of every row and column are enough for the convex hull.
    """
    ends = []
    for along in (1, 2):
        filled = slices.any(axis=along)
        first = slices.argmax(axis=along) - 0.5
        last = slices.shape[along] - 0.5 - np.flip(slices, axis=along).argmax(axis=along)
        ends.append((filled, first, last))
    (columns, top, bottom), (rows, left, right) = ends
    for index in np.flatnonzero(rows.any(axis=1)):
        x, y = np.flatnonzero(columns[index]), np.flatnonzero(rows[index])
        pieces = [(top[index, x], x), (bottom[index, x], x), (y, left[index, y]), (y, right[index, y])]
        yield int(index), np.concatenate([np.column_stack(piece) for piece in pieces])


def _longest(hull: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Length of the longest line between corners (N, 2) of a hull, and the numbers of its two corners."""
    distances = ((hull[:, None] - hull[None]) ** 2).sum(-1)  # of voxels, a hull has dozens of corners, hundreds at most
    one, other = np.unravel_index(np.argmax(distances), distances.shape)
    return float(np.sqrt(distances[one, other])), (int(one), int(other))


def _perpendicular(hull: np.ndarray, ends: tuple[int, int]) -> tuple[float, np.ndarray]:
    """Length and end points (2, 2) of a hull's longest chord across the line between two of its corners.

    A convex outline is widest across a direction at one of its corners.
    """
    start, stop = hull[list(ends)]
    along = (stop - start) / np.linalg.norm(stop - start)
    across = np.array([-along[1], along[0]])
    t, s = (hull - start) @ along, (hull - start) @ across
    one, other = sorted(ends)
    numbers = np.arange(len(hull))
    chains = [numbers[one : other + 1], np.concatenate([numbers[other:], numbers[: one + 1]])]
    sides = []
    for chain in chains:
        ordered = chain[np.argsort(t[chain], kind="stable")]
        sides.append(np.interp(t, t[ordered], s[ordered]))
    widths = np.abs(sides[0] - sides[1])
    widest = int(np.argmax(widths))
    points = np.array([start + t[widest] * along + side[widest] * across for side in sides])
    return float(widths[widest]), points
