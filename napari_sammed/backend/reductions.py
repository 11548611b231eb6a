"""Prompts of kinds that a model does not know, said in kinds that it knows.

A stroke becomes a few well-spread points; a mask its box, or points for a network without boxes; a box for a network
without boxes its centre, and a limit to the mask; points for a network that knows boxes only, a ladder of boxes
(`backend.ladder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sammed.backend import ladder
from napari_sammed.errors import InputError
from napari_sammed.models.base import BoxModel, Embedding, Logits, ModelCard, PromptableModel, PromptKind
from napari_sammed.prompts import Box, MaskPrompt, Point, Prompt, Prompts, Stroke

if TYPE_CHECKING:
    from napari_sammed.backend.base import Cancel

STROKE_POINTS = 5
_KINDS: dict[type, PromptKind] = {Point: "point", Box: "box", Stroke: "stroke", MaskPrompt: "mask"}


def answer(
    model: PromptableModel,
    embedding: Embedding,
    prompts: Prompts,
    previous: Logits | None,
    cancel: Cancel | None = None,
) -> tuple[Logits, tuple[str, ...]]:
    """Answer prompts of any kinds with any promptable model.

    Parameters
    ----------
    model : PromptableModel
    embedding : Embedding
    prompts : Prompts
        At least one, all of them in the embedding's region.
    previous : Logits or None
        Answer to the object's earlier prompts in the same region.
    cancel : threading.Event, optional

    Returns
    -------
    logits : Logits
    sentences : tuple of str
        What was translated, one sentence a kind, for the user.

    Raises
    ------
    InputError
        If nothing can be made of the prompts: there are none, or only negative ones.
    Cancelled
    """
    if not prompts:
        raise InputError("None of the object's prompts lies in this part of the image.")
    prompts, sentences = reduce(prompts, model.card)
    if getattr(model, "prefers_boxes", False) and previous is None and _only_clicks(prompts):
        return _first_clicks(model, embedding, prompts, cancel), sentences
    if not prompts.of(Point) or "point" in model.card.prompts:
        if getattr(model, "box_with_mask", False) and len(prompts) == len(prompts.of(MaskPrompt)):
            sentences = (*sentences, f"{model.card.title} needs more than a mask: its bounding box went along.")
        return model.decode(embedding, prompts, previous), sentences
    if not isinstance(model, BoxModel):
        raise InputError(f"{model.card.title} knows neither points nor boxes.")
    rung = ladder.climb(model, embedding, prompts, previous, cancel)
    return rung.logits, (*sentences, _tell(rung, embedding.region.box, model.card))


def _first_clicks(model: BoxModel, embedding: Embedding, prompts: Prompts, cancel: Cancel | None) -> Logits:
    """What the ladder makes of a click, with the model's own readings beside it; further clicks refine it at once."""
    climbed = ladder.climb(model, embedding, prompts, None, cancel).logits
    if len(prompts) > 1:
        return model.decode(embedding, prompts, climbed)
    own = model.decode(embedding, prompts, None)
    return replace(climbed, alternatives=(replace(own, alternatives=()), *own.alternatives)[:2])


def _only_clicks(prompts: Prompts) -> bool:
    """Whether there is nothing but points, one of them inside of the object."""
    return len(prompts.of(Point)) == len(prompts) and bool(len(prompts.points(positive=True)))


def reduce(prompts: Prompts, card: ModelCard) -> tuple[Prompts, tuple[str, ...]]:
    """The same said with fewer kinds: those of the card, and points.

    Returns
    -------
    prompts : Prompts
    sentences : tuple of str
    """
    kept: list[Prompt] = []
    sentences: dict[str, None] = {}  # ordered, without repeats
    for item in prompts:
        translated, how = _translate(item, card)
        kept += translated
        if how:
            sentences[f"{card.title} {how}"] = None
    return Prompts(tuple(kept)), tuple(sentences)


def _translate(item: Prompt, card: ModelCard) -> tuple[list[Prompt], str]:
    """One prompt in other kinds, and the end of a sentence that says how."""
    if isinstance(item, MaskPrompt) and "mask" in card.prompts and item.extent.thin_axes and 2 not in card.dimensions:
        # Of the other slices it says nothing; to the network it would say that the object is not there.
        return [Point(innermost(item))], "takes masks of whole volumes: of one slice's its innermost point was used."
    if isinstance(item, Point) or _KINDS[type(item)] in card.prompts:
        return [item], ""
    match item:
        case Stroke():
            points = [Point(tuple(p), item.positive) for p in item.spread(STROKE_POINTS)]
            return points, "does not know strokes: each was taken as a few points along it."
        case MaskPrompt() if "box" in card.prompts:
            return [item.extent], "does not take a mask from a user: its bounding box was used."
        case MaskPrompt():
            return [Point(innermost(item))], "does not take a mask from a user: its innermost point was used."
        case Box():
            centre = tuple((lo + hi - 1) / 2 for lo, hi in zip(item.low, item.high, strict=True))
            return [Point(centre)], "does not know boxes: the centre of the box was used as a point."
    raise InputError(f"{type(item).__name__} is not a prompt.")


def limits(prompts: Prompts, card: ModelCard) -> tuple[Box, ...]:
    """The boxes that the mask must not leave, for a network that does not know them and only got their centres.

    None where a positive click or stroke lies outside of all boxes: the object goes on there. Boxes drawn on one slice
    of a volume, for a network that sees volumes, say nothing about the other slices and limit nothing.
    """
    boxes = prompts.of(Box)
    flat = 3 in card.dimensions and any(box.ndim == 3 and box.thin_axes for box in boxes)
    if "box" in card.prompts or "point" not in card.prompts or flat:
        return ()
    marked = [item.extent for item in prompts if isinstance(item, (Point, Stroke)) and item.positive]
    outside = any(all(extent.intersect(box) != extent for box in boxes) for extent in marked)
    return () if outside else boxes


def cut(mask: np.ndarray, place: Box, boxes: Sequence[Box]) -> np.ndarray:
    """The part of a mask that fills `place` which lies in one of the boxes; all of it if there are none."""
    if not boxes:
        return mask
    kept = np.zeros_like(mask)
    for box in boxes:
        common = box.intersect(place)
        if common is not None:
            part = common.shift([-low for low in place.low]).slices
            kept[part] = mask[part]
    return kept


def innermost(prompt: MaskPrompt) -> tuple[float, ...]:
    """Index of the voxel of a mask that is farthest from its outside."""
    around = [(int(size > 1),) * 2 for size in prompt.mask.shape]  # on a single slice, depth is measured in the slice
    depth = ndimage.distance_transform_edt(np.pad(prompt.mask, around))
    place = np.unravel_index(int(depth.argmax()), depth.shape)
    return tuple(float(p - n + o) for p, (n, _), o in zip(place, around, prompt.offset, strict=True))


def _tell(rung: ladder.Rung, region: Box, card: ModelCard) -> str:
    names = ("slices", "rows", "columns")[-region.ndim :]
    sides = [
        f"{name} {low}-{high - 1}"
        for name, low, high, size in zip(names, rung.box.low, rung.box.high, region.shape, strict=True)
        if size > 1
    ]
    return (
        f"{card.title} knows boxes only: the clicks were answered with the box ({', '.join(sides)}), "
        f"chosen among {rung.count}."
    )
