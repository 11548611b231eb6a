"""The four steps in which SAM-Med3D's masks were cleaned, with the reason for every mask that is left out.

Wang et al., SAM-Med3D (2023); reference sheet ``sam_med3d``, section 8. Files are never changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid


@dataclass(frozen=True)
class Rules:
    """What a mask has to be to be learnt from.

    Parameters
    ----------
    volume : float
        At least so many cm3.
    extent : float
        At least so many mm along each array axis.
    background : float
        Share of the image that may be outside of the mask.
    pieces : int
        Connected pieces that are kept, the largest ones.
    sides : bool
        Whether a mask of two alike pieces on either side of the body's middle becomes two masks.
    """

    volume: float = 1.0
    extent: float = 15.0
    background: float = 0.99
    pieces: int = 5
    sides: bool = True


@dataclass(frozen=True)
class Cleaned:
    """A mask, or what has become of it.

    Parameters
    ----------
    name : str
        That of its label, with ", left" or ", right" where it was split.
    mask : ndarray of bool or None
        On the image's grid; None if it is left out.
    remark : str
        Why it is left out, or what was done to it; empty if nothing was.
    """

    name: str
    mask: np.ndarray | None
    remark: str = ""


_ALIKE = 0.5  # volume of the smaller one of a pair, in that of the larger one


def clean(mask: np.ndarray, name: str, grid: Grid, rules: Rules | None = None) -> list[Cleaned]:
    """Take a mask through the four steps.

    Parameters
    ----------
    mask : ndarray of bool
        On the grid; of a volume.
    name : str
    grid : Grid
    rules : Rules, optional

    Returns
    -------
    list of Cleaned
        One mask, two if it was split, or one that is left out.

    Raises
    ------
    InputError
        For a flat image, or a mask of another shape.
    """
    rules = rules or Rules()
    if grid.ndim != 3 or mask.shape != grid.shape:
        raise InputError(f"Masks of volumes are cleaned; this one has the shape {mask.shape}, its image {grid.shape}.")
    reason = _too_small(mask, grid, rules)
    if reason:
        return [Cleaned(name, None, reason)]
    kept, remark = _largest_pieces(mask, rules.pieces)
    halves = _sides(kept, grid) if rules.sides else None
    if halves is None:
        return [Cleaned(name, kept, remark)]
    also = f"{remark}; " if remark else ""
    return [Cleaned(f"{name}, {side}", half, f"{also}split into left and right") for side, half in halves]


def _too_small(mask: np.ndarray, grid: Grid, rules: Rules) -> str:
    box = Box.of_mask(mask)
    if box is None:
        return "it is empty"
    voxels = int(mask.sum())
    volume = voxels * float(np.prod(grid.spacing)) / 1000
    if volume < rules.volume:
        return f"its {volume:.2g} cm3 are less than {rules.volume:g}"
    extents = [size * step for size, step in zip(box.shape, grid.spacing, strict=True)]
    if min(extents) < rules.extent:
        return f"along one axis it is {min(extents):.3g} mm thick, less than {rules.extent:g}"
    outside = 1 - voxels / mask.size
    if outside > rules.background:
        return f"{outside:.2%} of the image lie outside of it, more than {rules.background:.2%}"
    return ""


def _largest_pieces(mask: np.ndarray, most: int) -> tuple[np.ndarray, str]:
    labelled, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    if count <= most:
        return mask, ""
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    largest = np.argsort(-sizes, kind="stable")[:most]
    kept = np.isin(labelled, largest)
    return kept, f"{count - most} of {count} pieces left out ({1 - kept.sum() / mask.sum():.1%} of its voxels)"


def _sides(mask: np.ndarray, grid: Grid) -> list[tuple[str, np.ndarray]] | None:
    """The halves of a mask of two alike pieces side by side: left and right of the patient; None for any other one."""
    labelled, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    if count < 2:
        return None
    sizes = np.bincount(labelled.ravel())[1:]
    first, second = (int(i) for i in np.argsort(-sizes, kind="stable")[:2])
    if sizes[second] < _ALIKE * sizes[first]:
        return None
    centres = ndimage.center_of_mass(mask, labelled, range(1, count + 1))
    world = grid.to_world(np.array(centres))  # LPS: x grows to the patient's left
    apart = np.abs(world[first] - world[second])
    if apart[0] < 2 * max(apart[1:]):  # rather in front of or above each other
        return None
    middle = (world[first, 0] + world[second, 0]) / 2
    halves = []
    for side, left in (("left", True), ("right", False)):
        wanted = [i + 1 for i in range(count) if (world[i, 0] > middle) == left]
        halves.append((side, np.isin(labelled, wanted)))
    return halves
