"""Zooming in: an object looked at again, at the finest grid that the model's input allows.

The *region* says where the mask may change. The *windows* say what the network sees: they are laid around what is known
of the object, with some of its surroundings, which may lie outside of the region. Every window is asked anew, with what
the coarse mask and the user's prompts say in it; answers are blended, and nothing outside of the region changes.

Source: the zoom-out-zoom-in of SegVol (Du et al. 2023, section 3.3), here for any model, with the user's own prompts in
every window and without looking where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.backend.canvas import Canvas
from napari_sammed.backend.masks import cut
from napari_sammed.backend.reductions import innermost
from napari_sammed.backend.slicing import extent_of, in_region, slice_of
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.models.base import Logits, ModelCard, PromptableModel, ZoomingModel
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts, Stroke

_SURROUNDINGS = 0.5  # of the object's length along each axis, on both sides: what the network sees around it
_LEAST_SURROUNDINGS = 2  # voxels
_MARGIN = 0.1  # of the object's length, on both sides, in which a closer look may find more of it
_LEAST_MARGIN = 3  # voxels
_BOX_MARGIN = 0.05  # of a piece's length, on both sides of its box: coarse masks are rather too tight than too wide
_CRUMB = 0.02  # pieces of the coarse mask smaller than this share of it get no box of their own

Ask = Callable[[Region, Prompts], Logits]


@dataclass(frozen=True)
class View:
    """One window and what it is asked."""

    part: Box
    region: Region
    prompts: Prompts


@dataclass(frozen=True)
class Refined:
    """What zooming in found.

    Parameters
    ----------
    mask : ndarray of bool
        Of the region's shape.
    score : float
        Mean of the windows' scores, weighted by what each of them found; NaN if the model has none.
    windows : int
        How many were looked at.
    """

    mask: np.ndarray
    score: float
    windows: int


def refine(
    model: PromptableModel,
    grid: Grid,
    region: Box,
    coarse: MaskPrompt | None,
    prompts: Prompts,
    axis: int | None,
    ask: Callable[[Region, Prompts], Logits],
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> Refined:
    """Look closer at the part of an object that lies in a region.

    Parameters
    ----------
    model : PromptableModel
    grid : Grid
        Of the image.
    region : Box
        Inside the image; nothing is said of the rest.
    coarse : MaskPrompt or None
        The object as it is known.
    prompts : Prompts
        Of the user; those outside of the region are left out.
    axis : int or None
        Across the slices, for a model that looks at slices of a volume.
    ask : callable
        From a window and its prompts to the model's answer.
    cancel, progress : optional

    Raises
    ------
    InputError
        If there is nothing of the object in the region, neither of its mask nor a positive prompt.
    Cancelled
    """
    views = [view for part in _parts(grid, region, axis) for view in _views(model, grid, part, coarse, prompts)]
    if not views:
        raise InputError(
            f"There is nothing of the object between {region.low} and {region.high}: zoom in on a part that its mask "
            "or a prompt reaches into."
        )
    mask = np.zeros(region.shape, bool)
    scores, sizes = [], []
    canvas = None
    for number, view in enumerate(views):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"looking closer, window {number + 1} of {len(views)}", number / len(views))
        if canvas is None or canvas.box != view.part:
            canvas = Canvas(view.part)
        logits = ask(view.region, view.prompts)
        values = model.restore(logits)
        canvas.add(values, view.region.box)
        mask[view.part.shift([-low for low in region.low]).slices] = canvas.mask
        scores.append(logits.score)
        sizes.append(max(int((values > 0).sum()), 1))
    return Refined(mask, float(np.average(scores, weights=sizes)), len(views))


def prompted_part(coarse: MaskPrompt, prompts: Prompts, grid: Grid) -> Box:
    """Where to look closer after a look at the whole image: around the pieces of the mask that hold a prompt.

    Pieces elsewhere may be strays, and would cost a window each; where no piece holds a prompt, all count.
    """
    pieces, count = ndimage.label(coarse.mask, np.ones((3,) * coarse.ndim))
    if count > 1:
        touched: set[int] = set()
        for item in prompts:
            common = extent_of(item).intersect(coarse.extent)
            if common is not None and getattr(item, "positive", True):
                touched |= set(np.unique(pieces[common.shift([-low for low in coarse.offset]).slices])) - {0}
        kept = np.isin(pieces, list(touched)) if touched else pieces > 0
        extent = MaskPrompt(kept, coarse.offset).extent
    else:
        extent = coarse.extent
    margin = [max(_LEAST_MARGIN, round(_MARGIN * size)) for size in extent.shape]
    return extent.grow(margin).intersect(grid.box)


def _parts(grid: Grid, region: Box, axis: int | None) -> Iterator[Box]:
    """What is looked at together: the region, or its slices."""
    if axis is None:
        yield region
        return
    for index in range(region.low[axis], region.high[axis]):
        yield slice_of(grid, axis, index).intersect(region)


def _views(model: PromptableModel, grid: Grid, part: Box, coarse: MaskPrompt | None, prompts: Prompts) -> list[View]:
    """The windows around what is known of the object in a part of the image; none where nothing is."""
    inside = [extent_of(item) for item in in_region(prompts, part) if getattr(item, "positive", True)]
    known = cut(coarse, part)
    if known is not None:
        inside.append(known.extent)
    if not inside:
        return []
    target = inside[0]
    for extent in inside[1:]:
        target = target.union(extent)
    flat = grid.ndim == 3 and 3 not in model.card.dimensions
    slab = slice_of(grid, part.thin_axes[0], part.low[part.thin_axes[0]]) if flat else grid.box
    margin = [max(_LEAST_SURROUNDINGS, round(_SURROUNDINGS * size)) for size in target.shape]
    around = target.grow(margin).intersect(slab)
    regions = model.windows(grid, around) if isinstance(model, ZoomingModel) else [model.plan(grid, prompts, around)]
    views = []
    for region in regions:
        given = _given(model.card, region.box, coarse, prompts, alone=len(regions) == 1)
        if given:
            views.append(View(part, region, given))
    return views


def _given(card: ModelCard, window: Box, coarse: MaskPrompt | None, prompts: Prompts, *, alone: bool) -> Prompts:
    """What a window is asked: its part of the coarse mask, in a kind that the model knows, and the user's prompts.

    Boxes of the user are cut short where there are several windows; the coarse mask takes their place then.
    """
    coarse, prompts = cut(coarse, window), in_region(prompts, window)
    clicks = [item for item in prompts if isinstance(item, (Point, Stroke))]
    boxes: list[Prompt] = list(prompts.of(Box)) if alone or coarse is None else []
    positive = any(item.positive for item in clicks)
    if coarse is None and not boxes and not positive:
        return Prompts()
    if coarse is not None and "mask" in card.prompts:
        return Prompts((coarse, *boxes, *clicks))
    if coarse is not None and "box" in card.prompts:
        return Prompts((*(boxes or _boxes_of(coarse, window)), *clicks))
    if coarse is not None and not positive:
        clicks = [Point(innermost(coarse)), *clicks]
    return Prompts((*boxes, *clicks))


def _boxes_of(coarse: MaskPrompt, window: Box) -> list[Box]:
    """A box a piece, a little wider where the window allows."""
    pieces, _ = ndimage.label(coarse.mask, np.ones((3,) * coarse.ndim))
    sizes = np.bincount(pieces.ravel())[1:]
    boxes = []
    for size, place in zip(sizes, ndimage.find_objects(pieces), strict=True):
        if size >= _CRUMB * sizes.sum():
            box = Box(tuple(s.start for s in place), tuple(s.stop for s in place)).shift(coarse.offset)
            boxes.append(box.grow([round(_BOX_MARGIN * length) for length in box.shape]).intersect(window))
    return boxes
