"""How well a mask agrees with a reference.

Surface Dice and Hausdorff distance are MONAI's (extra ``[evaluate]``); what an empty mask means is defined here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box

_MARGIN = 2  # voxels around what is compared: a surface on the border of an array would be cut open


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient ``2 |A and B| / (|A| + |B|)`` of two boolean arrays of one shape; 1 where both are empty."""
    mask, reference = _checked(mask, reference)
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


def surface_dice(mask: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float) -> float:
    """Normalised surface Dice: the share of both surfaces that lies within a tolerance of the other one.

    Parameters
    ----------
    mask, reference : ndarray of bool
        Of one shape, in 2D or 3D.
    spacing : sequence of float
        mm along each array axis.
    tolerance : float
        mm.

    Returns
    -------
    float
        0..1; 1 where both are empty, 0 where only one is.

    Notes
    -----
    Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy", with surface
    elements weighted by their size, as computed by `monai.metrics.compute_surface_dice`.
    """
    parts = _parts(mask, reference)
    if not isinstance(parts, tuple):
        return parts
    from monai.metrics import compute_surface_dice

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compute_surface_dice(
            *map(_batch, parts), [tolerance], include_background=True, spacing=tuple(spacing), use_subvoxels=True
        )
    return float(found)


def hausdorff_95(mask: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
    """95th percentile of the distances between two surfaces, the larger one of both directions, in mm.

    Parameters are those of `surface_dice`. 0 where both are empty, infinite where only one is.
    """
    parts = _parts(mask, reference)
    if not isinstance(parts, tuple):
        return 0.0 if parts else math.inf
    from monai.metrics import compute_hausdorff_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compute_hausdorff_distance(
            *map(_batch, parts), include_background=True, percentile=95, spacing=tuple(spacing)
        )
    return float(found)


def area_under_curve(values: Sequence[float], *, undivided: bool = False) -> float:
    """Area under a metric over the interactions by the trapezoidal rule, divided by its width: a mean, 0..1.

    With `undivided`, as the challenge on interactive 3D segmentation (CVPR 2025) reports it: up to 4 for five clicks.
    """
    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan
    area = float(np.trapezoid(values) if hasattr(np, "trapezoid") else np.trapz(values))
    return area if undivided else area / (len(values) - 1)


def interactions_to(values: Sequence[float], target: float) -> int | None:
    """How many interactions it takes to reach a target for the first time; None if it is not reached."""
    return next((number for number, value in enumerate(values, 1) if value >= target), None)


def _checked(mask: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mask, reference = np.asarray(mask, bool), np.asarray(reference, bool)
    if mask.shape != reference.shape:
        raise InputError(f"A mask of shape {mask.shape} cannot be compared with one of shape {reference.shape}.")
    return mask, reference


def _parts(mask: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray] | float:
    """The part of both arrays that holds both masks, with a margin; if a mask is empty, the metric's value: 1 or 0."""
    mask, reference = _checked(mask, reference)
    boxes = Box.of_mask(mask), Box.of_mask(reference)
    if boxes[0] is None or boxes[1] is None:
        return float(boxes[0] is boxes[1])
    part = boxes[0].union(boxes[1]).slices
    return np.pad(mask[part], _MARGIN), np.pad(reference[part], _MARGIN)


def _batch(mask: np.ndarray) -> object:
    """A mask as a batch of one, of one channel."""
    import torch

    return torch.from_numpy(mask)[None, None]
