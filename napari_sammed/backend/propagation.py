"""An object walks through a stack: from slices where it is known to those beside them, both ways, with a box network.

On every slice the box of the neighbour's mask is tried with several margins, and the answers are blended into one
(`napari_sammed.backend.slice_step`). (The official code of LiteMedSAM takes one margin, 3 samples; a leak or a loss
then never heals.) The walk ends where the object does: nothing is found, the mask explodes or collapses, or the network
loses confidence. Pure logic: encoding, threads and caches belong to the engine passed in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sammed.backend.appearance import Appearance
from napari_sammed.backend.slice_step import Rules, blend, candidate_boxes, lost
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits
from napari_sammed.models.stability import stability_score
from napari_sammed.prompts import MaskPrompt

if TYPE_CHECKING:
    from napari_sammed.backend.base import Cancel, Progress

_STARTS = (0.5, 0.375, 0.625, 0.25, 0.75)  # along a box, where a walk may begin


class Engine(Protocol):
    """What a walk needs: a box network on the slices of one volume."""

    grid: Grid

    def slice(self, axis: int, index: int) -> Box:
        """What is looked at of a slice: all of it, or a part that holds the limits of the walk."""
        ...

    def decode(self, region: Box, boxes: Sequence[Box]) -> list[Logits]:
        """Answers to boxes on a slice; encodes the slice first unless that is cached."""
        ...

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, of shape ``region.shape``."""
        ...

    def pixels(self, region: Box) -> np.ndarray:
        """Grey values of a slice, of shape ``region.shape``."""
        ...

    def ahead(self, regions: Sequence[Box]) -> None:
        """These slices come next; encode them when there is nothing better to do."""
        ...


@dataclass
class Walk:
    """Where a walk has been.

    Parameters
    ----------
    mask : ndarray of bool
        Inside `scope`.
    scope : Box
        The part of the image that the answer speaks of.
    scores : dict of int to float
        Slice index -> confidence 0..1; 1 for anchors.
    stops : dict of int to str
        First slice beyond each end of the walk -> why it ended before the limits.
    left : set of int
        Slices inside the limits that it did not go to, since they were not asked for or it was stopped: nothing is said
        of them. (Where the object was lost, the slices beyond are said to be empty.)
    """

    mask: np.ndarray
    scope: Box
    scores: dict[int, float] = field(default_factory=dict)
    stops: dict[int, str] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)


def propagate(
    engine: Engine,
    anchors: Sequence[MaskPrompt],
    axis: int,
    *,
    within: Box | None = None,
    only: Collection[int] | None = None,
    rules: Rules | None = None,
    cancel: Cancel | None = None,
    stop: Cancel | None = None,
    progress: Progress | None = None,
    told: Callable[[Walk, int], None] | None = None,
) -> Walk:
    """Carry an object from its anchors through the stack.

    Parameters
    ----------
    engine : Engine
    anchors : sequence of MaskPrompt
        Masks one voxel thick along `axis`, on different slices; kept as they are. Between two of them every slice is
        answered from the nearer one, and the walk ends only where nothing is found.
    axis : int
        Array axis to walk along.
    within : Box or None
        Hard limits of walk and mask.
    only : collection of int, optional
        Go to these slices only. What is found on them is the same as in the whole walk; therefore a way from an anchor
        ends at the first slice that is not among them, on which all that come after depend.
    rules : Rules or None
    cancel, stop : threading.Event, optional
        Asked between slices. Setting `stop` ends the walk with what has been found until then.
    progress : callable, optional
    told : callable, optional
        Called with the walk and the index of each slice that it has just answered.

    Raises
    ------
    InputError
        If an anchor is not flat along `axis`, or lies outside of `within`.
    Cancelled
        If `cancel` was set, or `stop` before the first slice was answered.
    """
    rules = rules or Rules()
    scope = engine.grid.box if within is None else within.intersect(engine.grid.box)
    if scope is None:
        raise InputError(f"The limits from {within.low} to {within.high} lie outside the image.")
    walk = Walk(np.zeros(scope.shape, bool), scope)
    known = _place(anchors, axis, walk)
    appearance = Appearance([_in_slice(engine, index, axis, scope, flat) for index, flat in known.items()])
    routes = _routes(sorted(known), scope, axis)
    wanted = [list(itertools.takewhile(lambda i: only is None or i in only, indices)) for _, indices, _ in routes]
    done, total = 0, sum(map(len, wanted))
    for (start, indices, free), coming in zip(routes, wanted, strict=True):
        state = _State(known[start], appearance)
        walk.left.update(indices[len(coming) :])
        for step, index in enumerate(coming):
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if stop is not None and stop.is_set():
                if done == 0:
                    raise Cancelled
                walk.left.update(coming[step:])
                walk.stops[index] = "it was cancelled"
                break
            if progress is not None:
                progress(f"slice {index}", done / max(total, 1))
            engine.ahead([engine.slice(axis, i) for i in coming[step + 1 : step + 1 + rules.lookahead]])
            reason = _step(engine, walk, state, axis, index, rules, free)
            done += 1
            if reason:
                if free:
                    walk.stops[index] = reason
                break
            if told is not None:
                told(walk, index)
    return walk


