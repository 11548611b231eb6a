"""Which part of a large image a prompt is about: what the user sees, or what lies around the object.

Of an image that is read by region no model looks at everything: most of it would not be read in time, and the object
would be a few samples wide. The part is chosen once for an object and a slice and kept while it holds the prompts, so
that later clicks are answered together with the earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from napari_sammed.backend.slicing import extent_of
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Prompt

_USUAL = {2: 1024, 3: 256}  # voxels along an edge, where nobody says what is in view
_LEAST = {2: 256, 3: 128}
_MOST_VOXELS = 1 << 26  # of a part of a volume, read whole where the image has no coarser levels
_WIDER = 1.5  # what is in view may be so much wider than the part before a wider one is chosen
_STEP = 32  # parts begin and end at multiples, where coarse levels have their voxels' edges too
_AROUND_BOX = 0.5  # of a box prompt's sides, on both sides


def part_for(
    grid: Grid, prompt: Prompt, limit: Box, view: Box | None, known: Iterable[Prompt], last: Box | None
) -> Box:
    """The part that a prompt is answered in.

    Parameters
    ----------
    grid : Grid
        Of the image.
    prompt : Prompt
        The new one.
    limit : Box
        The slice of a 2D model, else the whole image.
    view : Box or None
        The part of a slice that the user sees, or of a flat image.
    known : iterable of Prompt
        The object's other prompts; those in the limit lie in the part as well.
    last : Box or None
        The part that the object's last prompt was answered in, inside the limit.

    Returns
    -------
    Box
        Inside the limit.
    """
    extent = extent_of(prompt).intersect(limit) or limit
    wanted = _wanted(grid, prompt, extent, limit, view)
    if last is not None and extent.intersect(last) == extent:
        wider = (new > _WIDER * old for new, old in zip(wanted.shape, last.shape, strict=True))
        if not any(wider):
            return last
    for other in known:
        common = extent_of(other).intersect(limit)
        wanted = wanted if common is None else wanted.union(common)
    thick = [axis for axis, size in enumerate(limit.shape) if size > 1]
    low, high = list(wanted.low), list(wanted.high)
    for axis in thick:
        low[axis] -= low[axis] % _STEP
        high[axis] += -high[axis] % _STEP
    return Box(tuple(low), tuple(high)).intersect(limit) or limit


def _wanted(grid: Grid, prompt: Prompt, extent: Box, limit: Box, view: Box | None) -> Box:
    thick = [axis for axis, size in enumerate(limit.shape) if size > 1]
    dimensions = 2 if len(thick) < 3 else 3
    spacing = np.array(grid.spacing)
    shown = [] if view is None else [axis for axis in thick if view.shape[axis] > 1]
    length = _USUAL[dimensions] * min(grid.spacing)  # mm
    if shown:
        length = max(view.shape[axis] * spacing[axis] for axis in shown)
    sizes = {axis: view.shape[axis] if axis in shown else math.ceil(length / spacing[axis]) for axis in thick}
    sizes = {axis: max(size, _LEAST[dimensions]) for axis, size in sizes.items()}
    if dimensions == 3:
        shrink = min((_MOST_VOXELS / math.prod(min(sizes[a], limit.shape[a]) for a in thick)) ** (1 / 3), 1.0)
        sizes = {axis: max(int(size * shrink), min(size, _LEAST[3])) for axis, size in sizes.items()}
    low, high = list(limit.low), list(limit.high)
    for axis in thick:
        margin = round(_AROUND_BOX * extent.shape[axis]) if isinstance(prompt, Box) else 0
        first, last = extent.low[axis] - margin, extent.high[axis] + margin
        size = max(sizes[axis], last - first)
        middle = (first + last) // 2
        if axis in shown and size == view.shape[axis]:
            middle = (view.low[axis] + view.high[axis]) // 2
        low[axis] = min(first, middle - size // 2)
        high[axis] = max(last, middle - size // 2 + size)
    return Box(tuple(low), tuple(high)).intersect(limit) or limit
