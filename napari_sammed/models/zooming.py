"""SegVol's zoom-out-zoom-in: a whole volume squeezed into one window, then windows at full resolution.

As published, with its two mistakes, so that official numbers can be reproduced: prompts are not moved when a small
region is padded, and negative points are lost on the way in. Arrays in, arrays out, axes (z, y, x) in the order of the
file, whatever its orientation; spacing plays no role. Imports no torch.

Source: Du et al., SegVol (2023), section 3.3; ``data_process/demo_data_process.py``, ``inference_demo.py`` and
``utils/monai_inferers_utils.py`` of the official code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import quantile_of_counts
from napari_sammed.models.windows import window_boxes

_PERCENTILES = (0.05, 99.95)
_POINTS = 5  # in a window with any, made up with ignored ones


@dataclass(frozen=True)
class WindowPrompts:
    """What one window is asked.

    Parameters
    ----------
    box : ndarray of float32, (6,), or None
        z0, y0, x0, z1, y1, x1 in the window, both corners inside; all -1 where there is nothing to bound.
    points : ndarray of float32, (N, 3), or None
        In the window; None where the user gave a box.
    labels : ndarray of float32, (N,), or None
        1 for points of the object, -1 for those to ignore.
    """

    box: np.ndarray | None
    points: np.ndarray | None = None
    labels: np.ndarray | None = None


def grey_limits(array: np.ndarray) -> tuple[float, float]:
    """The grey values that become 0 and 1: two percentiles of what exceeds the volume's mean.

    The official code also subtracts a mean and divides by a deviation; scaling to 0..1 afterwards undoes both. Values
    of 8 and 16 bits are counted, so that no part of the volume is copied; of others, those above the mean are.

    Where all that exceeds the mean is equal, which the official code cannot take, the lowest value becomes 0.

    Raises
    ------
    InputError
        For voxels that are NaN or infinite, and if all voxels are equal.
    """
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        lowest, counts = _counted(array)
        values = np.arange(len(counts))
        above = np.where(values > values @ counts / array.size, counts, 0)
        limits = [lowest + quantile_of_counts(above, part / 100) for part in _PERCENTILES if above.any()]
    else:
        mean = array.mean(dtype=float)
        if not np.isfinite(mean):
            raise InputError("The image has voxels that are NaN or infinite: replace them first.")
        above = array[array > mean]
        limits = np.percentile(above, _PERCENTILES, overwrite_input=True).tolist() if above.size else []
    if not limits:
        raise InputError(f"The image has the same value {array.flat[0]:g} everywhere: there is nothing to segment.")
    low, high = limits
    return (low, high) if low < high else (float(array.min()), high)


def _counted(array: np.ndarray) -> tuple[int, np.ndarray]:
    """The lowest value, and how many voxels have it, the next one, and so on up to the highest."""
    lowest, highest = int(array.min()), int(array.max())
    counts = np.zeros(highest - lowest + 1, np.int64)
    for part in array:  # one by one, as whole numbers of 64 bits are made of them
        counts += np.bincount((part.astype(int) - lowest).ravel(), minlength=len(counts))
    return lowest, counts


def scaled(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey values as 0..1, float32."""
    low, high = limits
    return ((np.clip(array, low, high, dtype=float) - low) / max(high - low, 1e-8)).astype(np.float32)


def foreground(array: np.ndarray, limits: tuple[float, float]) -> Box:
    """The box of all voxels that do not become 0, which is all that the network looks at."""
    box = Box.of_mask(array > limits[0])
    return Box.of_shape(array.shape) if box is None else box


