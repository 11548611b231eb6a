"""Zooming in: an object looked at again, at the finest grid that the model's input allows.

The *region* says where the mask may change. The *windows* say what the network sees: they are laid around what is known
of the object, with some of its surroundings, which may lie outside of the region. Every window is asked anew, with what
the coarse mask and the user's prompts say in it; answers are blended, and nothing outside of the region changes.

Source: the zoom-out-zoom-in of SegVol (Du et al. 2023, section 3.3), here for any model, with the user's own prompts in
every window and without looking where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.backend.canvas import Canvas
from napari_sammed.backend.masks import cut
from napari_sammed.backend.opinions import blended, opinions
from napari_sammed.backend.reductions import innermost
from napari_sammed.backend.slicing import extent_of, grey, in_region, slice_of
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.models.base import BoxModel, Logits, ModelCard, PromptableModel, ZoomingModel
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts, Stroke
from napari_sammed.volume import Volume

_SURROUNDINGS = 0.5  # of the object's length along each axis, on both sides: what the network sees around it
_LEAST_SURROUNDINGS = 2  # voxels
_MARGIN = 0.1  # of the object's length, on both sides, in which a closer look may find more of it
_LEAST_MARGIN = 3  # voxels


@dataclass(frozen=True)
class Refined:
    """What zooming in found.

    Parameters
    ----------
    mask : ndarray of bool
        Of the region's shape.
    score : float
        Mean of the windows' scores, weighted by what each of them found, and for several opinions on the same slice by
        how far they agree; NaN if the model has none.
    windows : int
        How many were looked at.
    """

    mask: np.ndarray
    score: float
    windows: int


@dataclass(frozen=True)
class _Part:
    """What is looked at together: the region, or one slice of it.

    Parameters
    ----------
    box : Box
    views : list of (Region, Prompts)
        Windows and what they are asked.
    coarse : MaskPrompt or None
        The object as it is known there, if it has a say in the blending of boxes.
    boxes_only : bool
        Whether the views are opinions of a network that knows boxes only.
    """

    box: Box
    views: list[tuple[Region, Prompts]] = field(default_factory=list)
    coarse: MaskPrompt | None = None
    boxes_only: bool = False


def refine(
    model: PromptableModel,
    volume: Volume,
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
    volume : Volume
        The image.
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
    parts = [_part(model, volume.grid, box, coarse, prompts) for box in _boxes(volume.grid, region, axis)]
    total = sum(len(part.views) for part in parts)
    if not total:
        raise InputError(
            f"There is nothing of the object between {region.low} and {region.high}: zoom in on a part that its mask "
            "or a prompt reaches into."
        )
    mask = np.zeros(region.shape, bool)
    scores: list[float] = []
    sizes: list[int] = []
    for part in parts:
        answers: list[tuple[np.ndarray, Box]] = []
        canvas = Canvas(part.box) if part.views and not part.boxes_only else None
        for window, given in part.views:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if progress is not None:
                progress(f"looking closer, window {len(scores) + 1} of {total}", len(scores) / total)
            logits = ask(window, given)
            values = model.restore(logits)
            scores.append(logits.score)
            sizes.append(max(int((values > 0).sum()), 1))
            if canvas is None:
                answers.append((values, window.box))
            else:
                canvas.add(values, window.box)
        if not part.views:
            continue
        place = part.box.shift([-low for low in region.low]).slices
        if canvas is not None:
            mask[place] = canvas.mask
            continue
        mask[place], agreement = _of_opinions(volume, part, answers)
        own = slice(len(scores) - len(answers), None)
        scores[own] = [score * share for score, share in zip(scores[own], agreement, strict=True)]
    return Refined(mask, float(np.average(scores, weights=sizes)), total)


def prompted_part(coarse: MaskPrompt, prompts: Prompts, grid: Grid) -> Box:
    """Where to look closer after a look at the whole image: around the pieces of the mask that hold a prompt.

    Pieces elsewhere may be strays, and would cost a window each; where no piece holds a prompt, all count.
    """
    pieces, count = ndimage.label(coarse.mask, np.ones((3,) * coarse.ndim))
    extent = coarse.extent
    if count > 1:
        touched: set[int] = set()
        for item in prompts:
            common = extent_of(item).intersect(coarse.extent)
            if common is not None and getattr(item, "positive", True):
                touched |= set(np.unique(pieces[common.shift([-low for low in coarse.offset]).slices])) - {0}
        if touched:
            extent = MaskPrompt(np.isin(pieces, list(touched)), coarse.offset).extent
    margin = [max(_LEAST_MARGIN, round(_MARGIN * size)) for size in extent.shape]
    return extent.grow(margin).intersect(grid.box)


def _boxes(grid: Grid, region: Box, axis: int | None) -> Iterator[Box]:
    """What is looked at together: the region, or its slices."""
    if axis is None:
        yield region
        return
    for index in range(region.low[axis], region.high[axis]):
        yield slice_of(grid, axis, index).intersect(region)


def _part(model: PromptableModel, grid: Grid, box: Box, coarse: MaskPrompt | None, prompts: Prompts) -> _Part:
    """The windows around what is known of the object in a part of the image; none where nothing is."""
    sliced = grid.ndim == 3 and 3 not in model.card.dimensions
    slab = slice_of(grid, box.thin_axes[0], box.low[box.thin_axes[0]]) if sliced else grid.box
    known, prompts = cut(coarse, box), _flat(prompts, slab) if sliced else prompts
    extents = [extent_of(item) for item in in_region(prompts, box) if getattr(item, "positive", True)]
    extents += [] if known is None else [known.extent]
    if not extents:
        return _Part(box)
    target = extents[0]
    for extent in extents[1:]:
        target = target.union(extent)
    boxes_only = isinstance(model, BoxModel) and (
        getattr(model, "prefers_boxes", False) or not {"point", "mask"} & model.card.prompts
    )
    if boxes_only and not _contradicted(coarse, in_region(prompts, box)):
        whole = tuple(given for given in prompts.of(Box) if given.intersect(box) == given)
        boxes = whole if known is not None else in_region(prompts, box).of(Box)
        return _box_part(model, grid, box, target, slab, coarse, boxes)
    margin = [max(_LEAST_SURROUNDINGS, round(_SURROUNDINGS * size)) for size in target.shape]
    around = target.grow(margin).intersect(slab)
    regions = model.windows(grid, around) if isinstance(model, ZoomingModel) else [model.plan(grid, prompts, around)]
    views = [
        (region, given)
        for region, core in zip(regions, _cores([region.box for region in regions]), strict=True)
        if (cut(coarse, core) is not None or in_region(prompts, core))
        and (given := _given(model.card, region.box, coarse, prompts))
    ]
    return _Part(box, views)


def _cores(windows: list[Box]) -> list[Box]:
    """The middle halves of half-overlapping windows, which together cover what these cover.

    A window is asked if its middle holds something of the object: from a sliver at its rim a network would guess wrong,
    and another window has that sliver in its middle.
    """
    whole = windows[0]
    for window in windows[1:]:
        whole = whole.union(window)
    cores = []
    for window in windows:
        sides = zip(window.low, window.high, window.shape, whole.low, whole.high, strict=True)
        ends = [
            (low if low == first else low + size // 4, high if high == last else high - size // 4)
            for low, high, size, first, last in sides
        ]
        cores.append(Box(tuple(low for low, _ in ends), tuple(high for _, high in ends)))
    return cores


def _box_part(
    model: BoxModel, grid: Grid, box: Box, target: Box, slab: Box, coarse: MaskPrompt | None, boxes: tuple[Box, ...]
) -> _Part:
    views = [
        (model.plan(grid, Prompts(opinion.boxes), opinion.window), Prompts(opinion.boxes))
        for opinion in opinions(grid, target, slab, boxes, cut(coarse, slab), model.card.input_size[0])
    ]
    return _Part(box, views, None if boxes else cut(coarse, box), boxes_only=True)


def _of_opinions(volume: Volume, part: _Part, answers: list[tuple[np.ndarray, Box]]) -> tuple[np.ndarray, list[float]]:
    """The mask of a part of a slice, of its shape, and how far each answer agrees with it."""
    shape = [size for axis, size in enumerate(part.box.shape) if part.box.ndim == 2 or axis != part.box.thin_axes[0]]
    placed = []
    for values, place in answers:
        full = np.full(part.box.shape, np.nan, np.float32)
        common = part.box.intersect(place)
        if common is not None:
            there = common.shift([-low for low in place.low]).slices
            full[common.shift([-low for low in part.box.low]).slices] = values[there]
        placed.append(full.reshape(shape))
    coarse = None
    if part.coarse is not None:
        coarse = np.zeros(part.box.shape, bool)
        coarse[part.coarse.extent.shift([-low for low in part.box.low]).slices] = part.coarse.mask
        coarse = coarse.reshape(shape)
    mask, agreement = blended(placed, grey(volume, part.box).reshape(shape), coarse)
    return mask.reshape(part.box.shape), agreement


def _flat(prompts: Prompts, slab: Box) -> Prompts:
    """What of the prompts speaks of a slice: a box over several slices is not the object's box on each of them."""
    thin = slab.thin_axes[0]
    return in_region(Prompts(tuple(p for p in prompts if not isinstance(p, Box) or p.shape[thin] == 1)), slab)


