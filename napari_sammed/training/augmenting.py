"""Images varied at random together with their masks, by MONAI's transforms: flipped, turned, zoomed, other grey values.

All that is drawn comes from the generator that is given, so the same one varies the same way; neither NumPy's nor
torch's own is touched.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sammed.errors import InputError

_SAME = 0.05  # relative difference of spacings that still count as one


@dataclass(frozen=True)
class Variation:
    """How much an image is varied.

    Parameters
    ----------
    flips, turns : bool
        Along each axis; by right angles in planes whose two axes are alike. Not for structures that have a side, such
        as a left kidney.
    rotation : float
        Degrees at most, to either side; in planes whose two axes have one spacing.
    zoom : float
        Share of the size at most, along each axis of its own.
    brightness : float
        Shift at most, in standard deviations of the image.
    contrast : float
        How far gamma may be from 1.
    noise : float
        Standard deviation at most, in those of the image.
    chance : float
        Of each of these by itself.
    """

    flips: bool = True
    turns: bool = True
    rotation: float = 15.0
    zoom: float = 0.1
    brightness: float = 0.1
    contrast: float = 0.2
    noise: float = 0.05
    chance: float = 0.5


def vary_slice(
    image: np.ndarray, mask: np.ndarray, random: np.random.Generator, variation: Variation | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Vary a flat image and what is marked in it.

    Parameters
    ----------
    image : ndarray
        ``(y, x)`` or ``(y, x, 3)``, finite, square pixels; not changed.
    mask : ndarray of bool or int
        ``(y, x)``.
    random : Generator
    variation : Variation, optional

    Returns
    -------
    image : ndarray of float32
        Of the same shape; beyond its edge as at the edge.
    mask : ndarray
        Of the same shape and dtype; empty beyond the edge.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    if mask.ndim != 2 or image.shape not in (mask.shape, (*mask.shape, 3)):
        raise InputError(f"An image of shape {image.shape} and a mask of shape {mask.shape} cannot be varied together.")
    return _varied(image, mask, (1.0, 1.0), random, variation or Variation())


def vary_volume(
    image: np.ndarray,
    mask: np.ndarray,
    random: np.random.Generator,
    variation: Variation | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Vary a volume and what is marked in it.

    Parameters
    ----------
    image : ndarray
        ``(z, y, x)``, finite; not changed.
    mask : ndarray of bool or int
        ``(z, y, x)``.
    random : Generator
    variation : Variation, optional
    spacing : sequence of float
        mm along each axis. Turns and rotations keep to planes in which it is the same, so that nothing is sheared.

    Returns
    -------
    image, mask
        As from `vary_slice`.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    if mask.ndim != 3 or image.shape != mask.shape:
        raise InputError(f"A volume of shape {image.shape} and a mask of shape {mask.shape} cannot be varied together.")
    return _varied(image, mask, spacing, random, variation or Variation())


def _varied(
    image: np.ndarray, mask: np.ndarray, spacing: Sequence[float], random: np.random.Generator, variation: Variation
) -> tuple[np.ndarray, np.ndarray]:
    from monai.transforms import Compose  # seconds to import, and only for who learns

    image = np.asarray(image, np.float32)
    planes = [
        (one, other)
        for one, other in itertools.combinations(range(mask.ndim), 2)
        if math.isclose(spacing[one], spacing[other], rel_tol=_SAME)
    ]
    transform = Compose(list(_transforms(variation, mask.shape, planes, float(image.std()))))
    transform.set_random_state(state=np.random.RandomState(random.integers(2**32, dtype=np.uint64)))
    colour = image.ndim > mask.ndim
    channels_first = np.moveaxis(image, -1, 0) if colour else image[None]
    done = transform({"image": channels_first, "mask": mask[None].astype(np.int32)})
    found, marked = (np.asarray(done[key]) for key in ("image", "mask"))
    found = np.moveaxis(found, 0, -1) if colour else found[0]
    return np.ascontiguousarray(found, np.float32), np.ascontiguousarray(marked[0]).astype(mask.dtype)


def _transforms(
    variation: Variation, shape: tuple[int, ...], planes: Sequence[tuple[int, int]], deviation: float
) -> Iterator[Any]:
    from monai import transforms as of

    both, chance = ["image", "mask"], variation.chance
    if variation.flips:
        for axis in range(len(shape)):
            yield of.RandFlipd(both, prob=chance, spatial_axis=axis)
    if variation.turns:
        for plane in planes:
            if shape[plane[0]] == shape[plane[1]]:
                yield of.RandRotate90d(both, prob=chance, spatial_axes=plane)
    if variation.rotation or variation.zoom:
        angle = math.radians(variation.rotation)
        flat = len(shape) == 2
        # of a volume the angle around each axis, which is in the plane of the two others
        angles = angle if flat else [angle * (tuple({0, 1, 2} - {axis}) in planes) for axis in range(3)]
        yield of.RandAffined(
            both,
            prob=chance,
            rotate_range=angles,
            scale_range=[variation.zoom] * len(shape),
            mode=("bilinear", "nearest"),
            padding_mode=("border", "zeros"),
        )
    if variation.brightness:
        yield of.RandShiftIntensityd("image", offsets=variation.brightness * deviation, prob=chance)
    if variation.contrast:
        yield of.RandAdjustContrastd("image", gamma=(1 - variation.contrast, 1 + variation.contrast), prob=chance)
    if variation.noise:
        yield of.RandGaussianNoised("image", std=variation.noise * deviation, prob=chance)
