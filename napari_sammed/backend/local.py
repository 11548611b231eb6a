"""The backend on this machine: one inference thread, loaded models, open images, cached embeddings."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from napari_sammed.backend import propagation, reductions
from napari_sammed.backend.base import Cancel, ImageId, Prediction, Progress
from napari_sammed.backend.cache import ByteCache
from napari_sammed.backend.inference import InferenceThread, Priority
from napari_sammed.backend.slices import SliceEngine
from napari_sammed.backend.slicing import in_region, slice_region, spans_slices
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Region
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.base import BoxModel, Embedding, GrowingModel, Logits, ModelCard, PromptableModel
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
    weights : mapping of str to Path, optional
        Weight files of the user's own, by model name.
    cache_bytes : int
        Budget of the embedding cache.
    models : mapping of str to PromptableModel, optional
        Models that are loaded already, by name; they go before the registry's.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        weights: Mapping[str, Path] | None = None,
        cache_bytes: int = CACHE_BYTES,
        models: Mapping[str, PromptableModel] | None = None,
    ) -> None:
        self.device = device
        self._weights = dict(weights or {})
        self._models: dict[str, PromptableModel] = dict(models or {})
        self._images: dict[ImageId, Volume] = {}
        self._users: dict[ImageId, int] = {}
        self._embeddings: ByteCache[Embedding] = ByteCache(cache_bytes)
        self._lock = threading.Lock()
        self._inference = InferenceThread()

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
        self._embeddings.discard(image)

    def shutdown(self) -> None:
        """End the inference thread."""
        self._inference.stop()

    def card(self, model: str) -> ModelCard:
        """See `Backend.card`."""
        return self._models[model].card if model in self._models else registry.card(model)

    def load(self, model: str, *, cancel: Cancel | None = None, progress: Progress | None = None) -> PromptableModel:
        """The running model of a registry name, loaded (and its weights fetched) on first use."""
        return self._inference.run(lambda: self._loaded(model, cancel, progress), Priority.CLICK, cancel)

    def predict(
        self,
        image: ImageId,
        model: str,
        prompts: Prompts,
        *,
        window: Window | None = None,
        region: Box | None = None,
        previous: Logits | None = None,
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
        planar = volume.grid.ndim == 3 and 3 not in self.card(model).dimensions
        if planar and region is None:
            last = prompts.items[-1]
            region = slice_region(volume.grid, last)
            axis = region.thin_axes[0]
            if isinstance(last, Box) and spans_slices(last, axis):
                return self._walk(image, model, last, axis, window, last, cancel, progress)
            prompts = in_region(prompts, region)
        clock = _Clock()
        return self._inference.run(
            lambda: self._answer(image, model, prompts, window, region, previous, planar, clock, cancel, progress),
            Priority.CLICK,
            cancel,
        )

    def propagate(
        self,
        image: ImageId,
        model: str,
        anchors: Sequence[MaskPrompt],
        axis: int,
        *,
        window: Window | None = None,
        within: Box | None = None,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """See `Backend.propagate`; needs a model that knows boxes."""
        volume = self._volume(image)
        Prompts(tuple(anchors)).check_inside(volume.grid)
        return self._walk(image, model, anchors, axis, window or Window.auto(volume), within, cancel, progress)

    def _walk(
        self,
        image: ImageId,
        model: str,
        known: Sequence[MaskPrompt] | Box,
        axis: int,
        window: Window,
        within: Box | None,
        cancel: Cancel | None,
        progress: Progress | None,
    ) -> Prediction:
        """Through the stack from the slices where the object is known, or from the best one inside a box."""
        volume = self._volume(image)
        clock = _Clock()
        with clock("load"):
            loaded = self.load(model, cancel=cancel, progress=progress)
        if not isinstance(loaded, BoxModel):
            raise InputError(f"{loaded.card.title} cannot carry a mask from slice to slice: choose a model of boxes.")

        def embed(region: Box) -> Embedding:
            plan = loaded.plan(volume.grid, Prompts((region,)), region)
            with clock("embed"):
                return self._embedding(image, loaded, plan, window, cancel, None)

        def ahead(regions: Sequence[Box]) -> None:
            self.prefetch(image, model, regions, window)

        engine = SliceEngine(volume.grid, loaded, self._inference, embed, ahead)
        if isinstance(known, Box):
            if progress is not None:
                progress("looking for the best slice to begin on", 0.0)
            inside = known.intersect(volume.grid.box)
            known = [propagation.start(engine, inside or known, axis, cancel)]
        walk = propagation.propagate(engine, known, axis, within=within, cancel=cancel, progress=progress)
        return Prediction.tight(
            walk.mask,
            walk.scope,
            score=statistics.fmean(walk.scores.values()),
            model=model,
            weights_hash=loaded.weights_hash,
            reductions=tuple(f"Stopped before slice {index}: {why}." for index, why in sorted(walk.stops.items())),
            slice_scores=walk.scores,
            seconds=clock.seconds,
        )

    def prefetch(self, image: ImageId, model: str, regions: Sequence[Box], window: Window) -> None:
        """Encode slices or parts that somebody may want soon, when there is nothing better to do."""
        for region in regions:
            self._inference.submit(lambda region=region: self._ahead(image, model, region, window), Priority.AHEAD)

    # ---- on the inference thread ----------------------------------------------------------------------------------

    def _answer(
        self,
        image: ImageId,
        name: str,
        prompts: Prompts,
        window: Window,
        within: Box | None,
        previous: Logits | None,
        planar: bool,
        clock: _Clock,
        cancel: Cancel | None,
        progress: Progress | None,
    ) -> Prediction:
        volume = self._volume(image)
        with clock("load"):
            model = self._loaded(name, cancel, progress)
        understood, _ = reductions.reduce(prompts, model.card)
        region = model.plan(volume.grid, understood, within)
        while True:
            with clock("embed"):
                embedding = self._embedding(image, model, region, window, cancel, progress)
            with clock("decode"), _out_of_memory(name):
                logits, sentences = reductions.answer(model, embedding, prompts, previous, cancel)
            larger = model.grow(logits, volume.grid, understood, within) if isinstance(model, GrowingModel) else None
            if larger is None:
                break
            region, previous = larger, None
        with clock("decode"):
            mask = model.restore(logits) > 0
        scope = region.box if planar or within is not None else volume.grid.box
        inside = Prediction.tight(mask, region.box, score=logits.score, model=name)
        return Prediction(
            inside.mask,
            inside.box,
            scope,
            logits.score,
            name,
            model.weights_hash,
            sentences,
            logits,
            seconds=clock.seconds,
        )

    def _loaded(self, name: str, cancel: Cancel | None, progress: Progress | None) -> PromptableModel:
        if name not in self._models:
            if progress is not None:
                progress(f"loading {name}", 0.0)

            def fetched(done: int, total: int) -> None:
                if progress is not None:
                    progress(f"fetching the weights of {name}", done / max(total, 1))

            self._models[name] = registry.load(name, self._weights.get(name), self._device(name), fetched, cancel)
        return self._models[name]

    def _device(self, name: str) -> str:
        """The torch device for a model; models without weights need none, and so no torch."""
        if registry.card(name).weights is None:
            return "cpu"
        from napari_sammed.backend.devices import choose

        return choose(self.device)

    def _embedding(
        self,
        image: ImageId,
        model: PromptableModel,
        region: Region,
        window: Window,
        cancel: Cancel | None,
        progress: Progress | None,
    ) -> Embedding:
        """From the cache, or made now."""
        if cancel is not None and cancel.is_set():
            raise Cancelled
        key = (image, model.card.name, model.weights_hash, region, window)
        embedding = self._embeddings.get(key)
        if embedding is None:
            if progress is not None:
                progress("encoding", 0.0)
            with _out_of_memory(model.card.name):
                embedding = model.embed(self._volume(image), region, window)
            self._embeddings.put(key, embedding)
        if cancel is not None and cancel.is_set():
            raise Cancelled
        return embedding

    def _ahead(self, image: ImageId, name: str, region: Box, window: Window) -> None:
        if image not in self._images or name not in self._models:
            return
        model = self._models[name]
        self._embedding(
            image, model, model.plan(self._images[image].grid, Prompts((region,)), region), window, None, None
        )

    # ---- small things ---------------------------------------------------------------------------------------------

    def _volume(self, image: ImageId) -> Volume:
        try:
            return self._images[image]
        except KeyError:
            raise InputError("This image is not open: open it before asking about it.") from None


class _Clock:
    """Adds up seconds by step."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._steps: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._steps[step] = self._steps.get(step, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        return {**self._steps, "total": time.perf_counter() - self._start}


@contextmanager
def _out_of_memory(name: str) -> Iterator[None]:
    """Say plainly that memory ran out; torch's own error is a RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "not enough memory" in str(error):
            raise InputError(
                f"Memory ran out while {name} was looking at the image: close other programs or images, choose a "
                "smaller model, or run on the CPU (--device cpu)."
            ) from error
        raise
