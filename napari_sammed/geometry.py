"""Where voxels lie: boxes of an image, its grid in the world, and the grid on which a network samples it.

The only place for such maths. Index coordinates are in array order, 0-based, with voxel centres on integers:
``(z, y, x)`` for a volume, ``(y, x)`` for a flat image. World coordinates are millimetres in LPS (x to the patient's
left, y to posterior, z to superior), as in DICOM and SimpleITK.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass

import numpy as np

from napari_sammed.errors import InputError

_UNIT_TOLERANCE = 1e-3  # headers store directions in 32 bits or as a few decimals
_SINGULAR = 1e-4  # |determinant| of unit columns under which two axes (nearly) coincide


@dataclass(frozen=True)
class Box:
    """A half-open box of index coordinates; as a prompt, "the object lies in here".

    Parameters
    ----------
    low, high : tuple of int
        First index inside and first index outside along each array axis, ``(z, y, x)`` or ``(y, x)``. A slice of a
        volume is a box of thickness one.

    Raises
    ------
    InputError
        If the box is empty, reversed, or its corners differ in length.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", _integers(self.low, "low corner of a box"))
        object.__setattr__(self, "high", _integers(self.high, "high corner of a box"))
        if len(self.low) != len(self.high):
            raise InputError(f"The corners of a box differ in length: low {self.low}, high {self.high}.")
        if any(h <= lo for lo, h in zip(self.low, self.high, strict=True)):
            raise InputError(
                f"The box from {self.low} to {self.high} is empty or reversed: "
                "each high index must exceed the low one (the high corner is one past the last voxel)."
            )

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """The box of a whole array."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def around(cls, indices: np.ndarray, margin: int = 0) -> Box:
        """The smallest box of all voxels nearest to ``indices`` (N, ndim), ``margin`` voxels wider on each side."""
        indices = nearest_voxel(np.atleast_2d(indices))
        return cls(tuple(indices.min(0) - margin), tuple(indices.max(0) + 1 + margin))

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Box | None:
        """The tight box of the true voxels, or None for an empty mask."""
        low, high = [], []
        rest = mask  # with earlier axes folded away, so that all voxels are read twice instead of once an axis
        for _ in range(mask.ndim):
            line = np.flatnonzero(rest.any(axis=tuple(range(1, rest.ndim))))
            if line.size == 0:
                return None
            low.append(int(line[0]))
            high.append(int(line[-1]) + 1)
            rest = rest.any(axis=0)
        return cls(tuple(low), tuple(high))

    @property
    def ndim(self) -> int:
        return len(self.low)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(h - lo for lo, h in zip(self.low, self.high, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index an array with this to get the part inside the box."""
        return tuple(slice(lo, h) for lo, h in zip(self.low, self.high, strict=True))

    @property
    def thin_axes(self) -> tuple[int, ...]:
        """Axes along which the box is one voxel thick."""
        return tuple(axis for axis, size in enumerate(self.shape) if size == 1)

    def contains(self, index: Sequence[float]) -> bool:
        """Whether the voxel nearest to a point lies in the box."""
        self._check_ndim(len(index))
        nearest = nearest_voxel(np.asarray(index))
        return bool((nearest >= self.low).all() and (nearest < self.high).all())

    def intersect(self, other: Box) -> Box | None:
        """The common part, or None where there is none."""
        self._check_ndim(other.ndim)
        low = tuple(map(max, self.low, other.low))
        high = tuple(map(min, self.high, other.high))
        return Box(low, high) if all(a < b for a, b in zip(low, high, strict=True)) else None

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        self._check_ndim(other.ndim)
        return Box(tuple(map(min, self.low, other.low)), tuple(map(max, self.high, other.high)))

    def grow(self, margin: int | Sequence[int]) -> Box:
        """The box with ``margin`` voxels more on every side (per axis when a sequence is given)."""
        margins = tuple(np.broadcast_to(margin, self.ndim).tolist())
        return Box(
            tuple(lo - m for lo, m in zip(self.low, margins, strict=True)),
            tuple(h + m for h, m in zip(self.high, margins, strict=True)),
        )

    def shift(self, offset: Sequence[int]) -> Box:
        """The box moved by whole voxels."""
        return Box(
            tuple(lo + o for lo, o in zip(self.low, offset, strict=True)),
            tuple(h + o for h, o in zip(self.high, offset, strict=True)),
        )

    def _check_ndim(self, ndim: int) -> None:
        if ndim != self.ndim:
            raise InputError(
                f"The box from {self.low} to {self.high} has {self.ndim} axes, but {ndim} are needed here."
            )


