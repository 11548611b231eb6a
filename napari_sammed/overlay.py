"""A picture of an image with its mask: the three planes through the object, as a radiologist expects them.

Anterior and superior are up, the patient's left is on the viewer's right; in the sagittal plane anterior is on the
left. All planes have the same scale in millimetres, so thick slices do not squash the patient.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.intensity import Window
from napari_sammed.volume import Volume

COLOURS = np.array(
    [(255, 170, 30), (60, 190, 255), (120, 225, 90), (255, 100, 130), (190, 130, 255), (255, 235, 90)], np.uint8
)
"""Of label 1, 2, ...; they repeat."""

_FILL = 0.30  # opacity inside an outline
_LINE = 2  # pixels
_GAP = 8  # pixels between planes
_LETTERS = ("APRL", "SIRL", "SIAP")
"""At the upper, lower, left and right edge of the planes across z, y and x of the patient."""


def overlay(volume: Volume, labels: np.ndarray, *, window: Window | None = None, height: int = 480) -> np.ndarray:
    """Draw an image with outlines and a translucent fill of its labels.

    Parameters
    ----------
    volume : Volume
    labels : ndarray of bool or int
        Of the image's shape; 0 is background.
    window : Window, optional
        Which grey values are black and white; default `Window.auto`.
    height : int
        Pixels of the tallest plane.

    Returns
    -------
    ndarray of uint8, (rows, columns, 3)
        Axial, coronal and sagittal plane side by side, each through the slice with most of the object; the image
        itself where it is flat.
    """
    labels = np.asarray(labels)
    if labels.shape != volume.grid.shape:
        raise InputError(f"Labels of shape {labels.shape} do not lie on an image of shape {volume.grid.shape}.")
    window = window or Window.auto(volume)
    limits = window.limits(volume)
    if volume.grid.ndim == 2:
        scale = height / (volume.grid.shape[0] * volume.grid.spacing[0])
        return _draw(window.apply(volume.array, limits), labels, volume.grid.spacing, scale)
    order, flips = _to_patient(volume.grid)
    array, labels = _turned(volume.array, order, flips), _turned(labels, order, flips)
    spacing = [volume.grid.spacing[axis] for axis in order]
    extents = np.array(labels.shape) * spacing
    scale = height / max(extents[0], extents[1])
    panels = []
    for axis in range(3):
        index = _fullest(labels, axis)
        grey = window.apply(array.take(index, axis), limits)
        sides = [s for a, s in enumerate(spacing) if a != axis]
        panels.append(_plane(grey, labels.take(index, axis), axis, sides, scale))
    return _side_by_side(panels)


def slice_overlay(
    volume: Volume, index: int, labels: np.ndarray, *, window: Window | None = None, height: int = 480
) -> np.ndarray:
    """Draw one slice across the first array axis of a volume, as the patient's plane that it lies nearest to.

    Parameters
    ----------
    volume : Volume
        In 3D.
    index : int
        Of the slice.
    labels : ndarray of bool or int
        Of the slice's shape; 0 is background.
    window, height : Window, int
        As for `overlay`.

    Returns
    -------
    ndarray of uint8, (rows, columns, 3)
    """
    window = window or Window.auto(volume)
    order, flips = _to_patient(volume.grid)
    whole = np.zeros(volume.grid.shape, np.int32)
    whole[index] = labels
    array, whole = _turned(volume.array, order, flips), _turned(whole, order, flips)
    axis = order.index(0)
    if flips[axis]:
        index = volume.grid.shape[0] - 1 - index
    sides = [volume.grid.spacing[a] for place, a in enumerate(order) if place != axis]
    scale = height / (array.take(index, axis).shape[0] * sides[0])
    grey = window.apply(array.take(index, axis), window.limits(volume))
    return _plane(grey, whole.take(index, axis), axis, sides, scale)


def write_overlay(
    path: str | os.PathLike[str], volume: Volume, labels: np.ndarray, *, window: Window | None = None
) -> None:
    """Write the `overlay` as a PNG.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from PIL import Image

    try:
        Image.fromarray(overlay(volume, labels, window=window)).save(Path(path), format="PNG", optimize=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _to_patient(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which array axes run nearest to the patient's z, y, x, and which of them run downwards, forwards, rightwards."""
    direction = np.array(grid.direction)  # rows x, y, z; columns array axes
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(direction[2 - row, axis]) for row, axis in enumerate(axes)),
    )
    return order, tuple(bool(direction[2 - row, axis] < 0) for row, axis in enumerate(order))


def _turned(array: np.ndarray, order: Sequence[int], flips: Sequence[bool]) -> np.ndarray:
    """The array with axes z (up), y (to the back), x (to the left) of the patient; colour stays last."""
    turned = array.transpose(*order, *range(3, array.ndim))
    return turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _fullest(labels: np.ndarray, axis: int) -> int:
    """The slice with most labelled voxels; the middle one if there are none."""
    counts = np.count_nonzero(labels, axis=tuple(a for a in range(3) if a != axis))
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def _draw(grey: np.ndarray, labels: np.ndarray, spacing: Sequence[float], scale: float) -> np.ndarray:
    """One plane, (rows, columns, 3), enlarged to ``scale`` pixels a mm, with outlines."""
    from PIL import Image
    from scipy import ndimage

    rows, columns = (max(1, round(n * s * scale)) for n, s in zip(labels.shape, spacing, strict=True))

    def resized(array: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(array).resize((columns, rows), Image.Resampling.BILINEAR))

    picture = resized(np.ascontiguousarray(grey))
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    picture = picture.astype(float)
    for label in np.unique(labels[labels > 0]):
        inside = resized((labels == label).astype(np.float32)) > 0.5
        line = inside & ~ndimage.binary_erosion(inside, iterations=_LINE, border_value=1)
        opacity = (_FILL * inside + (1 - _FILL) * line)[..., None]
        picture += opacity * (COLOURS[(int(label) - 1) % len(COLOURS)] - picture)
    return np.rint(picture).astype(np.uint8)


def _plane(grey: np.ndarray, labels: np.ndarray, axis: int, spacing: Sequence[float], scale: float) -> np.ndarray:
    """A plane across an axis of the patient, drawn as a radiologist expects it, with its letters."""
    if axis != 0:  # rows run upwards along z
        grey, labels = grey[::-1], labels[::-1]
    return _lettered(_draw(grey, labels, spacing, scale), _LETTERS[axis])


def _lettered(picture: np.ndarray, letters: Sequence[str]) -> np.ndarray:
    """The picture with the letters of the patient's sides at its upper, lower, left and right edge."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    width, height = image.size
    places = (((width / 2, 3), "ma"), ((width / 2, height - 3), "md"), ((4, height / 2), "lm"))
    places = (*places, ((width - 4, height / 2), "rm"))
    for letter, (place, anchor) in zip(letters, places, strict=True):
        draw.text(place, letter, fill=(240, 240, 240), anchor=anchor, font_size=16, stroke_width=1, stroke_fill=0)
    return np.asarray(image)


def _side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels in a row on black, each in the middle of its height."""
    rows = max(panel.shape[0] for panel in panels)
    columns = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
    picture = np.zeros((rows, columns, 3), np.uint8)
    left = 0
    for panel in panels:
        top = (rows - panel.shape[0]) // 2
        picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + _GAP
    return picture
