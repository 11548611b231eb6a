"""How well a mask agrees with a reference."""

from __future__ import annotations

import numpy as np

from napari_sammed.errors import InputError


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient ``2 |A and B| / (|A| + |B|)`` of two boolean arrays of one shape; 1 where both are empty."""
    mask, reference = np.asarray(mask, bool), np.asarray(reference, bool)
    if mask.shape != reference.shape:
        raise InputError(f"A mask of shape {mask.shape} cannot be compared with one of shape {reference.shape}.")
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0
