"""Images that do not fit into memory: zarr, dask, memory maps, whatever slices like NumPy, read by region only.

A `LazyVolume` stands where a `Volume` does. Models and measures read the part that they look at (`LazyVolume.part`);
from a pyramid they read no finer level than they make use of. What needs statistics of the whole image takes them of a
sample, and the image is known again by a sample too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats import ome_zarr
from napari_sammed.formats.common import choose_frame, drop_opacity
from napari_sammed.geometry import Box, Grid
from napari_sammed.volume import Volume

READ_WHOLE = 1 << 30
"""Bytes of an image on disk that is read into memory as a whole; larger ones are read by region."""

READ_AT_ONCE = 1 << 30
"""Bytes of a part beyond which it is not read."""

_SAMPLE = 1 << 24  # voxels of the finest level that is still taken whole as a sample
_BLOCKS = 48  # where there is none, so many small blocks are
_BLOCK = 64  # voxels along the last two axes, one along the first: few chunks, however they are cut
_KNOWN_BY = 16  # blocks of the finest level that the image is known by


class Sliceable(Protocol):
    """An array elsewhere: slices of it, turned into NumPy arrays, are read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Any: ...


class LazyVolume(Volume):
    """An image that is read by region.

    Parameters
    ----------
    levels : sequence of Sliceable
        The image in rising coarseness, at least one; each covers the same extent. Shapes are those of the grid, with
        3 or 4 entries more along a last axis for colour.
    grid : Grid
        Of the first level.
    name, modality, files
        See `napari_sammed.volume.Volume`.

    Raises
    ------
    InputError
        For arrays that are no image, and levels that are not coarser versions of the first.
    """

    levels: tuple[Sliceable, ...]

    def __init__(
        self,
        levels: Sequence[Sliceable],
        grid: Grid,
        name: str = "",
        modality: str | None = None,
        files: tuple[Path | None, ...] = (),
    ) -> None:
        kind = np.dtype(levels[0].dtype).kind
        if kind not in "biuf":
            raise InputError(f"An image has integer or floating-point voxels, not {levels[0].dtype}.")
        for level in levels:
            shape, colours = tuple(level.shape[: grid.ndim]), tuple(level.shape[grid.ndim :])
            finer = any(size > most for size, most in zip(shape, grid.shape, strict=False))
            if len(shape) != grid.ndim or finer or colours not in ((), (3,), (4,)) or 0 in shape:
                raise InputError(f"An array of shape {level.shape} is no level of an image of shape {grid.shape}.")
        if tuple(levels[0].shape[: grid.ndim]) != grid.shape:
            raise InputError(f"An array of shape {levels[0].shape} does not lie on a grid of shape {grid.shape}.")
        settings = {"grid": grid, "name": name, "modality": modality, "files": files, "levels": tuple(levels)}
        for attribute, value in settings.items():
            object.__setattr__(self, attribute, value)

    @property
    def array(self) -> np.ndarray:  # type: ignore[override]
        """All voxels, read now: for what cannot do with less.

        Raises
        ------
        InputError
            If they are more than `READ_AT_ONCE`.
        """
        return self.part(self.grid.box)

    @property
    def in_memory(self) -> bool:
        """It is not; whoever can, reads a part."""
        return False

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 3 if len(self.levels[0].shape) > self.grid.ndim else 1

    @property
    def dtype(self) -> np.dtype:
        """Of the voxels."""
        dtype = np.dtype(self.levels[0].dtype)
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")

    @property
    def nbytes(self) -> int:
        """None: they are read and forgotten."""
        return 0

    def part(self, box: Box, samples: Sequence[int] | None = None) -> np.ndarray:
        """See `napari_sammed.volume.Volume.part`.

        Of a coarser level the voxels nearest to the box come, which may be half a voxel of that level away from it.

        Raises
        ------
        InputError
            For parts that are too large to be read, and for voxels that are NaN or infinite.
        """
        level = 0 if samples is None else self._level_for(box, samples)
        factors = self.factors[level]
        shape = self.levels[level].shape
        low, high = [], []
        for first, last, factor, size in zip(box.low, box.high, factors, shape, strict=False):
            start = int(first / factor + 0.5) if last - first > 1 else int((first + 0.5) / factor)
            start = min(start, size - 1)
            low.append(start)
            high.append(min(max(int(last / factor + 0.5), start + 1), size) if last - first > 1 else start + 1)
        return self._read(level, Box(tuple(low), tuple(high)))

    def around(self, box: Box, samples: Sequence[int]) -> tuple[np.ndarray, Grid]:
        """See `napari_sammed.volume.Volume.around`; errors as for `part`."""
        box = box.intersect(self.grid.box) or self.grid.box
        level = self._level_for(box, samples)
        factors, shape = np.array(self.factors[level]), self.levels[level].shape[: self.grid.ndim]
        low = np.floor(np.array(box.low) / factors).astype(int).clip(0, np.array(shape) - 1)
        high = np.ceil(np.array(box.high) / factors).astype(int).clip(low + 1, shape)
        inside = Box(tuple(low), tuple(high))
        return self._read(level, inside), self._grid_of(level).crop(inside)

    @cached_property
    def factors(self) -> tuple[tuple[float, ...], ...]:
        """How many voxels of the image one of each level stands for, along each axis."""
        return tuple(tuple(map(_factor, self.grid.shape, level.shape[: self.grid.ndim])) for level in self.levels)

    @cached_property
    def sample(self) -> np.ndarray:
        """The finest level that is small; of images without one, small blocks that lie all over the coarsest level.

        Without voxels that are NaN or infinite. Coarse levels have narrower extremes than the image.
        """
        for number, level in enumerate(self.levels):
            if np.prod(level.shape, dtype=np.int64) <= _SAMPLE:
                values = self._voxels(number, Box.of_shape(level.shape[: self.grid.ndim]))
                break
        else:
            values = np.stack(self._blocks(len(self.levels) - 1, _BLOCKS))
        finite = np.isfinite(values) if values.dtype.kind == "f" else np.True_
        return values if finite.all() else values[finite]

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Lowest and highest voxel of the sample."""
        sample = self.sample
        return (float(sample.min()), float(sample.max())) if sample.size else (np.nan, np.nan)

    @cached_property
    def hash(self) -> str:
        """Fingerprint (64 hexadecimal digits) of dtype, shape, grid, blocks all over the image, and the sample.

        Two images that differ elsewhere only would be taken for one; no voxel can be looked for in 10 GB at every
        opening.
        """
        result = hashlib.blake2b(digest_size=32)
        result.update(f"lazy {self.dtype.str} {self.levels[0].shape} {self.grid.affine.tolist()}".encode())
        for block in [*self._blocks(0, _KNOWN_BY), self.sample]:
            result.update(np.ascontiguousarray(block.astype(block.dtype.newbyteorder("<"), copy=False)).tobytes())
        return result.hexdigest()

    def check_usable(self) -> None:
        """Refuse images that have no usable voxel in the sample; the parts that are looked at are checked when read."""
        if not self.sample.size:
            raise InputError(
                f"The image {self.name} has no voxel that is a finite number: there is nothing to segment."
            )

    # ---- inside --------------------------------------------------------------------------------------------------

    def _level_for(self, box: Box, samples: Sequence[int]) -> int:
        """The coarsest level with at least so many voxels in a box; across a slice it may be as coarse as in it."""
        best = 0
        for number, factors in enumerate(self.factors):
            thick = [axis for axis, size in enumerate(box.shape) if size > 1]
            enough = all(box.shape[axis] / factors[axis] >= samples[axis] for axis in thick)
            within = max((factors[axis] for axis in thick), default=1)
            if enough and all(factor <= within for factor in factors):
                best = number
        return best

    def _grid_of(self, level: int) -> Grid:
        shape = self.levels[level].shape[: self.grid.ndim]
        covered = [round(size * factor) for size, factor in zip(shape, self.factors[level], strict=True)]
        return self.grid.crop(Box.of_shape(covered)).resample(shape)

    def _read(self, level: int, box: Box) -> np.ndarray:
        """Voxels of a level."""
        size = int(np.prod(box.shape, dtype=np.int64)) * self.dtype.itemsize * self.channels
        if size > READ_AT_ONCE:
            raise InputError(
                f"{size / 2**30:.1f} GiB of {self.name or 'the image'} would have to be read at once, and its size is "
                "why it is read by region: look closer at a smaller part, or open a coarser version of it."
            )
        voxels = self._voxels(level, box)
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise InputError(
                f"{self.name or 'The image'} has voxels that are NaN or infinite near the prompts: replace them, for "
                "instance with numpy.nan_to_num, before segmenting."
            )
        return voxels

    def _voxels(self, level: int, box: Box) -> np.ndarray:
        voxels = np.asarray(self.levels[level][box.slices])
        voxels = voxels.view(np.uint8) if voxels.dtype == bool else voxels
        voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
        return drop_opacity(voxels) if self.channels == 3 else voxels

    def _blocks(self, level: int, count: int) -> list[np.ndarray]:
        """Small blocks of a level, evenly spread, always the same ones."""
        shape = self.levels[level].shape[: self.grid.ndim]
        sides = [1 if axis < len(shape) - 2 else min(_BLOCK, size) for axis, size in enumerate(shape)]
        # Roots of x^(n+1) = x + 1 make the evenest spread that needs no random numbers.
        root = {2: 1.32471795724, 3: 1.22074408461}[len(shape)]
        blocks = []
        for number in range(count):
            low = [
                int((0.5 + (number + 1) / root ** (axis + 1)) % 1 * (size - side + 1))
                for axis, (size, side) in enumerate(zip(shape, sides, strict=True))
            ]
            blocks.append(self._voxels(level, Box.of_shape(sides).shift(low)))
        return blocks


def _factor(whole: int, coarse: int) -> float:
    """How many voxels one coarser voxel stands for: whole where the coarser axis was rounded up or down."""
    factor = max(round(whole / coarse), 1)
    return float(factor) if coarse in (whole // factor, -(-whole // factor)) else whole / coarse


def read_pyramid(path: Path, frame: int | None = None) -> Volume:
    """An OME-Zarr image; see `napari_sammed.volume.read_volume`."""
    pyramid = ome_zarr.read(path)
    levels = pyramid.frame(choose_frame(frame, pyramid.frames, path))
    name = path.name.removesuffix(ome_zarr.SUFFIX).removesuffix(".ome")
    if levels[0].size * levels[0].dtype.itemsize > READ_WHOLE:
        return LazyVolume(levels, pyramid.grid, name)
    return Volume(np.asarray(levels[0]), pyramid.grid, name)
