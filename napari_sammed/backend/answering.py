"""One question to one model: plan, embed, decode, and back to the image grid. Runs on the inference thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sammed.backend import pieces, reductions
from napari_sammed.backend.base import Cancel, ImageId, Prediction, Progress
from napari_sammed.backend.encoding import Embeddings
from napari_sammed.backend.guards import Clock, out_of_memory
from napari_sammed.backend.loading import Models, notes_of
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel, GrowingModel, Logits, ModelCard, PromptableModel
from napari_sammed.prompts import Prompts
from napari_sammed.volume import Volume


@dataclass(frozen=True)
class Question:
    """What is asked about an open image.

    Parameters
    ----------
    image : ImageId
    volume : Volume
        The image itself.
    model : str
        Registry name.
    prompts : Prompts
    window : Window
    within : Box or None
        Look only here.
    previous : Logits or None
        Answer to the object's earlier prompts in the same region.
    cancel, progress : optional
    """

    image: ImageId
    volume: Volume
    model: str
    prompts: Prompts
    window: Window
    within: Box | None = None
    previous: Logits | None = None
    cancel: Cancel | None = None
    progress: Progress | None = None


class Answerer:
    """Puts questions to models.

    Parameters
    ----------
    models : Models
    embeddings : Embeddings
    """

    def __init__(self, models: Models, embeddings: Embeddings) -> None:
        self._models = models
        self._embeddings = embeddings

    def answer(self, question: Question, clock: Clock) -> Prediction:
        """The object that all the prompts mark together."""
        model = self.model(question, clock)
        if pieces.needed(question.prompts, model.card):
            return pieces.correct(
                question.prompts,
                model.card,
                lambda part: self.answer(replace(question, prompts=part, previous=None), clock),
            )
        grid, within, previous = question.volume.grid, question.within, question.previous
        understood, _ = reductions.reduce(question.prompts, model.card)
        region = model.plan(grid, understood, within)
        while True:
            with clock("embed"):
                embedding = self._embeddings.get(
                    question.image, question.volume, model, region, question.window, question.cancel, question.progress
                )
            if previous is not None and previous.region != region:
                previous = None  # of another part of the image
            with clock("decode"), out_of_memory(question.model):
                logits, sentences = reductions.answer(model, embedding, question.prompts, previous, question.cancel)
            larger = model.grow(logits, grid, understood, within) if isinstance(model, GrowingModel) else None
            if larger is None:
                break
            region = larger
        scope = region.box if within is not None or slice_by_slice(grid, model.card) else grid.box
        boxes = reductions.limits(question.prompts, model.card)
        if boxes:
            sentences = (*sentences, "What lay outside of the box was cut off the mask.")
        with clock("decode"):
            answer = _prediction(model, question.model, logits, scope, (*notes_of(model), *sentences), boxes)
        return replace(answer, seconds=clock.seconds)

    def answer_boxes(self, question: Question, boxes: Sequence[Box]) -> list[Prediction]:
        """One object a box, all on one slice or on a flat image, in one pass; they share the time that it took."""
        clock = Clock()
        model = self.model(question, clock)
        if not isinstance(model, BoxModel):
            return [self.answer(replace(question, prompts=Prompts((box,))), Clock()) for box in boxes]
        region = model.plan(question.volume.grid, Prompts((boxes[0],)), question.within)
        with clock("embed"):
            embedding = self._embeddings.get(
                question.image, question.volume, model, region, question.window, question.cancel, question.progress
            )
        inside = [box.intersect(region.box) for box in boxes]
        if None in inside:
            raise InputError(f"The box {boxes[inside.index(None)]} lies outside the part that is looked at.")
        with clock("decode"), out_of_memory(question.model):
            found = model.decode_boxes(embedding, inside)
            answers = [_prediction(model, question.model, logits, region.box, notes_of(model)) for logits in found]
        share = {step: seconds / len(boxes) for step, seconds in clock.seconds.items()}
        return [replace(answer, seconds=share) for answer in answers]

    def model(self, question: Question, clock: Clock) -> PromptableModel:
        """The model that is asked, loaded now if need be."""
        with clock("load"):
            return self._models.promptable(question.model, question.cancel, question.progress)


def slice_by_slice(grid: Grid, card: ModelCard) -> bool:
    """Whether a model looks at single slices of an image."""
    return grid.ndim == 3 and 3 not in card.dimensions


def _prediction(
    model: PromptableModel,
    name: str,
    logits: Logits,
    scope: Box,
    sentences: tuple[str, ...],
    limits: Sequence[Box] = (),
) -> Prediction:
    """Logits and their alternatives on the image grid, cut to the boxes in `limits`."""

    def mask(reading: Logits) -> np.ndarray:
        return reductions.cut(model.restore(reading) > 0, reading.region.box, limits)

    readings = [
        replace(
            Prediction.tight(mask(reading), reading.region.box, score=reading.score, model=name),
            scope=scope,
            weights_hash=model.weights_hash,
            reductions=sentences,
            logits=replace(reading, alternatives=()),
        )
        for reading in (logits, *logits.alternatives)
    ]
    return replace(readings[0], alternatives=tuple(readings[1:]))
