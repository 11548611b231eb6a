"""How steady a mask is: does it change when the threshold moves? Imports no torch."""

from __future__ import annotations

import numpy as np


def stability_score(logits: np.ndarray, offset: float = 1.0) -> float:
    """Area above +offset over the area above -offset: 1 for a mask with sharp edges, 0 for none at all.

    The official ``calculate_stability_score`` of segment-anything divides by zero where no logit exceeds -offset.

    Parameters
    ----------
    logits : ndarray
        Mask logits of any shape.
    offset : float
        How far the threshold moves both ways, in logits; not negative.
    """
    return float((logits > offset).sum() / max(int((logits > -offset).sum()), 1))
