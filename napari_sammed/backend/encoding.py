"""Embeddings of the parts of open images: made once, kept while there is room, made ahead where that helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from napari_sammed.backend.base import Cancel, ImageId, Progress
from napari_sammed.backend.cache import ByteCache
from napari_sammed.backend.guards import is_out_of_memory
from napari_sammed.backend.recovery import give_back, with_room
from napari_sammed.errors import Cancelled, NotReady
from napari_sammed.geometry import Box, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, PromptableModel
from napari_sammed.prompts import Prompts
from napari_sammed.volume import Volume


@runtime_checkable
class BatchModel(Protocol):
    """A promptable model that encodes several regions in one pass where that is faster.

    Attributes
    ----------
    batch : int
        Regions that it likes to encode at once on its device; 1 where a batch gains nothing.
    """

    batch: int

    def embed_many(self, image: Volume, regions: Sequence[Region], window: Window) -> list[Embedding]:
        """As `PromptableModel.embed`, one a region, in order."""
        ...


class Embeddings:
    """A cache in front of the models' encoders; all methods but `forget` belong to the inference thread.

    What an embedding weighs, its model says (`Embedding.nbytes`): models that encode in half precision fill the cache
    half as fast.

    Parameters
    ----------
    limit : int
        Bytes to keep.

    Attributes
    ----------
    cache : ByteCache
    """

    def __init__(self, limit: int) -> None:
        self.cache: ByteCache[Embedding] = ByteCache(limit)

    def get(
        self,
        image: ImageId,
        volume: Volume,
        model: PromptableModel,
        region: Region,
        window: Window,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
        *,
        idle: bool = False,
    ) -> Embedding:
        """From the cache, or made now; of an `idle` question NotReady instead, unless the model has no network."""
        _check(cancel)
        key = _key(image, model, region, window)
        embedding = self.cache.get(key)
        if embedding is None:
            if idle and model.card.weights is not None:
                raise NotReady
            if progress is not None:
                progress("encoding", 0.0)
            embedding = with_room(model.card.name, lambda: model.embed(volume, region, window), self.clear)
            self.cache.put(key, embedding)
        _check(cancel)
        return embedding

    def prepare(
        self, image: ImageId, volume: Volume, model: PromptableModel, boxes: Sequence[Box], window: Window
    ) -> None:
        """Encode the parts of an image that are not in the cache yet, in one pass if the model can."""
        regions = [model.plan(volume.grid, Prompts((box,)), box) for box in boxes]
        missing = [r for r in dict.fromkeys(regions) if _key(image, model, r, window) not in self.cache]
        if len(missing) < 2 or not isinstance(model, BatchModel):
            for region in missing:
                self.get(image, volume, model, region, window)
            return
        for region, embedding in zip(missing, self._together(volume, model, missing, window), strict=False):
            self.cache.put(_key(image, model, region, window), embedding)

    def _together(
        self, volume: Volume, model: BatchModel, regions: Sequence[Region], window: Window
    ) -> list[Embedding]:
        """One a region; none where there is no memory for all at once, so that each is encoded when its turn comes."""
        try:
            return model.embed_many(volume, regions, window)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self.cache.clear()
        give_back()
        return []

    def forget(self, image: ImageId) -> None:
        """Drop everything of an image."""
        self.cache.discard(image)

    def clear(self) -> None:
        """Drop everything, to make room; it is made again when it is needed."""
        self.cache.clear()


def batch_of(model: object) -> int:
    """How many regions to hand to `Embeddings.prepare` at once."""
    return max(model.batch, 1) if isinstance(model, BatchModel) else 1


def _key(image: ImageId, model: PromptableModel, region: Region, window: Window) -> tuple[object, ...]:
    return (image, model.card.name, model.weights_hash, region, window)


def _check(cancel: Cancel | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled
