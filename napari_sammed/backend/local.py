"""The backend on this machine: one inference thread, loaded models, open images, cached embeddings."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from napari_sammed.backend.answering import Answerer, Question, slice_by_slice
from napari_sammed.backend.base import Cancel, ClassMap, ImageId, Partial, Prediction, Progress
from napari_sammed.backend.cache import ByteCache
from napari_sammed.backend.encoding import Embeddings, batch_of
from napari_sammed.backend.foresight import Foresight
from napari_sammed.backend.guards import Clock, check_answerable
from napari_sammed.backend.inference import InferenceThread, Priority
from napari_sammed.backend.loading import Files, Model, Models, notes_of
from napari_sammed.backend.recovery import with_room
from napari_sammed.backend.slicing import in_region, slice_region, spans_slices
from napari_sammed.backend.walking import Course, Walker
from napari_sammed.errors import InputError, NotReady
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, Logits, ModelCard, PromptableModel
from napari_sammed.models.planes import slice_axis
from napari_sammed.prompts import MaskPrompt, Prompts
from napari_sammed.volume import Volume

CACHE_BYTES = 2 << 30
"""Default budget of the embedding cache: 500 slices of a 256-channel 64 x 64 embedding in single precision."""


class LocalBackend:
    """A `napari_sammed.backend.base.Backend` in this process.

    Parameters
    ----------
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda" or "mps".
    precision : str
        In what image encoders multiply matrices: "float32", "bfloat16", "float16", or "auto" for what the device is
        fastest in.
    weights : mapping of str to Path or sequence of Path, optional
        Weight files of the user's own, by model name; several where a model's weights come in several files.
    cache_bytes : int
        Budget of the embedding cache.
    models : mapping of str to PromptableModel or AutomaticModel, optional
        Models that are loaded already, by name; they go before the registry's.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        precision: str = "auto",
        weights: Mapping[str, Files] | None = None,
        cache_bytes: int = CACHE_BYTES,
        models: Mapping[str, Model] | None = None,
    ) -> None:
        self.device = device
        self._models = Models(device, precision, weights or {}, models or {})
        self._images: dict[ImageId, Volume] = {}
        self._users: dict[ImageId, int] = {}
        self._embeddings = Embeddings(cache_bytes)
        self._foresight = Foresight()
        self._lock = threading.Lock()
        self._inference = InferenceThread()
        self._walker = Walker(self._embeddings, self._inference, self.load, self.prefetch)
        self._answerer = Answerer(self._models, self._embeddings, lambda: self._inference.let_pass(Priority.STEP))

    @property
    def embeddings(self) -> ByteCache[Embedding]:
        """What is kept of encoded images, on whatever device."""
        return self._embeddings.cache

    def open(self, image: Volume) -> ImageId:
        """See `Backend.open`; also refuses images that no model can use (NaN, constant)."""
        image.check_usable()
        image_id = ImageId(image.hash)
        with self._lock:
            self._images.setdefault(image_id, image)
            self._users[image_id] = self._users.get(image_id, 0) + 1
        return image_id

    def close(self, image: ImageId) -> None:
        """See `Backend.close`; the last one who opened the image ends it."""
        with self._lock:
            self._users[image] = self._users.get(image, 0) - 1
            if self._users[image] > 0:
                return
            self._users.pop(image)
            self._images.pop(image, None)
        self._embeddings.forget(image)
        self._foresight.forget(image)

    def shutdown(self) -> None:
        """End the inference thread."""
        self._inference.stop()

    def card(self, model: str) -> ModelCard:
        """See `Backend.card`."""
        return self._models.card(model)

    def use_weights(self, model: str, files: Files) -> None:
        """Take a model's weights from the user's own files from now on; none for the official ones."""

        def use() -> None:
            self._models.use(model, files)
            self._foresight.forget()

        self._inference.submit(use, Priority.CLICK)

    def load(self, model: str, *, cancel: Cancel | None = None, progress: Progress | None = None) -> PromptableModel:
        """The running model of a registry name, loaded (and its weights fetched) on first use."""
        return self._inference.run(lambda: self._models.promptable(model, cancel, progress), Priority.CLICK, cancel)

    def predict(
        self,
        image: ImageId,
        model: str,
        prompts: Prompts,
        *,
        window: Window | None = None,
        region: Box | None = None,
        previous: Logits | None = None,
        idle: bool = False,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """See `Backend.predict`.

        A box over several slices, given to a 2D model, is answered on the slice that it fits best, and propagated
        inside the box.
        """
        volume = self._volume(image)
        if not prompts:
            raise InputError("There is no prompt to segment from: click, draw a box or hand over a mask.")
        prompts.check_inside(volume.grid)
        window = window or Window.auto(volume)
        card = self._fitting(model, volume)
        if slice_by_slice(volume.grid, card) and region is None:
            last = prompts.items[-1]
            region = slice_region(volume.grid, last)
            axis = region.thin_axes[0]
            if isinstance(last, Box) and spans_slices(last, axis):
                if idle:
                    raise NotReady
                return self._walker.walk(Course(image, volume, model, last, axis, window, last), cancel, None, progress)
            prompts = in_region(prompts, region)
        question = Question(image, volume, model, prompts, window, region, previous, cancel, progress, idle)
        clock = Clock()
        priority = Priority.AHEAD if idle else Priority.CLICK

        def work() -> Prediction:
            return self._foresight.answer(question, partial(self._answerer.answer, question, clock))

        return self._inference.run(work, priority, cancel)

    def propagate(
        self,
        image: ImageId,
        model: str,
        anchors: Sequence[MaskPrompt],
        axis: int,
        *,
        window: Window | None = None,
        within: Box | None = None,
        only: Collection[int] | None = None,
        cancel: Cancel | None = None,
        stop: Cancel | None = None,
        progress: Progress | None = None,
        partial: Partial | None = None,
    ) -> Prediction:
        """See `Backend.propagate`; needs a model that knows boxes."""
        volume = self._volume(image)
        Prompts(tuple(anchors)).check_inside(volume.grid)
        course = Course(image, volume, model, anchors, axis, window or Window.auto(volume), within, only)
        return self._walker.walk(course, cancel, stop, progress, partial)

    def predict_boxes(
        self,
        image: ImageId,
        model: str,
        boxes: Sequence[Box],
        *,
        window: Window | None = None,
        regions: Sequence[Box | None] = (),
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """See `Backend.predict_boxes`: one pass for each slice or part, where the model knows boxes."""
        volume = self._volume(image)
        if not boxes:
            raise InputError("There is no box to segment from.")
        Prompts(tuple(boxes)).check_inside(volume.grid)
        window = window or Window.auto(volume)
        card = self.card(model)
        planar = slice_by_slice(volume.grid, card)
        groups: dict[Box | None, list[int]] = {}  # one pass each
        answers: dict[int, Prediction] = {}
        for number, (box, region) in enumerate(zip(boxes, regions or [None] * len(boxes), strict=True)):
            if planar and region is None:
                region = slice_region(volume.grid, box)
                if spans_slices(box, region.thin_axes[0]):
                    region = None
            if "box" in card.prompts and 3 not in card.dimensions and (region is not None or not planar):
                groups.setdefault(region, []).append(number)
                continue
            answers[number] = self.predict(
                image, model, Prompts((box,)), window=window, region=region, cancel=cancel, progress=progress
            )
        for region, numbers in groups.items():
            own = [boxes[number] for number in numbers]
            question = Question(image, volume, model, Prompts(tuple(own)), window, region, None, cancel, progress)
            found = self._inference.run(
                lambda own=own, question=question: self._answerer.answer_boxes(question, own), Priority.CLICK, cancel
            )
            answers |= dict(zip(numbers, found, strict=True))
        return [answers[number] for number in range(len(boxes))]

    def automatic(
        self,
        image: ImageId,
        model: str,
        *,
        window: Window | None = None,
        region: Box | None = None,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> ClassMap:
        """See `Backend.automatic`; clicks about any image are answered between the model's batches."""
        volume = self._volume(image)
        clock = Clock()

        def told(what: str, share: float) -> None:
            if progress is not None:
                progress(what, share)
            self._inference.let_pass(Priority.STEP)

        def work() -> ClassMap:
            with clock("load"):
                loaded = self._models.automatic(model, cancel, progress)
            with clock("segment"):
                found = with_room(
                    model, lambda: loaded.segment(volume, region, window, told, cancel), self._embeddings.clear
                )
            weights = loaded.weights_hash
            return ClassMap(found.labels, found.box, found.classes, model, weights, notes_of(loaded), clock.seconds)

        return self._inference.run(work, Priority.STEP, cancel)

    def refine(
        self,
        image: ImageId,
        model: str,
        region: Box,
        *,
        coarse: MaskPrompt | None = None,
        prompts: Prompts | None = None,
        axis: int | None = None,
        window: Window | None = None,
        idle: bool = False,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """See `Backend.refine`; clicks about any image are answered between the windows."""
        volume = self._volume(image)
        card = self._fitting(model, volume)
        given = tuple(prompts or ())
        Prompts((*given, *([] if coarse is None else [coarse]))).check_inside(volume.grid)
        inside = region.intersect(volume.grid.box)
        if inside is None:
            raise InputError(
                f"The region from {region.low} to {region.high} lies outside the image of shape {volume.grid.shape}."
            )
        check_answerable(volume, inside)
        if not slice_by_slice(volume.grid, card):
            axis = None
        elif axis is None:
            axis = slice_axis(volume.grid, Prompts(given))
        question = Question(
            image, volume, model, Prompts(given), window or Window.auto(volume), inside, None, cancel, progress, idle
        )
        clock = Clock()
        priority = Priority.AHEAD if idle else Priority.STEP

        def work() -> Prediction:
            ask = partial(self._answerer.refine, question, coarse, axis, clock)
            return self._foresight.answer(question, ask, "refine", coarse, axis)

        return self._inference.run(work, priority, cancel)

    def prefetch(self, image: ImageId, model: str, regions: Sequence[Box], window: Window) -> list[Future[None]]:
        """Encode slices or parts that somebody may want soon, when there is nothing better to do."""
        size = batch_of(self._models[model])
        parts = [regions[start : start + size] for start in range(0, len(regions), size)]
        return [
            self._inference.submit(lambda part=part: self._ahead(image, model, part, window), Priority.AHEAD)
            for part in parts
        ]

    def installed(self) -> tuple[str, ...]:
        """See `Backend.installed`: models that are loaded, have weights on this machine or need none."""
        return self._models.installed()

    def available(self) -> tuple[str, ...]:
        """As `installed`, with the models that need no prompts."""
        return self._models.installed(automatic=True)

    def restore(self, model: str, logits: Logits) -> np.ndarray:
        """See `Backend.restore`."""
        return self._inference.run(lambda: self._models.promptable(model, None, None).restore(logits), Priority.STEP)

    def _ahead(self, image: ImageId, name: str, regions: Sequence[Box], window: Window) -> None:
        model = self._models[name]
        if image in self._images and model is not None:
            self._embeddings.prepare(image, self._images[image], model, regions, window)

    def _volume(self, image: ImageId) -> Volume:
        try:
            return self._images[image]
        except KeyError:
            raise InputError("This image is not open: open it before asking about it.") from None

    def _fitting(self, model: str, volume: Volume) -> ModelCard:
        """The card of a model that can look at an image, asked before its weights are loaded."""
        card = self.card(model)
        if min(card.dimensions) > volume.grid.ndim:
            raise InputError(f"{card.title} looks at volumes only: choose a model of flat images for this one.")
        return card
