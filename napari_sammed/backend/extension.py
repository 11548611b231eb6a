"""Following an object from region to region, with a model whose region has one size."""

from __future__ import annotations

from collections.abc import Callable

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box, Region
from napari_sammed.models.base import Embedding, ExtendingModel, Logits
from napari_sammed.prompts import Prompts

MOST = 26
"""Further regions that are looked at: as many as cubes touch one."""


def extend(
    model: ExtendingModel,
    first: Logits,
    prompts: Prompts,
    within: Box | None,
    embed: Callable[[Region], Embedding],
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> tuple[Logits, tuple[str, ...]]:
    """The whole of an object that goes on beyond the region of its first answer.

    Parameters
    ----------
    model : ExtendingModel
    first : Logits
        Answer to the prompts.
    prompts : Prompts
        Of kinds that the model knows.
    within : Box or None
        Follow the object only here.
    embed : callable
        Encodes a region of the image.
    cancel, progress : optional
        Asked and told between regions.

    Returns
    -------
    logits : Logits
        Of all regions together; `first` itself, and at no cost, where nothing lies beyond it.
    sentences : tuple of str
        What the user should know of it.

    Raises
    ------
    Cancelled
    """
    answers = [first]
    while (region := model.beyond(answers, prompts, within)) is not None and len(answers) <= MOST:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"looking beyond the cube, part {len(answers)}", (len(answers) - 1) / MOST)
        answers.append(model.decode_beyond(embed(region), prompts, answers))
    if len(answers) == 1:
        return first, ()
    return model.joined(answers), (_tell(model.card.title, len(answers) - 1, ended=region is None),)


def _tell(title: str, further: int, ended: bool) -> str:
    cubes = "1 neighbouring cube was" if further == 1 else f"{further} neighbouring cubes were"
    limit = "" if ended else "; it may go on beyond them, where further clicks show more"
    return f"The object reaches beyond {title}'s cube: {cubes} looked at as well{limit}."