def _contradicted(coarse: MaskPrompt | None, prompts: Prompts) -> bool:
    """Whether a click says that the mask is wrong, so that the model must hear of it."""
    for item in prompts:
        if isinstance(item, (Point, Stroke)):
            inside = cut(coarse, item.extent) is not None
            if inside != item.positive:
                return True
    return False


def _given(card: ModelCard, window: Box, coarse: MaskPrompt | None, prompts: Prompts) -> Prompts:
    """What a window is asked: its part of the coarse mask, in a kind that the model knows, and the user's prompts.

    Boxes of the user count where they lie in the window as a whole; the coarse mask takes their place elsewhere.
    """
    boxes: list[Prompt] = [box for box in prompts.of(Box) if box.intersect(window) == box]
    coarse, inside = cut(coarse, window), in_region(prompts, window)
    clicks = [item for item in inside if isinstance(item, (Point, Stroke))]
    if coarse is None:
        boxes = list(inside.of(Box))
    positive = any(item.positive for item in clicks)
    if coarse is None and not boxes and not positive:
        return Prompts()
    if coarse is not None and "mask" in card.prompts:
        return Prompts((coarse, *boxes, *clicks))
    if coarse is not None and "box" in card.prompts:
        return Prompts((*(boxes or [coarse.extent]), *clicks))
    if coarse is not None and not positive:
        clicks = [Point(innermost(coarse)), *clicks]
    return Prompts((*boxes, *clicks))
