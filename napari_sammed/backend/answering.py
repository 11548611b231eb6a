"""One question to one model: plan, embed, decode, and back to the image grid. Runs on the inference thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from napari_sammed.backend import extension, nearby, pieces, reductions
from napari_sammed.backend.base import Cancel, ImageId, Prediction, Progress
from napari_sammed.backend.encoding import Embeddings
from napari_sammed.backend.guards import Clock, check_answerable, out_of_memory
from napari_sammed.backend.loading import Models, notes_of
from napari_sammed.backend.masks import apply
from napari_sammed.backend.recovery import with_room
from napari_sammed.backend.refinement import prompted_part, refine
from napari_sammed.errors import InputError, NotReady
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import (
    BoxModel,
    Embedding,
    ExtendingModel,
    GrowingModel,
    Logits,
    ModelCard,
    PromptableModel,
    SparingModel,
)
from napari_sammed.prompts import MaskPrompt, Prompts
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
    idle : bool
        Whether nobody waits for the answer, so that nothing heavy is done for it.
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
    idle: bool = False


class Answerer:
    """Puts questions to models.

    Parameters
    ----------
    models : Models
    embeddings : Embeddings
    between : callable
        Called between the windows of a closer look, to let more urgent questions pass.
    """

    def __init__(self, models: Models, embeddings: Embeddings, between: Callable[[], None]) -> None:
        self._models = models
        self._embeddings = embeddings
        self._between = between

    def answer(self, question: Question, clock: Clock) -> Prediction:
        """The object that all the prompts mark together."""
        model = self.model(question, clock)
        grid = question.volume.grid

        def ask(part: Prompts) -> Prediction:
            return self.answer(replace(question, prompts=part, previous=None), clock)

        def ask_at_once(part: Prompts) -> Prediction:
            return self._all_at_once(replace(question, prompts=part, previous=None), model, clock)

        if pieces.needed(question.prompts, model.card):
            return pieces.correct(question.prompts, model.card, grid, ask)
        if nearby.needed(question.prompts, model.card):
            return nearby.answer(question.prompts, grid, ask_at_once)
        return self._all_at_once(question, model, clock)

    def _all_at_once(self, question: Question, model: PromptableModel, clock: Clock) -> Prediction:
        """The answer of a model that knows all the prompts, or that they are translated for."""
        grid, within = question.volume.grid, question.within
        understood, _ = reductions.reduce(question.prompts, model.card)
        region = model.plan(grid, understood, within)
        while True:
            if not isinstance(model, SparingModel):
                check_answerable(question.volume, region.box)
            logits, sentences = self._ask(question, model, region, clock)
            larger = model.grow(logits, grid, understood, within) if isinstance(model, GrowingModel) else None
            if larger is None:
                break
            region = larger
        boxes = reductions.limits(question.prompts, model.card)
        whole, told = self._followed(question, clock, model, logits, understood, Prompts(boxes).extent or within)
        sentences = (*sentences, *told)
        limited = within is not None or slice_by_slice(grid, model.card)
        scope = whole.region.box if limited else grid.box
        if boxes:
            sentences = (*sentences, "What lay outside of the box was cut off the mask.")
        with clock("decode"):
            answer = _prediction(model, question.model, whole, scope, (*notes_of(model), *sentences), boxes)
        if whole is not logits:
            answer = replace(answer, logits=logits)  # which the next click refines, before it is followed anew
        if getattr(model, "zooms_in", False) and within is None and answer.mask.any():
            answer = self._closer(question, answer, clock)
        return replace(answer, seconds=clock.seconds)

    def _closer(self, question: Question, whole: Prediction, clock: Clock) -> Prediction:
        """An answer about a whole image, with the prompted part of it looked at closer."""
        coarse = MaskPrompt(whole.mask, whole.box.low)
        part = prompted_part(coarse, question.prompts, question.volume.grid)
        found = self.refine(replace(question, within=part, previous=None), coarse, None, clock)
        mask = apply(coarse, found)
        joined = Prediction.empty(whole.scope, score=found.score, model=found.model)
        if mask is not None:
            joined = replace(joined, mask=mask.mask, box=mask.extent)
        sentences = tuple(dict.fromkeys((*whole.reductions, *found.reductions)))
        return replace(whole, mask=joined.mask, box=joined.box, score=found.score, reductions=sentences)

    def _followed(
        self,
        question: Question,
        clock: Clock,
        model: PromptableModel,
        logits: Logits,
        prompts: Prompts,
        within: Box | None,
    ) -> tuple[Logits, tuple[str, ...]]:
        """The answer about the whole object, where the model sees only a part of it at once."""
        if not isinstance(model, ExtendingModel):
            return logits, ()

        def embed(region: Region) -> Embedding:
            return self._encoded(replace(question, progress=None), model, region)

        with clock("extend"), out_of_memory(question.model):
            return extension.extend(model, logits, prompts, within, embed, question.cancel, question.progress)

    def refine(self, question: Question, coarse: MaskPrompt | None, axis: int | None, clock: Clock) -> Prediction:
        """The object looked at closer inside ``question.within``.

        Parameters
        ----------
        question : Question
        coarse : MaskPrompt or None
            The object as it is known.
        axis : int or None
            Across the slices, for a model that looks at slices of a volume.
        clock : Clock
        """
        model = self.model(question, clock)
        region = question.within
        told: dict[str, None] = {}  # ordered, without repeats

        def ask(window: Region, prompts: Prompts) -> Logits:
            self._between()
            logits, sentences = self._ask(replace(question, prompts=prompts, progress=None), model, window, clock)
            told.update(dict.fromkeys(sentences))
            return logits

        found = refine(
            model, question.volume, region, coarse, question.prompts, axis, ask, question.cancel, question.progress
        )
        boxes = reductions.limits(question.prompts, model.card)
        answer = Prediction.tight(
            reductions.cut(found.mask, region, boxes), region, score=found.score, model=question.model
        )
        looked = f"Looked closer in {found.windows} window{'s' * (found.windows > 1)}."
        sentences = (*notes_of(model), looked, *(told if found.windows == 1 else ()))
        return replace(answer, weights_hash=model.weights_hash, reductions=sentences, seconds=clock.seconds)

    def answer_boxes(self, question: Question, boxes: Sequence[Box]) -> list[Prediction]:
        """One object a box, all on one slice or on a flat image, in one pass; they share the time that it took."""
        clock = Clock()
        model = self.model(question, clock)
        if not isinstance(model, BoxModel):
            return [self.answer(replace(question, prompts=Prompts((box,))), Clock()) for box in boxes]
        region = model.plan(question.volume.grid, Prompts((boxes[0],)), question.within)
        with clock("embed"):
            embedding = self._encoded(question, model, region)
        inside = [box.intersect(region.box) for box in boxes]
        if None in inside:
            raise InputError(f"The box {boxes[inside.index(None)]} lies outside the part that is looked at.")
        with clock("decode"), out_of_memory(question.model):
            found = with_room(question.model, lambda: model.decode_boxes(embedding, inside), self._embeddings.clear)
            answers = [_prediction(model, question.model, logits, region.box, notes_of(model)) for logits in found]
        share = {step: seconds / len(boxes) for step, seconds in clock.seconds.items()}
        return [replace(answer, seconds=share) for answer in answers]

    def _ask(
        self, question: Question, model: PromptableModel, region: Region, clock: Clock
    ) -> tuple[Logits, tuple[str, ...]]:
        """The model's answer about a region, and what had to be translated for it."""
        with clock("embed"):
            embedding = self._encoded(question, model, region)
        previous = question.previous
        if previous is not None and previous.region != region:
            previous = None  # of another part of the image
        with clock("decode"):
            logits, sentences = with_room(
                question.model,
                lambda: reductions.answer(model, embedding, question.prompts, previous, question.cancel),
                self._embeddings.clear,
            )
        if question.volume.channels == 3 and not model.card.colour:
            sentences = (f"{model.card.title} sees no colours: it was given the image in grey.", *sentences)
        return logits, sentences

    def _encoded(self, question: Question, model: PromptableModel, region: Region) -> Embedding:
        """A part of the question's image as the model encodes it."""
        return self._embeddings.get(
            question.image,
            question.volume,
            model,
            region,
            question.window,
            question.cancel,
            question.progress,
            idle=question.idle,
        )

    def model(self, question: Question, clock: Clock) -> PromptableModel:
        """The model that is asked, loaded now if need be; NotReady instead of that for idle questions."""
        if question.idle and self._models[question.model] is None and self._models.card(question.model).weights:
            raise NotReady
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

    def found(reading: Logits) -> Prediction:
        if isinstance(model, SparingModel):
            mask, box = model.object_mask(reading)
        else:
            mask, box = model.restore(reading) > 0, reading.region.box
        mask = reductions.cut(mask, box, limits)
        return Prediction.tight(mask, box, score=reading.score, model=name)

    readings = [
        replace(
            found(reading),
            scope=scope,
            weights_hash=model.weights_hash,
            reductions=sentences,
            logits=replace(reading, alternatives=()),
        )
        for reading in (logits, *logits.alternatives)
    ]
    return replace(readings[0], alternatives=tuple(readings[1:]))