def start(engine: Engine, box: Box, axis: int, cancel: Cancel | None = None) -> MaskPrompt:
    """Where to begin inside a box around a whole object: the mask of the slice whose answer fills the box best.

    The box's cross-section is loose on most slices, and a network for tight boxes can go astray on them; on the slice
    where the object is widest it is tight. Tried are the middle slice and four others in the middle half.

    Raises
    ------
    InputError
        If nothing is found on any of them.
    """
    first, size = box.low[axis], box.shape[axis]
    indices = sorted({first + round(share * (size - 1)) for share in _STARTS}, key=lambda i: abs(i - first - size // 2))
    best: tuple[float, MaskPrompt] | None = None
    for index in indices:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        region = engine.slice(axis, index)
        part = box.intersect(region)
        answer = engine.decode(region, [part])[0]
        values = engine.restore(answer)[part.shift([-lo for lo in region.low]).slices]
        tight = Box.of_mask(values > 0)
        if tight is None:
            continue
        rank = np.prod(tight.shape) / np.prod(part.shape) + answer.score + stability_score(values)
        if best is None or rank > best[0]:
            best = rank, MaskPrompt(values > 0, part.low)
    if best is None:
        raise InputError(f"Nothing was found in the box from {box.low} to {box.high}: draw it closer to the object.")
    return best[1]


@dataclass
class _State:
    """What the walk remembers of the last slice, and of the object."""

    mask: np.ndarray  # 2D, of the scope's shape without the axis
    appearance: Appearance
    confidence: float | None = None  # the best so far


def _place(anchors: Sequence[MaskPrompt], axis: int, walk: Walk) -> dict[int, np.ndarray]:
    """Put the anchors into the mask; their flat masks by slice index."""
    if not anchors:
        raise InputError("Propagation needs a mask on at least one slice to start from.")
    known: dict[int, np.ndarray] = {}
    for anchor in anchors:
        extent = anchor.extent
        if extent.shape[axis] != 1:
            raise InputError(f"The mask to propagate is {extent.shape[axis]} voxels thick along axis {axis}, not one.")
        common = extent.intersect(walk.scope)
        if common is None:
            raise InputError("The mask to propagate lies outside the limits of the propagation.")
        part = anchor.mask[common.shift([-o for o in anchor.offset]).slices]
        if not part.any():
            raise InputError("The mask to propagate lies outside the limits of the propagation.")
        walk.mask[common.shift([-lo for lo in walk.scope.low]).slices] |= part
        index = extent.low[axis]
        known[index] = np.take(walk.mask, index - walk.scope.low[axis], axis)
        walk.scores[index] = 1.0
    return known


def _in_slice(engine: Engine, index: int, axis: int, scope: Box, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey values of a whole slice, and a flat mask of the scope in it."""
    region = engine.slice(axis, index)
    mask = np.zeros(region.shape, bool)
    mask[scope.intersect(region).shift([-lo for lo in region.low]).slices] = np.expand_dims(flat, axis)
    return engine.pixels(region).squeeze(axis), mask.squeeze(axis)


def ways(known: Sequence[int], scope: Box, axis: int) -> list[tuple[int, list[int]]]:
    """How a walk goes: anchor slice, and slices to visit from it, in order.

    Parameters
    ----------
    known : sequence of int
        The anchors' slices, rising.
    scope : Box
        Limits of the walk.
    axis : int
    """
    return [(start, indices) for start, indices, _ in _routes(known, scope, axis)]


def _routes(known: Sequence[int], scope: Box, axis: int) -> list[tuple[int, list[int], bool]]:
    """Anchor slice, slices to visit from it in order, and whether the walk may stop early there."""
    first, last = scope.low[axis], scope.high[axis] - 1
    routes = [(known[-1], list(range(known[-1] + 1, last + 1)), True)]
    for low, high in itertools.pairwise(known):
        middle = (low + high) // 2
        routes.append((low, list(range(low + 1, middle + 1)), False))
        routes.append((high, list(range(high - 1, middle, -1)), False))
    routes.append((known[0], list(range(known[0] - 1, first - 1, -1)), True))
    return [route for route in routes if route[1]]


def _step(engine: Engine, walk: Walk, state: _State, axis: int, index: int, rules: Rules, free: bool) -> str:
    """Answer one slice and remember it; the reason to stop, or an empty string."""
    region = engine.slice(axis, index)
    inside = walk.scope.intersect(region)
    part = inside.shift([-lo for lo in region.low]).slices
    log_odds = state.appearance.log_odds(engine.pixels(region)[part].squeeze(axis))
    boxes = candidate_boxes(state.mask, log_odds, walk.scope, region, axis, engine.grid, rules)
    answers = [(engine.restore(answer)[part].squeeze(axis), answer.score) for answer in engine.decode(region, boxes)]
    found = blend(answers, log_odds, state.mask, engine.grid.spacing[axis], rules)
    reason = lost(found, state.mask, state.confidence, rules, surrounded=not free or inside != region)
    if reason:
        return reason
    state.confidence = found.confidence if state.confidence is None else max(state.confidence, found.confidence)
    state.mask = found.mask
    walk.mask[inside.shift([-lo for lo in walk.scope.low]).slices] = np.expand_dims(found.mask, axis)
    walk.scores[index] = found.confidence
    return ""
