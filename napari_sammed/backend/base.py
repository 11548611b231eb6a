"""The contract of a backend, and its answer. Importing this file imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType, Protocol, TypeAlias

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import LabelMap
from napari_sammed.prompts import MaskPrompt, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.models.base import Logits, ModelCard
    from napari_sammed.volume import Volume

ImageId = NewType("ImageId", str)

Progress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done ("encoding slice 12") and the fraction done, 0..1; from any thread."""

Cancel: TypeAlias = threading.Event
"""Set it to stop a running call, which then raises `napari_sammed.errors.Cancelled`."""

Partial: TypeAlias = Callable[["Prediction"], None]
"""Called with a part of an answer that is on its way, such as one slice, as soon as it is there; from any thread."""


@dataclass(frozen=True)
class Prediction:
    """A backend's answer.

    Parameters
    ----------
    mask : ndarray of bool
        Inside `box`.
    box : Box
        Where the mask lies in the image; tight around it, or one voxel of `scope` when the mask is empty.
    scope : Box
        The part of the image that the answer speaks of: inside `scope` but outside `mask` there is no object, outside
        `scope` nothing is said and nothing may change. A slice for a 2D model on a volume, the whole image for a 3D
        one.
    score : float
        The model's own confidence, 0..1; NaN if it has none.
    model, weights_hash : str
        What answered.
    reductions : tuple of str
        What the user should know of the answer, a sentence each: prompt kinds that the model does not know and how they
        were translated, where a propagation stopped and why.
    logits : Logits or None
        To hand back as ``previous`` with the object's next prompt.
    slice_scores : dict of int to float
        After propagation: slice index along `axis` -> confidence.
    axis : int or None
        After propagation: across the slices.
    silent : tuple of Box
        Parts of `scope` of which nothing is said after all, and where nothing may change: slices that a propagation did
        not go to.
    seconds : dict of str to float
        Time spent, by step: "load", "embed", "decode", "extend" (an object beyond the network's cube), "total".
    alternatives : tuple of Prediction
        Other readings of ambiguous prompts (the organ, the lesion in it), by falling score; of the same scope.
    """

    mask: np.ndarray
    box: Box
    scope: Box
    score: float
    model: str
    weights_hash: str = ""
    reductions: tuple[str, ...] = ()
    logits: Logits | None = None
    slice_scores: dict[int, float] = field(default_factory=dict)
    axis: int | None = None
    silent: tuple[Box, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    alternatives: tuple[Prediction, ...] = ()

    @property
    def readings(self) -> tuple[Prediction, ...]:
        """This answer and its alternatives, the model's own choice first."""
        return (self, *self.alternatives)

    @classmethod
    def tight(cls, mask: np.ndarray, scope: Box, **rest: object) -> Prediction:
        """The answer for a mask that fills `scope`; keeps only its tight box."""
        inner = Box.of_mask(mask)
        if inner is None:
            return cls.empty(scope, **rest)
        return cls(mask[inner.slices].copy(), inner.shift(scope.low), scope, **rest)  # type: ignore[arg-type]

    @classmethod
    def empty(cls, scope: Box, **rest: object) -> Prediction:
        """The answer that there is no object in `scope`."""
        one = Box(scope.low, tuple(lo + 1 for lo in scope.low))
        return cls(np.zeros(one.shape, bool), one, scope, **rest)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ClassMap(LabelMap):
    """A backend's answer where no prompt was needed: a model's label map, and how it came about.

    Parameters
    ----------
    labels, box, classes
        See `napari_sammed.models.base.LabelMap`.
    model, weights_hash : str
        What answered.
    notes : tuple of str
        What the user should know of it, a sentence each.
    seconds : dict of str to float
        Time spent, by step: "load", "segment", "total".
    """

    model: str
    weights_hash: str = ""
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Voxels by class name, of all classes, in their order."""
        voxels = np.bincount(self.labels.ravel(), minlength=len(self.classes) + 1)
        return {name: int(count) for name, count in zip(self.classes, voxels[1:], strict=False)}

    def mask(self, name: str) -> MaskPrompt:
        """One class in index coordinates of the image; InputError if there is no such class, or nothing of it."""
        if name not in self.classes:
            raise InputError(f"There is no class {name!r}: {self.model} knows {', '.join(self.classes)}.")
        mask = self.labels == self.classes.index(name) + 1
        if not mask.any():
            raise InputError(f"{self.model} found no {name} in this image.")
        return MaskPrompt(mask, self.box.low)


class Backend(Protocol):
    """Answers prompts about open images. Calls block; any thread may call; `cancel` ends a call early."""

    def open(self, image: Volume) -> ImageId:
        """Make an image known, by the hash of its voxels and grid; a second open of the same costs nothing."""
        ...

    def card(self, model: str) -> ModelCard:
        """What is known of a model that this backend can run; InputError if it cannot."""
        ...

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
        """Segment one object from all its prompts.

        Parameters
        ----------
        image : ImageId
        model : str
            Registry name.
        prompts : Prompts
            At least one.
        window : Window or None
            Grey-value mapping; None lets the image decide (`napari_sammed.intensity.Window.auto`).
        region : Box or None
            Look only here: a slice of a volume (thickness one) for a 2D model, a part to zoom in on.
        previous : Logits or None
            Of the object's last prediction in the same region.
        idle : bool
            Nobody waits for the answer: everything else goes first, and nothing heavy is done for it.

        Raises
        ------
        InputError
            Prompts that do not fit the image, unknown model.
        WeightsError
        Cancelled
        NotReady
            Of an `idle` question whose model is not loaded yet, or whose part of the image is not encoded.
        """
        ...

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
        """Segment many objects, one a box, in as few passes as the model allows; answers in the order of the boxes.

        Parameters
        ----------
        boxes : sequence of Box
            At least one.
        regions : sequence of Box or None
            For each box, as in `predict`; empty leaves them all to the model.
        """
        ...

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
        """Give every voxel a class, with a model that needs no prompts.

        Parameters
        ----------
        window : Window or None
            Grey-value mapping; None takes the one that the model was trained with.
        region : Box or None
            Only this part of the image.

        Raises
        ------
        InputError
            For a model that needs prompts, or an image that it cannot take.
        WeightsError
        Cancelled
        """
        ...

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
        """Carry an object from the slices where it is known through the stack, both ways, with a 2D model.

        Parameters
        ----------
        anchors : sequence of MaskPrompt
            Masks one voxel thick along `axis`; at least one. They are kept as they are.
        axis : int
            Array axis to walk along.
        within : Box or None
            Hard limits of the walk and of the mask (a 3D box prompt).
        only : collection of int, optional
            Go to these slices only, from the anchors; the answer is silent about the others. On those it goes to, the
            mask is that of the whole walk. A way from an anchor ends at the first slice that is not among them.
        stop : threading.Event, optional
            Set it to have the slices that are answered already; the answer is silent about the others.
        partial : callable, optional
            Called with the answer about each slice as it comes.

        Raises
        ------
        InputError
        WeightsError
        Cancelled
            If `cancel` was set, or `stop` before any slice was answered.
        """
        ...

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
        """Look closer at a part of an object: at the finest grid that the model's input allows, in windows if need be.

        Parameters
        ----------
        image : ImageId
        model : str
            Registry name.
        region : Box
            Where the answer may differ from `coarse`; its scope. What of it lies outside of the image is left out.
        coarse : MaskPrompt, optional
            The whole object as it is known.
        prompts : Prompts, optional
            Of the user. Those in the region go to every window that they lie in.
        axis : int, optional
            For a 2D model on a volume: across its slices; default as for clicks. Each slice is looked at on its own.
        idle : bool
            As for `predict`.

        Raises
        ------
        InputError
            If there is nothing of the object in the region, neither of its mask nor a positive prompt.
        WeightsError
        Cancelled
        NotReady
        """
        ...

    def prefetch(self, image: ImageId, model: str, regions: Sequence[Box], window: Window) -> list[Future[None]]:
        """A hint that these slices or parts may be asked about soon; returns at once.

        Returns
        -------
        list of Future
            Done when the parts are ready; cancel them to take the hint back, as long as they wait.
        """
        ...

    def installed(self) -> tuple[str, ...]:
        """Registry names of the models that can answer prompts now, without weights to be fetched first.

        May read from the disk, so not for a thread that must not wait.
        """
        ...

    def restore(self, model: str, logits: Logits) -> np.ndarray:
        """Logits of an answer on the image grid, float32 of shape ``logits.region.box.shape``; positive inside."""
        ...

    def close(self, image: ImageId) -> None:
        """Forget an image and its embeddings."""
        ...
