"""A ladder of boxes: how a network that was trained on boxes only answers clicks.

Boxes of several sizes and shapes around the clicks, and around the answer so far, are decoded in two small batches, and
the one is taken whose mask looks best (`_scores`): it holds the positive and none of the negative clicks, with a click
in its middle, is steady, is what neighbouring rungs find as well, and does not lean on the rim of its box. A further
click may also add a piece to the answer so far, or take one away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sammed.backend.rectangles import Rectangle, squares
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import BoxModel, Embedding, Logits
from napari_sammed.models.stability import stability_score
from napari_sammed.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari_sammed.backend.base import Cancel

_SIZES = (0.04, 0.055, 0.08, 0.11, 0.16, 0.22, 0.31, 0.44, 0.62, 0.88)  # sides of squares, shares of the longest side
_PIECES = (0.06, 0.12, 0.24, 0.48)  # the same for pieces to add or take away
_SHAPES = (0.5, 2.0)  # height over width of the rectangles tried where a square did well
_STRETCHES = (0.7, 1.0, 1.3, 1.7)  # of the box of the answer so far
_NEIGHBOURS = 7  # rungs that should agree with a good one
_CONTRADICTION = 4.0  # what a click on the wrong side costs, more than looks can make up for
_LOYALTY = 1.0  # worth of agreeing with the answer so far

# Fitted on one click for each of 28 structures of 13 images (softmax ranking of the Dice of 50 boxes each) and rounded;
# leaving one image out at a time loses nothing (Dice 0.656 both ways); half a weight or twice moves it by under 0.04.
_WEIGHTS = {"iou": 1.5, "stability": 1.5, "middle": 2.2, "agreement": 1.2, "rim": -1.0, "size": -0.08}


@dataclass(frozen=True)
class Rung:
    """The chosen answer.

    Parameters
    ----------
    box : Box
        In index coordinates of the image.
    logits : Logits
    count : int
        Boxes that it was chosen from.
    piece : {"", "added", "removed"}
        Whether the answer to the box was joined with the answer so far.
    """

    box: Box
    logits: Logits
    count: int
    piece: str = ""


def climb(
    model: BoxModel, embedding: Embedding, prompts: Prompts, previous: Logits | None, cancel: Cancel | None = None
) -> Rung:
    """Answer clicks, and boxes if there are any, with boxes.

    Parameters
    ----------
    model : BoxModel
    embedding : Embedding
        Of a slice or a flat image.
    prompts : Prompts
        Points, at least one of them positive unless there is a box or a previous answer; boxes.
    previous : Logits or None
        Answer to the object's earlier prompts in the same region; the last point then corrects it.
    cancel : threading.Event, optional

    Raises
    ------
    InputError
        If there are only negative points and nothing that they could correct.
    Cancelled
    """
    view = _View(model, embedding, prompts)
    answered = None if previous is None or previous.region != embedding.region else view.coarse(previous)
    given = [view.rectangle(box) for box in prompts.of(Box)]
    if given and answered is None:
        answered = np.maximum.reduce([view.coarse(a) for a in model.decode_boxes(embedding, prompts.of(Box))])
    if answered is not None and not (answered > 0).any():
        answered = None
    if answered is None and not len(view.positive):
        raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
    tried = _Tried(view, answered)
    if answered is None:
        rungs = squares(view.centre, view.least, [s * view.longest for s in _SIZES])
        tried.decode(given + rungs, cancel)
        best = tried.best(3)
        shapes = [rung.rectangle.reshaped(shape) for rung in best[:2] for shape in _SHAPES]
        tried.decode(shapes + [view.tight(rung) for rung in best if (rung.values > 0).any()], cancel)
    else:
        around = view.around(answered)
        boxes = [around.stretched(factor) for factor in _STRETCHES]
        boxes += [cut for point in view.negative for cut in around.cuts(point) if cut.holds(view.positive)]
        tried.decode(given + boxes, cancel)
        if len(view.newest):
            pieces = squares(view.newest[0], np.zeros(2), [s * view.longest for s in _PIECES])
            tried.decode(pieces, cancel, piece="added" if view.newest_positive else "removed")
        tried.decode([view.tight(rung) for rung in tried.best(2) if not rung.piece and (rung.values > 0).any()], cancel)
    chosen = tried.best(1)[0]
    return Rung(view.box(chosen.rectangle), tried.logits(chosen), len(tried.rungs), chosen.piece)


@dataclass
class _Candidate:
    """A decoded box: its coarse logits, and which share of its mask's edge lies on the rim of the box."""

    rectangle: Rectangle
    answer: Logits
    values: np.ndarray
    rim: float
    piece: str = ""


