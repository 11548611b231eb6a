"""OME-Zarr (NGFF 0.1 to 0.5): pyramids of images in folders, of which single chunks are read; plain zarr arrays too.

Axes are those of the standard, in the order t, c, z, y, x. Lengths are converted to millimetres; where the file names
no unit, a pixel counts as one. The finest level says where the image lies. Coarser levels are taken to cover the same
extent: writers differ in what they call the place of a coarse voxel by half a fine one.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.lazy_array import LazyArray
from napari_sammed.geometry import Grid

SUFFIX = ".zarr"

_MILLIMETRES = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "decimeter": 100.0,
    "meter": 1000.0,
    "inch": 25.4,
}
_ORDER = "tczyx"
_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@dataclass(frozen=True)
class Pyramid:
    """An image in several resolutions, not read yet.

    Parameters
    ----------
    levels : tuple of LazyArray
        The finest first; axes of length 1 are left out, but y and x.
    axes : str
        A letter for each axis of the levels.
    scale, translation : tuple of float
        Of the finest level, along each of its axes.
    units : tuple of str
        Along each axis, as OME-Zarr names them; empty where the file names none.
    channels : tuple of str
        Names along the axis c; empty if there are none.
    limits : tuple of (float, float)
        Grey values between which each channel is to be shown; empty if the file does not say.
    """

    levels: tuple[LazyArray, ...]
    axes: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str, ...]
    channels: tuple[str, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()

    @property
    def grid(self) -> Grid:
        """Of one frame of the finest level."""
        space = [number for number, axis in enumerate(self.axes) if axis in "zyx"]
        lengths = [_MILLIMETRES.get(self.units[number], 1.0) for number in space]
        spacing = [abs(self.scale[number]) * mm for number, mm in zip(space, lengths, strict=True)]
        plain = Grid.plain([self.levels[0].shape[number] for number in space], spacing)
        origin = [self.translation[number] * mm for number, mm in zip(space, lengths, strict=True)]
        return Grid(plain.shape, plain.spacing, tuple(origin[::-1]), plain.direction)

    @property
    def frames(self) -> int:
        """Time points times channels."""
        return int(np.prod(self._frames, dtype=int))

    def frame(self, number: int) -> list[LazyArray]:
        """The levels of one frame, counted with the last axis fastest."""
        at = tuple(map(int, np.unravel_index(number, self._frames))) if self._frames else ()
        return [level[at] for level in self.levels] if at else list(self.levels)

    def channel(self, number: int) -> list[LazyArray]:
        """The levels of one channel, with all its time points."""
        axis = self.axes.find("c")
        key = tuple(number if place == axis else slice(None) for place in range(len(self.axes)))
        return [level[key] for level in self.levels]

    @property
    def _frames(self) -> tuple[int, ...]:
        return tuple(self.levels[0].shape[: len(self.axes.rstrip("zyx"))])


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array; not if nobody may look at it, which reading it will say."""
    return os.path.isdir(path) and any(os.path.exists(path / mark) for mark in _MARKS)


def read(path: Path) -> Pyramid:
    """What a zarr folder holds, without reading a voxel; of several images (Bio-Formats' layout) the first.

    Raises
    ------
    InputError
        If it holds no image, axes that are not understood, or zarr is not installed.
    """
    if importlib.util.find_spec("zarr") is None:
        raise InputError(f"{path} is read with zarr, which is not installed: run pip install 'napari-sammed[zarr]'.")
    import zarr

    try:
        opened = zarr.open(path, mode="r")
        if isinstance(opened, zarr.Array):
            return _pyramid([opened], {}, path)
        attributes = opened.attrs.asdict()
        about = attributes.get("ome", attributes)
        if "multiscales" not in about and "bioformats2raw.layout" in about:
            return read(path / "0")
        if not about.get("multiscales"):
            inside = ", ".join(sorted(opened)) or "nothing"
            raise InputError(
                f"{path} holds no OME-Zarr image, but {inside}: open the folder of an image or array in it."
            )
        multiscale = about["multiscales"][0]
        levels = [opened[dataset["path"]] for dataset in multiscale["datasets"]]
        return _pyramid(levels, {**multiscale, "omero": about.get("omero", {})}, path)
    except InputError:
        raise
    except Exception as error:  # damaged metadata can be anything, and zarr and its codecs raise what they like
        said = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise InputError(f"{path} is no OME-Zarr image that this package understands: {said}.") from None


def _pyramid(levels: list[Any], about: Mapping[str, Any], path: Path) -> Pyramid:
    ndim = levels[0].ndim
    named = about.get("axes") or list(_ORDER[-ndim:])
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in named]
    names = "".join(str(axis["name"]).lower()[:1] for axis in axes)
    in_order = [letter for letter in _ORDER if letter in names]
    if len(names) != ndim or list(names) != in_order or "yx" not in names:
        raise InputError(
            f"{path} has the axes {', '.join(names) or 'none'}: t, c, z, y and x in this order are understood."
        )
    scale, translation = np.ones(ndim), np.zeros(ndim)
    first = (about.get("datasets") or [{}])[0]
    for step in (*first.get("coordinateTransformations", ()), *(about.get("coordinateTransformations") or ())):
        if step["type"] == "scale":
            scale, translation = scale * step["scale"], translation * step["scale"]
        elif step["type"] == "translation":
            translation = translation + step["translation"]
    shape = levels[0].shape
    kept = [number for number in range(ndim) if shape[number] > 1 or names[number] in "yx"]
    key = tuple(slice(None) if number in kept else 0 for number in range(ndim))
    shown = about.get("omero", {}).get("channels", [])
    windows = [channel.get("window", {}) for channel in shown]
    limits = [(float(window["start"]), float(window["end"])) for window in windows if {"start", "end"} <= window.keys()]
    return Pyramid(
        tuple(LazyArray(level)[key] for level in levels),
        "".join(names[number] for number in kept),
        tuple(float(scale[number]) for number in kept),
        tuple(float(translation[number]) for number in kept),
        tuple(str(axes[number].get("unit", "")) for number in kept),
        tuple(str(channel.get("label", "")) for channel in shown),
        tuple(limits) if len(limits) == len(shown) and all(low < high for low, high in limits) else (),
    )
