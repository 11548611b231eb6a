"""Random walker: clicks, strokes and boxes become a mask by the grey values around them; no weights, no torch.

A walker starts at a voxel and steps to its neighbours, the more readily the more alike they look. On its way it may
get lost, the sooner the less the place looks like the clicked ones. The object is where it comes home, to a positive
click, with more than a certain probability. After a single click that threshold is chosen, near a usual value, so that
the mask is least like a ball around the click: such a ball is shaped by the click alone, anything else by edges.
Lengths are counted in samples and contrasts in units of the texture around the clicks, so images without a physical
scale work as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import luma
from napari_sammed.models import registry
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.lattice import shapes
from napari_sammed.models.seeds import (
    anchor,
    balls,
    marked_voxels,
    outside_boxes,
    painted,
    places_to_look_at,
    positive_voxels,
    to_samples,
)
from napari_sammed.models.wandering import SEED_RADIUS, Samples, Walk, denoised, logit, usual_threshold, wander
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume

if TYPE_CHECKING:
    from napari_sammed.intensity import Window

_SAMPLES = {2: 192, 3: 72}  # of a region along each axis, at most
_COARSEST_FIRST = 3.0  # mm: finer steps lose themselves in the texture of organs
_THRESHOLDS = np.geomspace(0.7, 2e-4, 60)
_ELONGATION = 2.0  # worth of a longer shape against an unusual threshold
_LEAST_SIZE = 40  # samples
_CEILING = 20.0  # of the logits
_AT_ONCE = 1 << 22  # voxels that logits are enlarged to at once
_SHAPELESS = 0.02  # a lower score means a mere ball around the click, with no edge in view


@dataclass(frozen=True)
class RandomWalkerResult:
    """A mask inside a box of the image.

    Parameters
    ----------
    mask : ndarray of bool
    low, high : tuple of int
        The half-open box of the image that the mask fills; outside of it there is no object.
    score : float
        0..1.
    """

    mask: np.ndarray
    low: tuple[int, ...]
    high: tuple[int, ...]
    score: float


class RandomWalker:
    """A `napari_sammed.models.base.GrowingModel` for clicks, strokes and boxes on grey or colour images."""

    weights_hash = ""

    def __init__(self) -> None:
        self.card = registry.card("random-walker")

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        """A box around the first positive prompt that holds all others, seen at the scale of organs.

        Along each axis it has at most 72 samples in volumes, 192 in flat images. Their distance is that at which the
        image (or `within`, or one and a half times the box prompts) fits into the region, but at most 3 mm in volumes
        and no less than the image's finest spacing; times a power of two where prompts lie farther apart. So zooming
        in makes it finer.
        """
        limit = grid.box if within is None else _common(grid.box, within)
        step = _first_step(grid, prompts, limit)
        extent = prompts.extent
        if extent is None:
            raise InputError("The random walker needs a click, a stroke or a box.")
        while True:
            region = _region(grid, anchor(prompts), step, limit)
            needed = extent.grow(2).intersect(limit)
            if region.box == limit or needed is None or needed.intersect(region.box) == needed:
                return region
            step *= 2

    def embed(self, image: Volume, region: Region, window: Window | None = None) -> Embedding:
        """Sample and denoise the region. The window is for the eye; the walker sees all grey values."""
        from skimage.transform import resize

        raw = image.part(region.box, region.grid.shape)
        raw = luma(raw) if image.channels == 3 else raw.astype(np.float32)
        if not np.isfinite(raw).all():
            raise InputError("The image has voxels that are NaN or infinite near the prompts: replace them first.")
        raw = resize(raw, region.grid.shape, order=1, mode="edge", anti_aliasing=True, preserve_range=True)
        if raw.min() == raw.max():
            raise InputError(f"The image has the same value {raw.min():g} all around the prompts: there is no edge.")
        samples = denoised(raw)
        return Embedding(samples, region, image.grid, raw.nbytes + samples.smooth.nbytes)

    def decode(
        self, embedding: Embedding, prompts: Prompts, previous: Logits | None = None, cancel: Event | None = None
    ) -> Logits:
        """Send out the walkers. All prompts count each time, so `previous` has no say."""
        _, logits = self.walk(embedding, prompts, cancel)
        return logits

    def walk(self, embedding: Embedding, prompts: Prompts, cancel: Event | None = None) -> tuple[Walk, Logits]:
        """Send out the walkers, and choose where the object ends."""
        samples: Samples = embedding.features
        region, spacing = embedding.region, embedding.region.grid.spacing
        scale = np.array(spacing) / min(spacing)
        positive = positive_voxels(prompts)
        inside = balls(to_samples(positive, region), scale, samples.raw.shape, SEED_RADIUS)
        inside |= painted(prompts, True, region)
        negative = marked_voxels(prompts, positive=False)
        outside = balls(to_samples(negative, region), scale, samples.raw.shape, SEED_RADIUS)
        outside = (outside | painted(prompts, False, region) | outside_boxes(prompts, region)) & ~inside
        if not inside.any():
            raise InputError("The random walker needs a positive click or stroke, or a box, in the region it looks at.")

        def check() -> None:
            if cancel is not None and cancel.is_set():
                raise Cancelled

        centres = to_samples(places_to_look_at(prompts, positive), region)
        found = wander(samples, spacing, inside, outside, centres, check)
        threshold, score = _choose(found.p, scale, len(centres), boxed=bool(prompts.of(Box)))
        values = np.clip(logit(found.p) - logit(threshold), -_CEILING, _CEILING)
        labels, _ = ndimage.label(values > 0)
        mine = np.isin(labels, np.unique(labels[inside]))
        return found, Logits(np.where(mine, values, -np.abs(values)).astype(np.float32), region, score)

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, enlarged linearly around the object, the floor elsewhere."""
        region = logits.region.box
        full = np.full(region.shape, -_CEILING, np.float32)
        for part, place in _enlarged(logits):
            full[place.shift([-low for low in region.low]).slices] = part
        return full

    def object_mask(self, logits: Logits) -> tuple[np.ndarray, Box]:
        """Where `restore` is positive: a mask of the part around the object; one voxel if there is nothing."""
        region = logits.region.box
        parts = [(part > 0, place) for part, place in _enlarged(logits)]
        if not parts:
            one = Box.of_shape((1,) * region.ndim)
            return np.zeros(one.shape, bool), one.shift(region.low)
        return np.concatenate([part for part, _ in parts]), parts[0][1].union(parts[-1][1])

    def grow(self, logits: Logits, image: Grid, prompts: Prompts, within: Box | None) -> Region | None:
        """Twice the region where the image goes on behind it and the mask reaches its rim or found no edges in it."""
        box = logits.region.box
        limit = image.box if within is None else _common(image.box, within)
        if box == limit:
            return None
        larger = _region(image, anchor(prompts), 2 * min(logits.region.grid.spacing), limit)
        if logits.score < _SHAPELESS:
            return larger
        mask = logits.values > 0
        for axis in range(mask.ndim):
            for side, stops in ((0, box.low[axis] == limit.low[axis]), (-1, box.high[axis] == limit.high[axis])):
                if not stops and mask.take(side, axis=axis).any():
                    return larger
        return None


