"""Walks through the stacks of open images, for the backend on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.backend import propagation
from napari_sammed.backend.base import Cancel, ImageId, Partial, Prediction, Progress
from napari_sammed.backend.encoding import Embeddings
from napari_sammed.backend.guards import Clock, Either, check_answerable
from napari_sammed.backend.inference import InferenceThread
from napari_sammed.backend.loading import notes_of
from napari_sammed.backend.masks import span_of
from napari_sammed.backend.propagation import Walk
from napari_sammed.backend.slices import SliceEngine, view_around
from napari_sammed.backend.slicing import slabs
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import BoxModel, Embedding, PromptableModel
from napari_sammed.prompts import MaskPrompt, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.volume import Volume

_NEAR = 2.0  # of the object's length: what is looked at of the slices of an image that is read by region


@dataclass(frozen=True)
class Course:
    """Where a walk goes.

    Parameters
    ----------
    image : ImageId
    volume : Volume
        The image itself.
    model : str
        Registry name.
    known : sequence of MaskPrompt, or Box
        Slices where the object is known; or a box around all of it, in which the best slice to begin on is looked for.
    axis : int
        Across the slices.
    window : Window
    within : Box or None
        Hard limits.
    only : collection of int or None
        Slices to go to; None for all.
    """

    image: ImageId
    volume: Volume
    model: str
    known: Sequence[MaskPrompt] | Box
    axis: int
    window: Window
    within: Box | None = None
    only: Collection[int] | None = None


class Walker:
    """Carries objects through stacks; each slice is a task of the inference thread, so that clicks come between.

    Parameters
    ----------
    embeddings : Embeddings
    inference : InferenceThread
    load : callable
        Gives the model of a name, loaded now if need be; takes ``cancel`` and ``progress``.
    prefetch : callable
        See `napari_sammed.backend.base.Backend.prefetch`.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        inference: InferenceThread,
        load: Callable[..., PromptableModel],
        prefetch: Callable[[ImageId, str, Sequence[Box], Window], list[Future[None]]],
    ) -> None:
        self._embeddings = embeddings
        self._inference = inference
        self._load = load
        self._prefetch = prefetch

    def walk(
        self,
        course: Course,
        cancel: Cancel | None = None,
        stop: Cancel | None = None,
        progress: Progress | None = None,
        partial: Partial | None = None,
    ) -> Prediction:
        """The object in all slices that it is followed through; see `napari_sammed.backend.base.Backend.propagate`."""
        clock = Clock()
        ended = Either(cancel, stop)
        with clock("load"):
            model = self._load(course.model, cancel=ended, progress=progress)
        if not isinstance(model, BoxModel):
            raise InputError(f"{model.card.title} cannot carry a mask from slice to slice: choose a model of boxes.")
        side = min(model.card.input_size, default=max(course.volume.grid.shape))
        course, view = _looked_at(course, side)
        engine = self._engine(course, view, model, clock, cancel)
        known, axis = course.known, course.axis
        if isinstance(known, Box):
            if progress is not None:
                progress("looking for the best slice to begin on", 0.0)
            inside = known.intersect(course.volume.grid.box)
            known = [propagation.start(engine, inside or known, axis, ended)]

        def told(walk: Walk, index: int) -> None:
            partial(_piece(walk, index, axis, course.model, model.weights_hash))

        walk = propagation.propagate(
            engine,
            known,
            axis,
            within=course.within,
            only=course.only,
            cancel=cancel,
            stop=stop,
            progress=progress,
            told=None if partial is None else told,
        )
        return Prediction.tight(
            walk.mask,
            walk.scope,
            score=statistics.fmean(walk.scores.values()),
            model=course.model,
            weights_hash=model.weights_hash,
            reductions=notes_of(model)
            + tuple(f"Stopped before slice {index}: {why}." for index, why in sorted(walk.stops.items())),
            slice_scores=walk.scores,
            axis=axis,
            silent=slabs(walk.scope, axis, walk.left),
            seconds=clock.seconds,
        )

    def _engine(
        self, course: Course, view: Box | None, model: BoxModel, clock: Clock, cancel: Cancel | None
    ) -> SliceEngine:
        volume = course.volume

        def embed(region: Box) -> Embedding:
            plan = model.plan(volume.grid, Prompts((region,)), region)
            with clock("embed"):
                return self._embeddings.get(course.image, volume, model, plan, course.window, cancel)

        def ahead(regions: Sequence[Box]) -> None:
            self._prefetch(course.image, course.model, regions, course.window)

        return SliceEngine(volume, model, self._inference, embed, ahead, self._embeddings.clear, view)


def _looked_at(course: Course, side: int) -> tuple[Course, Box | None]:
    """A course and what it looks at of the stack; one through an image that is read by region stays near the object."""
    grid = course.volume.grid
    limits = None if course.within is None else course.within.intersect(grid.box)
    if course.volume.in_memory or isinstance(course.known, Box):
        view = None if limits is None else view_around(limits, course.axis, grid, side)
    else:
        near = view_around(span_of(course.known), course.axis, grid, side, surroundings=_NEAR)
        limits = view = near if limits is None else near.intersect(limits)
        course = replace(course, within=limits)
    check_answerable(course.volume, limits or grid.box, voxel=1)
    return course, view


def _piece(walk: Walk, index: int, axis: int, model: str, weights_hash: str) -> Prediction:
    """What a walk has found on one slice."""
    scope = slabs(walk.scope, axis, [index])[0]
    mask = walk.mask[scope.shift([-lo for lo in walk.scope.low]).slices]
    score = walk.scores[index]
    rest = {"score": score, "model": model, "weights_hash": weights_hash, "slice_scores": {index: score}, "axis": axis}
    return Prediction.tight(np.array(mask), scope, **rest)
