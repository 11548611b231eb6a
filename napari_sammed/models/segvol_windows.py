"""What SegVol's window shows of a volume: all of its foreground, a part of it, or its voxels one to one.

Windows are read from the volume itself, voxel by voxel; nothing larger than they are is copied. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import luma
from napari_sammed.models import zooming
from napari_sammed.volume import Volume

_MEASURED: WeakKeyDictionary[Volume, tuple[tuple[float, float], Box]] = WeakKeyDictionary()
"""Grey limits and foreground of the images in memory: every window of a volume asks for them."""


@dataclass(frozen=True)
class WindowRegion(Region):
    """A part of an image as it lies in the network's window: squeezed or stretched into it, or one to one.

    Parameters
    ----------
    seen : Box
        What the window shows, in voxels of the image. If it reaches beyond the image, where the window is 0, it has
        the window's shape.
    """

    seen: Box

    @classmethod
    def showing(cls, image: Grid, seen: Box, window: Sequence[int]) -> WindowRegion:
        """The region that shows a part of an image in a window; all of it that lies in the image may be answered."""
        box = seen.intersect(image.box)
        if box is None:
            raise InputError(f"The part from {seen.low} to {seen.high} lies outside the image of shape {image.shape}.")
        return cls(box, image.crop(seen).resample(window), seen)

    @property
    def inside(self) -> Box:
        """`box` as a part of `seen`."""
        return self.box.shift([-low for low in self.seen.low])

    @property
    def samples(self) -> tuple[int, ...]:
        """How many the window has of `box` along each axis."""
        return self.grid.shape if self.seen == self.box else self.box.shape


def measured(image: Volume) -> tuple[tuple[float, float], Box]:
    """The grey values of a volume that become 0 and 1, and the box of all voxels that do not become 0; kept.

    Raises
    ------
    InputError
        For voxels that are NaN or infinite, and images that have the same value everywhere.
    """
    if image not in _MEASURED:
        limits = zooming.grey_limits(_grey(image.sample, image))
        # Of an image that is read by region nobody knows the foreground, so all of it is looked at.
        whole = image.grid.box
        seen = zooming.foreground(_grey(image.array, image), limits) if image.in_memory else whole
        _MEASURED[image] = limits, seen
    return _MEASURED[image]


def network_input(image: Volume, region: WindowRegion, limits: tuple[float, float]) -> np.ndarray:
    """What the network sees of a region: nearest voxels, 0..1, float32 of the window's shape.

    Read from the image itself, of which nothing larger than the window is copied.
    """
    part = _grey(image.part(region.box, region.samples), image)
    return in_window(part, region, lambda values: zooming.scaled(values, limits))


def in_window(
    part: np.ndarray, region: WindowRegion, change: Callable[[np.ndarray], np.ndarray] = lambda values: values
) -> np.ndarray:
    """Voxels of `region.box`, changed one by one, as they lie in the window: the nearest ones, 0 beyond the image."""
    padding = [
        (a, size - b) for a, b, size in zip(region.inside.low, region.inside.high, region.seen.shape, strict=True)
    ]
    return np.pad(change(zooming.shrunk(part, region.samples)), padding)


def _grey(array: np.ndarray, image: Volume) -> np.ndarray:
    """Voxels of an image, colours as their luma."""
    return luma(array) if image.channels == 3 else array


def widened(box: Box, window: Sequence[int]) -> Box:
    """A box of the window's shape around a smaller one; the odd voxel comes last, as in the official padding."""
    missing = [side - size for side, size in zip(window, box.shape, strict=True)]
    low = tuple(first - n // 2 for first, n in zip(box.low, missing, strict=True))
    return Box(low, tuple(first + side for first, side in zip(low, window, strict=True)))