def segment(
    image: np.ndarray,
    spacing: Sequence[float],
    positive: np.ndarray,
    negative: np.ndarray | None = None,
    *,
    box: tuple[Sequence[int], Sequence[int]] | None = None,
    within: tuple[Sequence[int], Sequence[int]] | None = None,
    cancel: Event | None = None,
) -> RandomWalkerResult:
    """Segment one object from clicks in a plain array.

    Parameters
    ----------
    image : ndarray
        ``(y, x)``, ``(z, y, x)``, or colour with a last axis of 3.
    spacing : sequence of float
        mm along each image axis.
    positive, negative : ndarray, (N, ndim)
        Index coordinates of clicks or stroke voxels inside and outside of the object.
    box : pair of index tuples, optional
        Low and high corner, half-open: the object lies in there.
    within : pair of index tuples, optional
        Look at this part of the image only.
    cancel : Event, optional
        Set it to end the call with `Cancelled`.

    Raises
    ------
    InputError
        For images that are constant or not finite, for prompts outside of the image.
    """
    volume = Volume.from_array(image, spacing, rgb=np.ndim(image) > len(spacing))
    volume.check_usable()
    prompts = Prompts(
        (
            *(Point(tuple(index)) for index in positive),
            *(Point(tuple(index), positive=False) for index in (() if negative is None else negative)),
            *(() if box is None else (Box(*map(tuple, box)),)),
        )
    )
    prompts.check_inside(volume.grid)
    limit = None if within is None else Box(*map(tuple, within))
    model = RandomWalker()
    region: Region | None = model.plan(volume.grid, prompts, limit)
    while region is not None:
        logits = model.decode(model.embed(volume, region), prompts, cancel=cancel)
        region = model.grow(logits, volume.grid, prompts, limit)
    box_ = logits.region.box
    return RandomWalkerResult(model.restore(logits) > 0, box_.low, box_.high, logits.score)