def shrunk(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The voxels nearest to the centres of other ones, for images ("nearest-exact" of PyTorch)."""
    lines = [
        np.minimum((2 * np.arange(new) + 1) * old // (2 * new), old - 1)
        for new, old in zip(shape, array.shape, strict=True)
    ]
    return array[np.ix_(*lines)]


def stretched(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The voxels at or before the corners of other ones, for answers ("nearest" of PyTorch, in single precision)."""
    lines = []
    for new, old in zip(shape, array.shape, strict=True):
        ratio = np.float32(old) / np.float32(new)
        lines.append(np.minimum((np.arange(new, dtype=np.float32) * ratio).astype(int), old - 1))
    return array[np.ix_(*lines)]


def prompt_map(
    window: Sequence[int],
    *,
    box: np.ndarray | None = None,
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """A mask of the window that is true in a box (6,), both corners inside, and at positive points (N, 3)."""
    shown = np.zeros(tuple(window), bool)
    if box is not None:
        low, high = np.reshape(box, (2, 3)).astype(int)
        shown[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    if points is not None:
        shown[tuple(np.asarray(points)[np.asarray(labels) == 1].astype(int).T)] = True
    return shown


def focus(mask: np.ndarray, window: Sequence[int]) -> Box | None:
    """The box of a mask, widened to the window's size where it is smaller; None for an empty mask."""
    tight = Box.of_mask(mask)
    if tight is None:
        return None
    margin = [max(0, wanted - size) // 2 for wanted, size in zip(window, tight.shape, strict=True)]
    return tight.grow(margin).intersect(Box.of_shape(mask.shape))


def bounds(mask: np.ndarray) -> np.ndarray:
    """First and last index of the true voxels, float32 of shape (6,); all -1 for an empty mask."""
    box = Box.of_mask(mask)
    if box is None:
        return np.full(6, -1, np.float32)
    return np.array([*box.low, *(high - 1 for high in box.high)], np.float32)


def drawn_points(shown: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random points (N, 3) of the prompt map's part in a window, and their labels (N,).

    Five: one voxel, up to four that differ from each other (but may be the first one), and ignored ones. A single
    ignored one where the part is empty.
    """
    places = np.argwhere(shown)
    if not len(places):
        return np.full((1, 3), -1, np.float32), np.full(1, -1, np.float32)
    picked = [places[rng.integers(len(places))][None], rng.permutation(places)[: _POINTS - 1]]
    points = np.full((_POINTS, 3), -1, np.float32)
    labels = np.full(_POINTS, -1, np.float32)
    count = sum(map(len, picked))
    points[:count], labels[:count] = np.concatenate(picked), 1
    return points, labels


def zoom_in(
    image: np.ndarray,
    logits: np.ndarray,
    shown: np.ndarray,
    window: Sequence[int],
    ask: Callable[[np.ndarray, WindowPrompts], np.ndarray],
    draw: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> np.ndarray:
    """Look again at full resolution where the whole volume gave positive logits.

    Parameters
    ----------
    image : ndarray of float32
        The foreground, 0..1.
    logits : ndarray of float32
        Of the whole foreground, stretched to its shape.
    shown : ndarray of bool
        The prompt map, stretched likewise.
    window : sequence of int
        The network's input size.
    ask : callable
        From a window of the image and its prompts to logits of the window.
    draw : callable, optional
        Picks points and labels in a window's part of the prompt map (`drawn_points`); None if the user gave a box.

    Returns
    -------
    ndarray of float32
        Logits, new ones in the region that was looked at: means over the windows.
    """
    region = focus(logits > 0, window)
    if region is None:
        return logits
    missing = [max(0, side - size) for side, size in zip(window, region.shape, strict=True)]
    padding = [(n // 2, n - n // 2) for n in missing]
    part = np.pad(image[region.slices], padding)
    coarse = np.pad(logits[region.slices] > 0, padding)
    shown = shown[region.slices]  # not padded, as published: prompts of small regions are off by the padding
    total, count = np.zeros(part.shape, np.float32), np.zeros(part.shape, np.float32)
    boxes = window_boxes(part.shape, window)
    for box in boxes:
        given = shown[box.slices]
        users_own = draw is None and len(boxes) == 1  # with more windows the box of what was seen takes its place
        points, labels = (None, None) if draw is None else draw(given)
        prompts = WindowPrompts(bounds(given if users_own else coarse[box.slices]), points, labels)
        total[box.slices] += ask(part[box.slices], prompts)
        count[box.slices] += 1
    inner = tuple(slice(low, low + size) for (low, _), size in zip(padding, region.shape, strict=True))
    result = logits.copy()
    result[region.slices] = (total / count)[inner]
    return result
