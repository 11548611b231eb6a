"""What a user painted or erased in the result layer, as new masks of the objects it touches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_sammed.backend.masks import voxels_in
from napari_sammed.geometry import Box
from napari_sammed.prompts import Prompt
from napari_sammed.session.history import ObjectState


def painted(
    objects: Mapping[int, ObjectState], box: Box, before: np.ndarray, after: np.ndarray
) -> tuple[Box, dict[int, np.ndarray]] | None:
    """Compare a part of the label image with what it should show.

    Parameters
    ----------
    objects : mapping of int to ObjectState
        Objects by label, which may overlap unseen.
    box : Box
        Of the part.
    before, after : ndarray of int
        The part as the objects give it, and as the user left it.

    Returns
    -------
    tuple or None
        The tight box around the changes, and for each touched object its whole mask in there, without objects that
        do not exist or are locked, which neither gain nor lose any; None if nothing changed.
    """
    tight = Box.of_mask(before != after)
    if tight is None:
        return None
    before, after = before[tight.slices], after[tight.slices]
    locked = [label for label, state in objects.items() if state.locked]
    changed = (before != after) & ~np.isin(before, locked) & ~np.isin(after, locked)
    where = tight.shift(box.low)
    masks: dict[int, np.ndarray] = {}
    for label in sorted({*np.unique(before[changed]).tolist(), *np.unique(after[changed]).tolist()} & set(objects)):
        mask = voxels_in(objects[label].mask, where)
        mask[changed] = after[changed] == label
        masks[label] = mask
    return where, masks


def as_thick(prompt: Prompt, old: Prompt | None) -> Prompt:
    """A changed rectangle of a box across slices, with the slices of the box."""
    if not isinstance(prompt, Box) or not isinstance(old, Box) or prompt.ndim == 2:
        return prompt
    axis = prompt.thin_axes[0] if prompt.thin_axes else 0
    low, high = list(prompt.low), list(prompt.high)
    low[axis], high[axis] = old.low[axis], old.high[axis]
    return Box(tuple(low), tuple(high))