def _common(image: Box, within: Box) -> Box:
    common = image.intersect(within)
    if common is None:
        raise InputError(f"The part from {within.low} to {within.high} lies outside the image of shape {image.shape}.")
    return common


def _region(grid: Grid, centre: np.ndarray, step: float, limit: Box) -> Region:
    """The box of the usual number of samples, `step` mm apart, around a voxel; thick slices stay as they are."""
    spacing = np.array(grid.spacing)
    half = _SAMPLES[grid.ndim] * step / 2 / spacing
    low = np.maximum(np.rint(centre - half).astype(int), limit.low)
    high = np.minimum(np.rint(centre + half).astype(int) + 1, limit.high)
    size = high - low
    shape = np.minimum(size, np.ceil(size * spacing / step - 1e-6)).astype(int)
    return Region.of_box(grid, Box(tuple(low), tuple(high)), tuple(int(n) for n in shape))


def _first_step(grid: Grid, prompts: Prompts, limit: Box) -> float:
    """Distance of the samples of the first region, mm."""
    field = np.array(limit.shape)
    for box in prompts.of(Box):
        field = np.minimum(field, 1.5 * np.array(box.shape))
    step = float((field * grid.spacing).max()) / _SAMPLES[grid.ndim]
    if grid.ndim == 3:
        step = min(step, _COARSEST_FIRST)
    return max(step, min(grid.spacing))


def _choose(p: np.ndarray, scale: np.ndarray, places: int, boxed: bool) -> tuple[float, float]:
    """The threshold, and how little the mask changes if it is missed: the ratio of sizes a little above and below."""
    sizes, elongations = shapes(p, _THRESHOLDS, scale)
    cost = np.log(_THRESHOLDS / usual_threshold(places)) ** 2
    if places == 1 and not boxed:  # more clicks, or a box, shape the mask themselves
        cost -= _ELONGATION * elongations
    usable = sizes >= min(_LEAST_SIZE, sizes[-1])
    best = int(np.where(usable, cost, np.inf).argmin())
    above, below = max(best - 5, 0), min(best + 5, len(cost) - 1)
    return float(_THRESHOLDS[best]), float(sizes[above] / max(sizes[below], 1))


def _enlarged(logits: Logits) -> Iterator[tuple[np.ndarray, Box]]:
    """Logits on the image grid around the object, in slabs of limited size, and where in the image these lie."""
    region = logits.region.box
    tight = Box.of_mask(logits.values > 0)
    if tight is None:
        return
    if logits.values.shape == region.shape:
        yield logits.values, region
        return
    ratio = np.array(region.shape) / logits.values.shape
    low = np.maximum(np.floor((np.array(tight.low) - 2) * ratio), 0).astype(int)
    high = np.minimum(np.ceil((np.array(tight.high) + 2) * ratio), region.shape).astype(int)
    lines = [(np.arange(a, b) + 0.5) / r - 0.5 for a, b, r in zip(low, high, ratio, strict=True)]
    place = Box(tuple(low), tuple(high)).shift(region.low)
    rows = max(_AT_ONCE // math.prod(place.shape[1:]), 1)
    for start in range(0, place.shape[0], rows):
        part = logits.values
        for axis, line in enumerate((lines[0][start : start + rows], *lines[1:])):
            part = _interpolate(part, axis, line)
        first = place.low[0] + start
        yield part, Box((first, *place.low[1:]), (first + len(part), *place.high[1:]))


def _interpolate(values: np.ndarray, axis: int, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation along one axis at fractional positions, the first and last value beyond the ends."""
    positions = np.clip(positions, 0, values.shape[axis] - 1)
    before = np.minimum(positions.astype(int), max(values.shape[axis] - 2, 0))
    after = np.minimum(before + 1, values.shape[axis] - 1)
    share = (positions - before).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return values.take(before, axis) * (1 - share) + values.take(after, axis) * share