class _View:
    """A slice as the ladder sees it: clicks in rows and columns, masks at the network's resolution."""

    def __init__(self, model: BoxModel, embedding: Embedding, prompts: Prompts) -> None:
        self.model, self.embedding = model, embedding
        self.region = embedding.region.box
        axes = tuple(axis for axis in range(self.region.ndim) if axis not in self.region.thin_axes[:1])
        self.axes = axes if self.region.ndim == 3 else (0, 1)
        self.low = np.array([self.region.low[axis] for axis in self.axes], float)
        self.shape = np.array([self.region.shape[axis] for axis in self.axes])
        spacing = np.array([embedding.image.spacing[axis] for axis in self.axes])
        self.longest = (self.shape * spacing).max() / spacing  # of the sides in mm, counted in rows and in columns
        self.positive = self._places(prompts.points(positive=True))
        self.negative = self._places(prompts.points(positive=False))
        points = prompts.of(Point)
        self.newest = self._places(np.array([points[-1].index])) if points else np.empty((0, 2))
        self.newest_positive = bool(points) and points[-1].positive

    def _places(self, points: np.ndarray) -> np.ndarray:
        return points[:, list(self.axes)] - self.low + 0.5 if len(points) else np.empty((0, 2))

    @property
    def centre(self) -> np.ndarray:
        """Of the positive clicks."""
        return (self.positive.min(0) + self.positive.max(0)) / 2 if len(self.positive) else np.zeros(2)

    @property
    def least(self) -> np.ndarray:
        """Sides of a box that holds all positive clicks."""
        return 1.2 * np.ptp(self.positive, axis=0) if len(self.positive) else np.zeros(2)

    def rectangle(self, box: Box) -> Rectangle:
        rows, columns = self.axes
        low = np.array([box.low[rows], box.low[columns]]) - self.low
        return Rectangle(*low, *(low + np.array([box.shape[rows], box.shape[columns]])))

    def box(self, rectangle: Rectangle) -> Box:
        """The rectangle as whole voxels of the image, inside the region and never empty."""
        low, high = list(self.region.low), list(self.region.high)
        edges = ((rectangle.top, rectangle.bottom), (rectangle.left, rectangle.right))
        for axis, size, first, (start, stop) in zip(self.axes, self.shape, self.low, edges, strict=True):
            low_edge = min(max(int(np.floor(start + 0.5)), 0), int(size) - 1)
            low[axis] = int(first) + low_edge
            high[axis] = int(first) + max(min(int(np.floor(stop + 0.5)), int(size)), low_edge + 1)
        return Box(tuple(low), tuple(high))

    def coarse(self, logits: Logits) -> np.ndarray:
        return self.model.coarse(logits)

    def at(self, values: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Entries of a coarse map under clicks."""
        places = np.floor(points * (np.array(values.shape) / self.shape)).astype(int)
        places = places.clip(0, np.array(values.shape) - 1)
        return values[places[:, 0], places[:, 1]]

    def around(self, values: np.ndarray) -> Rectangle:
        """The tight rectangle of a coarse mask, extended to hold the positive clicks with some margin."""
        rectangle = self._of_mask(values > 0)
        for row, column in self.positive:
            margin_row, margin_column = 0.15 * rectangle.sides
            if not rectangle.holds(np.array([row, column])):
                rectangle = Rectangle(
                    min(rectangle.top, row - margin_row),
                    min(rectangle.left, column - margin_column),
                    max(rectangle.bottom, row + margin_row),
                    max(rectangle.right, column + margin_column),
                )
        return rectangle

    def tight(self, candidate: _Candidate) -> Rectangle:
        """The rectangle of a candidate's mask, one coarse pixel wider: is the mask its own answer?"""
        rectangle = self._of_mask(candidate.values > 0)
        pixel = self.shape / np.array(candidate.values.shape)
        return Rectangle.centred(rectangle.centre, rectangle.sides + 2 * pixel)

    def _of_mask(self, mask: np.ndarray) -> Rectangle:
        box = Box.of_mask(mask) or Box.of_shape(mask.shape)
        pixel = self.shape / np.array(mask.shape)
        return Rectangle(*(np.array(box.low) * pixel), *(np.array(box.high) * pixel))


@dataclass
class _Tried:
    """The rungs decoded so far."""

    view: _View
    answered: np.ndarray | None
    rungs: list[_Candidate] = field(default_factory=list)

    def decode(self, rectangles: Sequence[Rectangle], cancel: Cancel | None, piece: str = "") -> None:
        """Decode those that are new, in one batch."""
        if cancel is not None and cancel.is_set():
            raise Cancelled
        known = {(self.view.box(rung.rectangle), rung.piece) for rung in self.rungs}
        boxes = {self.view.box(rectangle): rectangle for rectangle in rectangles}
        fresh = {box: rectangle for box, rectangle in boxes.items() if (box, piece) not in known}
        if not fresh:
            return
        answers = self.view.model.decode_boxes(self.view.embedding, list(fresh))
        for answer, rectangle in zip(answers, fresh.values(), strict=True):
            values = self.view.coarse(answer)
            rim = _rim_share(values > 0, self.view, rectangle)
            if piece and self.answered is not None:
                values = np.maximum(self.answered, values) if piece == "added" else np.minimum(self.answered, -values)
            self.rungs.append(_Candidate(rectangle, answer, values, rim, piece))

    def best(self, count: int) -> list[_Candidate]:
        """The best looking ones, best first."""
        order = np.argsort(-_scores(self.rungs, self.view, self.answered), kind="stable")
        return [self.rungs[i] for i in order[:count]]

    def logits(self, candidate: _Candidate) -> Logits:
        if not candidate.piece:
            return candidate.answer
        values = candidate.answer.values.copy()
        rows, columns = candidate.values.shape
        values[:rows, :columns] = candidate.values
        return Logits(values, candidate.answer.region, candidate.answer.score)


def _scores(rungs: Sequence[_Candidate], view: _View, answered: np.ndarray | None) -> np.ndarray:
    """How good each answer looks; higher is better."""
    masks = np.stack([rung.values > 0 for rung in rungs])
    areas = masks.sum(axis=(1, 2))
    agreement = np.sort(_overlaps(masks, masks) - np.eye(len(masks)), axis=1)[:, -_NEIGHBOURS:]
    agreement = agreement[:, -(len(masks) - 1) :].mean(axis=1) if len(masks) > 1 else np.zeros(1)
    features = {
        "iou": np.array([rung.answer.score for rung in rungs]),
        "stability": np.array([stability_score(rung.values) for rung in rungs]),
        "middle": np.array([_middle(mask, view) for mask in masks]),
        "agreement": agreement,
        "rim": np.array([rung.rim for rung in rungs]),
        "size": np.log(areas / masks[0].size + 5e-4),
    }
    scores = sum(weight * features[name] for name, weight in _WEIGHTS.items())
    for points, wrong in ((view.positive, False), (view.negative, True)):
        for point in points:
            scores -= _CONTRADICTION * np.array([view.at(mask, point[None])[0] == wrong for mask in masks])
    if answered is not None:
        scores += _LOYALTY * _overlaps(masks, (answered > 0)[None])[:, 0]
    return np.where(areas > 0, scores, -100.0)


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each mask of one stack with each of another."""
    a = first.reshape(len(first), -1).astype(np.float32)
    b = second.reshape(len(second), -1).astype(np.float32)
    common = a @ b.T
    return common / np.maximum(a.sum(1)[:, None] + b.sum(1)[None] - common, 1)


def _middle(mask: np.ndarray, view: _View) -> float:
    """Depth of the deepest positive click in the mask against the mask's deepest pixel: people click the middle."""
    box = Box.of_mask(mask)
    if box is None or not len(view.positive):
        return 0.0
    depth = np.zeros(mask.shape)
    depth[box.slices] = ndimage.distance_transform_edt(np.pad(mask[box.slices], 1))[1:-1, 1:-1]
    return float(view.at(depth, view.positive).max() / depth.max())


def _rim_share(mask: np.ndarray, view: _View, rectangle: Rectangle) -> float:
    """Share of a mask's edge within a coarse pixel of its box's rim or beyond: the box decided there, not the image."""
    edge = mask & ~ndimage.binary_erosion(mask)
    rows, columns = np.nonzero(edge)
    if not len(rows):
        return 1.0
    ratio = np.array(mask.shape) / view.shape
    top, left = np.array([rectangle.top, rectangle.left]) * ratio
    bottom, right = np.array([rectangle.bottom, rectangle.right]) * ratio - 1
    limits = np.maximum([top, left], 0), np.minimum([bottom, right], np.array(mask.shape) - 1)
    (top, left), (bottom, right) = limits
    return float(np.mean((rows <= top + 1) | (rows >= bottom - 1) | (columns <= left + 1) | (columns >= right - 1)))