@dataclass(frozen=True)
class Grid:
    """The grid of an image: how many voxels, how far apart, where in the world, which way round.

    Parameters
    ----------
    shape : tuple of int
        Voxels along each array axis, ``(z, y, x)`` or ``(y, x)``.
    spacing : tuple of float
        Distance of neighbouring voxel centres along each array axis, mm, positive.
    origin : tuple of float
        World position of voxel 0, LPS mm, in the order (x, y, z).
    direction : tuple of tuple of float
        Matrix whose columns are the world directions (unit vectors, rows in the order x, y, z) of the *array* axes.
        SimpleITK's direction has its columns the other way round; `from_itk` and `itk_direction` convert.
    mirrored : bool
        Whether the array may be a mirror image of the world (a left-handed direction: LAS files are). Without it a
        left-handed direction is taken for a mistake and refused.

    Raises
    ------
    InputError
        For shapes, spacings or directions that cannot be, with the value in the message.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[tuple[float, ...], ...]
    mirrored: InitVar[bool] = False

    def __post_init__(self, mirrored: bool) -> None:
        shape = _integers(self.shape, "shape")
        n = len(shape)
        if n not in (2, 3):
            raise InputError(f"A grid has 2 or 3 axes, not {n} (shape {shape}).")
        if min(shape) < 1:
            raise InputError(f"The shape {shape} has an axis without voxels.")
        spacing = _finite(self.spacing, n, "spacing")
        if min(spacing) <= 0:
            raise InputError(f"The spacing {spacing} mm is not positive: a flipped axis belongs into the direction.")
        origin = _finite(self.origin, n, "origin")
        rows = (
            tuple(_finite(row, n, "row of the direction") for row in self.direction)
            if np.iterable(self.direction)
            else ()
        )
        if len(rows) != n:
            raise InputError(f"The direction {self.direction} is not a {n} x {n} matrix.")
        matrix = np.array(rows)
        lengths = np.linalg.norm(matrix, axis=0)
        if np.abs(lengths - 1).max() > _UNIT_TOLERANCE:
            raise InputError(f"The columns of the direction {rows} have lengths {tuple(lengths.round(6))}, not 1.")
        determinant = float(np.linalg.det(matrix[:, ::-1]))  # handedness in the order x, y, z
        if abs(determinant) < _SINGULAR:
            raise InputError(f"The direction {rows} is singular (determinant {determinant:.2g}): two axes coincide.")
        if determinant < 0 and not mirrored:
            raise InputError(
                f"The direction {rows} is left-handed (determinant {determinant:.2f} in the order x, y, z): "
                "an axis is flipped or swapped. Pass mirrored=True if the array really is a mirror image."
            )
        for name, value in (("shape", shape), ("spacing", spacing), ("origin", origin), ("direction", rows)):
            object.__setattr__(self, name, value)

    @classmethod
    def plain(cls, shape: Sequence[int], spacing: Sequence[float] | None = None) -> Grid:
        """The grid of an array that has no place in the world: origin 0, x along the last axis, z along the first."""
        n = len(shape)
        eye = tuple(map(tuple, np.eye(n)[:, ::-1]))
        return cls(tuple(shape), (1.0,) * n if spacing is None else tuple(spacing), (0.0,) * n, eye)

    @classmethod
    def from_affine(cls, shape: Sequence[int], affine: np.ndarray) -> Grid:
        """The grid of an array whose index-to-world matrix is known.

        Parameters
        ----------
        shape : sequence of int
        affine : ndarray, (n+1, n+1)
            Homogeneous matrix from index coordinates (array order) to LPS mm. Column lengths become the spacing, so
            flips end in the direction; mirror images are allowed, as the matrix says so outright.
        """
        affine = np.asarray(affine, float)
        n = len(shape)
        if affine.shape != (n + 1, n + 1) or not np.isfinite(affine).all():
            raise InputError(f"An affine for {n} axes is a finite {n + 1} x {n + 1} matrix, not {affine.tolist()}.")
        columns = affine[:n, :n]
        spacing = np.linalg.norm(columns, axis=0)
        if spacing.min() <= 0:
            raise InputError(f"The affine has a zero column: its spacing is {tuple(spacing.round(6))}.")
        direction = tuple(map(tuple, columns / spacing))
        return cls(tuple(shape), tuple(spacing), tuple(affine[:n, n]), direction, mirrored=True)

    @classmethod
    def from_itk(
        cls, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
    ) -> Grid:
        """The grid of a SimpleITK image, whose size, spacing and direction columns are in the order (x, y, z)."""
        n = len(size)
        matrix = np.reshape(np.asarray(direction, float), (n, n))[:, ::-1]
        return cls(tuple(size)[::-1], tuple(spacing)[::-1], tuple(origin), tuple(map(tuple, matrix)), mirrored=True)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def box(self) -> Box:
        """The box of the whole grid."""
        return Box.of_shape(self.shape)

    @property
    def matrix(self) -> np.ndarray:
        """Direction times spacing, (n, n): one voxel step along each array axis, in mm."""
        return np.array(self.direction) * np.array(self.spacing)

    @property
    def affine(self) -> np.ndarray:
        """Homogeneous matrix (n+1, n+1) from index coordinates (array order) to LPS mm."""
        affine = np.eye(self.ndim + 1)
        affine[:-1, :-1] = self.matrix
        affine[:-1, -1] = self.origin
        return affine

    @property
    def itk_direction(self) -> tuple[float, ...]:
        """The direction as SimpleITK wants it: row-major, columns in the order x, y, z."""
        return tuple(np.array(self.direction)[:, ::-1].ravel())

    @property
    def voxel_volume(self) -> float:
        """Volume (mm³) or area (mm²) of one voxel; exact for sheared grids too."""
        return abs(float(np.linalg.det(self.matrix)))

    @property
    def is_orthogonal(self) -> bool:
        """Whether the axes are perpendicular (file formats cannot store anything else)."""
        matrix = np.array(self.direction)
        return bool(np.allclose(matrix.T @ matrix, np.eye(self.ndim), atol=_UNIT_TOLERANCE))

    def to_world(self, index: np.ndarray) -> np.ndarray:
        """LPS mm of index coordinates; ``index`` is (..., ndim) in array order."""
        return np.asarray(index, float) @ self.matrix.T + np.array(self.origin)

    def to_index(self, world: np.ndarray) -> np.ndarray:
        """Index coordinates (array order, not rounded) of LPS mm; ``world`` is (..., ndim)."""
        return np.linalg.solve(self.matrix, (np.asarray(world, float) - self.origin)[..., None])[..., 0]

    def crop(self, box: Box) -> Grid:
        """The grid of the part inside ``box``, which may reach beyond the image."""
        box._check_ndim(self.ndim)
        return self._with(box.shape, self.spacing, self.to_world(np.array(box.low)))

    def resample(self, shape: Sequence[int]) -> Grid:
        """The grid that covers the same field of view with other voxel counts.

        Outer *edges* coincide, not centres: voxel i of n covers the part [i/n, (i+1)/n] of the extent, as image
        resizing without corner alignment does.
        """
        shape = _integers(shape, "shape")
        if len(shape) != self.ndim or min(shape) < 1:
            raise InputError(f"A grid of shape {self.shape} cannot be sampled with the shape {shape}.")
        ratio = np.array(self.shape) / np.array(shape)
        return self._with(shape, np.array(self.spacing) * ratio, self.to_world((ratio - 1) / 2))

    def same_place(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether all corner voxels of two equally shaped grids lie within ``tolerance`` voxels of each other."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*((0, size - 1) for size in self.shape))))
        return bool(np.abs(self.to_index(other.to_world(corners)) - corners).max() <= tolerance)

    def _with(self, shape: Sequence[int], spacing: Iterable[float], origin: Iterable[float]) -> Grid:
        return Grid(tuple(shape), tuple(spacing), tuple(origin), self.direction, mirrored=True)


@dataclass(frozen=True)
class Region:
    """What a network looks at: a box of the image grid, and the grid on which it samples it.

    Parameters
    ----------
    box : Box
        The part of the image grid that the answer may change.
    grid : Grid
        The sampling grid. For an axis-aligned crop it is ``image_grid.crop(box).resample(shape)``; for a network with
        its own orientation and spacing, any grid.
    """

    box: Box
    grid: Grid

    @classmethod
    def of_box(cls, image: Grid, box: Box, shape: Sequence[int]) -> Region:
        """``box`` of the image grid seen with ``shape`` samples along its axes."""
        return cls(box, image.crop(box).resample(shape))


def nearest_voxel(index: np.ndarray) -> np.ndarray:
    """Indices, int, of the voxels that points lie in: voxel i reaches from i - 1/2 (included) to i + 1/2 (excluded)."""
    return np.floor(np.asarray(index, float) + 0.5).astype(int)


def _integers(values: Iterable[float], what: str) -> tuple[int, ...]:
    try:
        values = tuple(values)
        rounded = tuple(int(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"The {what} must be whole numbers, not {values}.") from None
    if any(r != v for r, v in zip(rounded, values, strict=True)):
        raise InputError(f"The {what} must be whole numbers, not {values}.")
    return rounded


def _finite(values: Iterable[float], n: int, what: str) -> tuple[float, ...]:
    try:
        result = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise InputError(f"The {what} must be {n} finite numbers, not {values!r}.") from None
    if len(result) != n or not np.isfinite(result).all():
        raise InputError(f"The {what} must be {n} finite numbers, not {result}.")
    return result
