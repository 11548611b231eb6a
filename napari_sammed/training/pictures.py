"""Pictures to learn from: slices of labelled volumes, cut and coloured anew each time.

A picture is 8-bit, with square pixels, no longer than the network's frame, and knows masks of what lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.transform import resize

SIDE = 256
"""Longest side of a picture."""

LEAST = 30
"""Pixels of a mask worth learning."""

_MOST = 0.8  # share of a picture that a mask may fill: more is the background
_CT_WINDOWS = ((-160, 240), (-160, 240), (-100, 200), (-1000, 400), (-1350, 150), (-200, 800), (-1100, 1300))


@dataclass(frozen=True)
class Picture:
    """An image to learn from.

    Parameters
    ----------
    pixels : ndarray of uint8
        ``(rows, columns)`` or ``(rows, columns, 3)``, square pixels, at most `SIDE` long.
    masks : ndarray of bool
        ``(n, rows, columns)``; may overlap.
    """

    pixels: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Source:
    """A labelled volume, or a flat image, that pictures are cut out of.

    Parameters
    ----------
    array : ndarray
        ``(z, y, x)``, ``(y, x)`` or ``(y, x, 3)``.
    labels : ndarray of int
        Of the same shape, without colours; 0 is background.
    spacing : tuple of float
        mm along the axes of `labels`.
    kind : {"ct", "mr", "8-bit"}
        How grey values become 8 bits.
    groups : sequence of sequence of int
        Labels that also form one structure together.
    planes : sequence of int
        Axes to cut slices across.
    single : bool
        Whether each label alone is a structure with a visible edge.
    """

    array: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, ...]
    kind: str
    groups: Sequence[Sequence[int]] = ()
    planes: Sequence[int] = (0,)
    single: bool = True

    def picture(self, random: np.random.Generator) -> Picture:
        """A part of one of its slices, with the contrast, orientation and colours of the day."""
        pixels, labels = _square(*self._slice(random))
        pixels, labels = _part(pixels, labels, random)
        turns, mirrored = int(random.integers(4)) if random.random() < 0.5 else 0, random.random() < 0.5
        pixels, labels = np.rot90(pixels, turns), np.rot90(labels, turns)
        if mirrored:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        values = self._grey(pixels.astype(np.float32), random)
        return fitted(disturbed(values, random), self._masks(labels, random))

    def square(self) -> tuple[np.ndarray, np.ndarray]:
        """A flat image and its labels with square pixels, as they are."""
        return _square(self.array, self.labels, self.spacing)

    def _slice(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        if self.labels.ndim == 2:
            return self.array, self.labels, self.spacing
        axis = int(random.choice(self.planes))
        counts = (self.labels > 0).any(axis=tuple(a for a in range(3) if a != axis))
        places = np.flatnonzero(counts) if random.random() < 0.9 and counts.any() else np.arange(len(counts))
        index = int(random.choice(places))
        spacing = tuple(s for a, s in enumerate(self.spacing) if a != axis)
        return self.array.take(index, axis), self.labels.take(index, axis), spacing

    def _grey(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Grey values between 0 and 1."""
        if self.kind == "ct":
            low, high = _CT_WINDOWS[int(random.integers(len(_CT_WINDOWS)))]
            shift, stretch = random.normal(0, 0.05), np.exp(random.normal(0, 0.15))
            middle, half = (low + high) / 2 + shift * (high - low), (high - low) / 2 * stretch
            low, high = middle - half, middle + half
        elif self.kind == "mr":
            low, high = np.percentile(pixels, [random.uniform(0, 2), random.uniform(98, 100)])
        else:
            low, high = 0, 255
        return ((pixels - low) / max(high - low, 1e-6)).clip(0, 1)

    def _masks(self, labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        present = [int(v) for v in np.unique(labels) if v]
        masks = [labels == value for value in present] if self.single else []
        masks += [np.isin(labels, group) for group in self.groups]
        masks += [largest(mask) for mask in masks if random.random() < 0.5]
        return np.stack(masks) if masks else np.zeros((0, *labels.shape), bool)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask."""
    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1


def fitted(values: np.ndarray, masks: np.ndarray) -> Picture:
    """Values 0..1 and masks with square pixels, brought to the frame's size; masks too small or too large are left out.

    Parameters
    ----------
    values : ndarray of float
        ``(rows, columns)`` or ``(rows, columns, 3)``.
    masks : ndarray of bool
        ``(n, rows, columns)``.
    """
    scale = SIDE / max(values.shape[:2])
    shape = tuple(max(round(n * scale), 8) for n in values.shape[:2])
    pixels = resize(values, shape + values.shape[2:], order=1, anti_aliasing=scale < 1)
    smooth = [resize(mask.astype(np.float32), shape, order=1, anti_aliasing=False) > 0.5 for mask in masks]
    masks = np.stack(smooth) if smooth else np.zeros((0, *shape), bool)
    areas = masks.sum(axis=(1, 2))
    masks = masks[(areas >= LEAST) & (areas <= _MOST * shape[0] * shape[1])]
    return Picture((pixels.clip(0, 1) * 255).round().astype(np.uint8), masks)


def disturbed(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Values 0..1 as another device might have shown them: gamma, inversion, blur, noise, speckle, shading, a tint."""
    if random.random() < 0.5:
        values = values.clip(0, 1) ** np.exp(random.normal(0, 0.3))
    if random.random() < 0.1:
        values = 1 - values
    if random.random() < 0.2:
        sigma = random.uniform(0.3, 1.5) * max(values.shape) / SIDE
        values = ndimage.gaussian_filter(values, (sigma, sigma) + (0,) * (values.ndim - 2))
    if random.random() < 0.3:
        field = smooth_noise(values.shape[:2], max(values.shape) / random.uniform(1.5, 4), random)
        values = values * np.exp(0.25 * field[(...,) + (None,) * (values.ndim - 2)])
    if random.random() < 0.15:
        speckle = ndimage.gaussian_filter(random.rayleigh(0.8, values.shape[:2]), random.uniform(0.4, 1.2))
        values = values * speckle[(...,) + (None,) * (values.ndim - 2)]
    if random.random() < 0.3:
        values = values + random.normal(0, random.uniform(0.01, 0.06), values.shape)
    if values.ndim == 2 and random.random() < 0.15:
        dark, bright = random.uniform(0, 0.4, 3), random.uniform(0.5, 1, 3)
        values = dark + (bright - dark) * values[..., None]
    return values.clip(0, 1)


def smooth_noise(shape: Sequence[int], scale: float, random: np.random.Generator) -> np.ndarray:
    """Noise of mean 0 and deviation 1 that varies over `scale` pixels."""
    coarse = random.normal(size=[max(int(n / max(scale, 1)) + 3, 4) for n in shape])
    zoomed = ndimage.zoom(coarse, [(n + 2) / m for n, m in zip(shape, coarse.shape, strict=True)], order=3)
    field = zoomed[tuple(slice(0, n) for n in shape)]
    return (field - field.mean()) / max(field.std(), 1e-6)


def _square(pixels: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Resampled to square pixels, as fine as the finer axis but no finer than the frame."""
    longest = max(n * s for n, s in zip(labels.shape, spacing, strict=True))
    pixel = max(min(spacing), longest / (2 * SIDE))
    if np.allclose(spacing, pixel, rtol=0.01):
        return pixels, labels
    shape = tuple(max(round(n * s / pixel), 1) for n, s in zip(labels.shape, spacing, strict=True))
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, labels.shape, strict=True))
    smooth = resize(
        pixels.astype(np.float32), shape + pixels.shape[2:], order=1, preserve_range=True, anti_aliasing=False
    )
    return smooth, labels[rows][:, columns]


def _part(pixels: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The whole slice, or a part of it around something labelled."""
    if random.random() < 0.4 or not labels.any():
        return pixels, labels
    zoom = np.exp(random.uniform(0, np.log(3)))
    shape = [max(int(n / zoom), min(n, 40)) for n in labels.shape]
    places = np.argwhere(labels)
    place = places[int(random.integers(len(places)))]
    low = [
        int(np.clip(p - random.uniform(0.2, 0.8) * n, 0, most - n))
        for p, n, most in zip(place, shape, labels.shape, strict=True)
    ]
    part = tuple(slice(start, start + n) for start, n in zip(low, shape, strict=True))
    return pixels[part], labels[part]
