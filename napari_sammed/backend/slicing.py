"""Which slice of a volume a prompt is about, for models that look at slices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from napari_sammed.geometry import Box, Grid
from napari_sammed.models.planes import slice_to_look_at
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts, Stroke
from napari_sammed.volume import Volume


def extent_of(prompt: Prompt) -> Box:
    """The box around one prompt; a box prompt is its own."""
    return prompt if isinstance(prompt, Box) else prompt.extent


def slice_of(grid: Grid, axis: int, index: int) -> Box:
    """The whole slice ``index`` across ``axis``, as a box of thickness one."""
    low, high = [0] * grid.ndim, list(grid.shape)
    low[axis], high[axis] = index, index + 1
    return Box(tuple(low), tuple(high))


def slabs(scope: Box, axis: int, indices: Iterable[int]) -> tuple[Box, ...]:
    """Slices across ``axis`` of a part of an image, as boxes of as many neighbouring ones as there are, rising."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and runs[-1][1] == index:
            runs[-1][1] += 1
        else:
            runs.append([index, index + 1])
    found = []
    for first, end in runs:
        low, high = list(scope.low), list(scope.high)
        low[axis], high[axis] = first, end
        found.append(Box(tuple(low), tuple(high)))
    return tuple(found)


def grey(volume: Volume, region: Box) -> np.ndarray:
    """Grey values of a part of an image, float32 of shape ``region.shape``; the mean of its channels if it has any."""
    pixels = volume.part(region).astype(np.float32)
    return pixels.mean(-1) if pixels.ndim > region.ndim else pixels


def slice_region(grid: Grid, prompt: Prompt, axis: int | None = None) -> Box:
    """The slice that a prompt on a volume is about: the one it lies in, or the middle one of those that it spans.

    Parameters
    ----------
    grid : Grid
        Of a volume.
    prompt : Prompt
    axis : int, optional
        Across the slices; None leaves it to `napari_sammed.models.planes.slice_to_look_at`.
    """
    if axis is None:
        return slice_to_look_at(grid, Prompts((prompt,)), None)
    extent = extent_of(prompt).intersect(grid.box) or extent_of(prompt)
    return slice_of(grid, axis, extent.low[axis] + (extent.shape[axis] - 1) // 2)


def spans_slices(prompt: Prompt, axis: int) -> bool:
    """Whether a prompt is a box over several slices: the object is then wanted in all of them."""
    return isinstance(prompt, Box) and prompt.shape[axis] > 1


def in_region(prompts: Prompts, region: Box) -> Prompts:
    """What of the prompts lies in a part of the image: boxes, masks and strokes cut to it, other clicks left out."""
    kept: list[Prompt] = []
    for item in prompts:
        common = extent_of(item).intersect(region)
        if common is None:
            continue
        match item:
            case Box():
                kept.append(common)
            case Point():
                kept.append(item)
            case Stroke() if item.line.intersect(region) == item.line:
                kept.append(item)
            case Stroke():
                kept += _pieces(item, region)
            case MaskPrompt():
                part = item.mask[common.shift([-o for o in item.offset]).slices]
                if part.any():
                    kept.append(MaskPrompt(part, common.low))
    return Prompts(tuple(kept))


def _pieces(stroke: Stroke, region: Box) -> list[Stroke]:
    """A stroke where its line runs through a part of the image; none where it passes by or only its width reaches."""
    voxels = stroke.voxels()
    inside = ((voxels >= region.low) & (voxels < region.high)).all(axis=1)
    if not stroke.radius:
        return [replace(stroke, points=tuple(map(tuple, voxels[inside])))] if inside.any() else []
    turns = np.flatnonzero(np.diff(inside)) + 1
    runs = [run for run, start in zip(np.split(voxels, turns), (0, *turns), strict=True) if inside[start]]
    return [replace(stroke, points=tuple(map(tuple, run))) for run in runs]
