"""The models that this package knows: their cards, and how to get one running; imports no torch by itself."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from napari_sammed.errors import InputError, WeightsError
from napari_sammed.models import tuned_store
from napari_sammed.models import weights as store
from napari_sammed.models.base import AutomaticModel, ModelCard, PromptableModel
from napari_sammed.models.cards import CARDS
from napari_sammed.models.sources import describe_source, on_first_use
from napari_sammed.models.storage import Progress
from napari_sammed.prompts import Point, Prompt, Stroke

if TYPE_CHECKING:
    from torch import nn

    from napari_sammed.models.assembly import Assembled

Status: TypeAlias = Literal["not needed", "absent", "present", "verified", "no sum", "own file", "tuned", "damaged"]

_BY_NAME = {known.name: known for known in CARDS}


@dataclass(frozen=True)
class Row:
    """A model as a table shows it.

    Parameters
    ----------
    name, title, summary : str
        Of the card.
    dimensions, prompts : str
        ``2D``, ``3D`` or ``2D, 3D``; the kinds of prompts, in words.
    licence : str
        Of the weights, or of the code where there are none.
    size : int
        Bytes of the weights; 0 where there are none, or where nobody has published it.
    source : str
        Where the weights come from, in words; empty where there are none.
    path : Path or None
        Where they lie on this machine.
    status : str
        ``not needed``, ``absent``, ``present`` (not checked), ``verified`` (the published sum), ``no sum`` (whole,
        but there is no published sum to compare with), ``own file`` (whole, but not the published one), ``tuned`` (a
        file that adds to another model's weights), ``damaged``.
    first_use : str
        What happens when the model is used without its weights being here, in a sentence.
    """

    name: str
    title: str
    summary: str
    dimensions: str
    prompts: str
    licence: str
    size: int
    source: str
    path: Path | None
    status: Status
    first_use: str


def names() -> tuple[str, ...]:
    """Names of all models, the default for boxes first; tuned ones, as they are on this machine now, last."""
    return (*_BY_NAME, *tuned_store.here())


def default_for(ndim: int, prompt: Prompt) -> str:
    """The model for a prompt when the user has not chosen one.

    Boxes and masks go to LiteMedSAM, clicks and strokes on flat images to the click network, in volumes to the random
    walker.

    Parameters
    ----------
    ndim : int
        Axes of the image.
    prompt : Prompt
    """
    if isinstance(prompt, (Point, Stroke)):
        return "random-walker" if ndim == 3 else "click"
    return "litemedsam"


def card(name: str) -> ModelCard:
    """The card of a model.

    Raises
    ------
    InputError
        If there is none of this name; suggests the nearest one and lists all.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    tuned = tuned_store.find(name)
    if tuned is not None:
        return tuned_store.as_model_card(tuned)
    known = names()
    near = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"there is no model {name!r}; {hint}Known models: {', '.join(known)}")


def load(
    name: str,
    weights: str | Path | Sequence[str | Path] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    cancel: Event | None = None,
    precision: str = "float32",
) -> PromptableModel | AutomaticModel:
    """Get a model running; its weights are fetched if they are not on this machine.

    The class that a card names is called with (network, sha256 of the weights, device) where the card has weights,
    SAMed's also with ``classes``, and without arguments where it has none. The model's ``notes`` become a tuple of
    sentences on what was done to the weights to make them fit, which its user should see; mostly empty.

    Parameters
    ----------
    name : str
        See `names`.
    weights : str or Path, or sequence of them, optional
        A weight file of the user's own, or a folder with one. For SAMed it is the LoRA file; the SAM file that this
        adds to may be given as well, in any order, else it is looked for beside it, then where
        `napari_sammed.models.weights` looks. For a tuned model it is the file that this adds to.
    device : str
        As torch names it; models without a network ignore it.
    progress, cancel
        For the download, see `napari_sammed.models.weights.pull`.
    precision : str
        Name of the torch dtype in which image encoders multiply matrices; models without a half precision ignore it.

    Raises
    ------
    InputError
        For an unknown model.
    WeightsError
        For weights that cannot be had, or do not fit.
    Cancelled
        If `cancel` was set during the download.
    """
    chosen = card(name)
    files = [weights] if isinstance(weights, (str, Path)) else list(weights or ())
    if chosen.weights is None:
        if files:
            raise WeightsError(f"{name} needs no weights; leave out {files[0]}")
        return cast(PromptableModel, _implementation(chosen)())
    return _running(chosen, _assembled(chosen, files, progress, cancel), device, precision)


def load_tuned(
    path: Path, base: Path, device: str = "cpu", precision: str = "float32", config: Mapping[str, Any] | None = None
) -> PromptableModel | AutomaticModel:
    """Get a tuned model running whose file has not been taken in.

    Parameters
    ----------
    path, base : Path
        The tuned file, and the weights that it adds to.
    device, precision
        As for `load`.
    config : mapping, optional
        Values of the network that differ from the published size.

    Raises
    ------
    WeightsError
        If the files are damaged or do not belong together.
    """
    from napari_sammed.models import tuned
    from napari_sammed.models.tuned_assembly import assemble_tuned

    own = tuned.read_card(path)
    shown = tuned_store.as_model_card(tuned_store.TunedModel(own.name, path, own))
    return _running(shown, assemble_tuned(path, base, own, config), device, precision)


def _running(chosen: ModelCard, parts: Assembled, device: str, precision: str) -> PromptableModel | AutomaticModel:
    implementation = _implementation(chosen)
    options = {**parts.options}
    if getattr(implementation, "has_half_precision", False):
        import torch

        options["dtype"] = getattr(torch, precision)
    model = implementation(parts.network, parts.sha256, device, **options)
    model.card, model.notes = chosen, parts.notes
    return cast("PromptableModel | AutomaticModel", model)


def _assembled(
    chosen: ModelCard, files: list[str | Path], progress: Progress | None, cancel: Event | None
) -> Assembled:
    """A model's network from its files, which are fetched if need be."""
    tuned = None if chosen.name in _BY_NAME else tuned_store.find(chosen.name)
    if tuned is not None:
        if len(files) > 1:
            raise WeightsError(f"{chosen.title} takes one weight file, that of {chosen.base}: leave the others out")
        base = store.obtain(card(chosen.base), files[0] if files else None, progress, cancel)
        from napari_sammed.models.tuned_assembly import assemble_tuned

        return assemble_tuned(tuned.path, base, tuned.card)
    own, base = _own_and_base(chosen, files)
    path = store.obtain(chosen, own, progress, cancel)
    from napari_sammed.models.assembly import assemble

    return assemble(chosen, path, partial(store.obtain_base, weights=base, progress=progress, cancel=cancel))


def _own_and_base(chosen: ModelCard, files: list[str | Path]) -> tuple[str | Path | None, str | Path | None]:
    """The user's own weight file, and the one that it adds to; None for what was not given."""
    if len(files) < 2:
        return (files[0] if files else None), None
    if not chosen.base or len(files) > 2:
        takes = "a LoRA file and the SAM file that it adds to" if chosen.base else "one weight file"
        raise WeightsError(f"{chosen.title} takes {takes}, not {len(files)} files: leave the others out")
    from napari_sammed.models import fingerprint
    from napari_sammed.models.checkpoints import open_checkpoint

    adds = [fingerprint.is_lora(open_checkpoint(Path(file)).shapes) for file in files]
    if sum(adds) != 1:
        which = "both are" if all(adds) else "neither is"
        raise WeightsError(
            f"{chosen.title} takes a LoRA file and the SAM file that it adds to; of {files[0]} and {files[1]} "
            f"{which} a LoRA file"
        )
    own, base = files if adds[0] else reversed(files)
    return own, base


def _implementation(chosen: ModelCard) -> Any:
    module, _, attribute = chosen.implementation.partition(":")
    return getattr(importlib.import_module(module), attribute)


def create_network(name: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """The bare network of a model, with random weights.

    Parameters
    ----------
    name : str
        A model that has a network.
    config : mapping, optional
        Constructor values; the published size without.
    """
    from napari_sammed import networks

    return networks.create(name, config)


def row(name: str, *, verify: bool = False) -> Row:
    """One model's row; `verify` reads the whole weight file, unless its sum is remembered."""
    shown = card(name)
    path = None if shown.weights is None else store.locate(shown)
    return Row(
        name=shown.name,
        title=shown.title,
        summary=shown.summary,
        dimensions=", ".join(f"{dimension}D" for dimension in sorted(shown.dimensions)),
        prompts=", ".join(sorted(shown.prompts)),
        licence=shown.weights.licence if shown.weights else shown.code_licence,
        size=shown.weights.size if shown.weights else 0,
        source=describe_source(shown.weights) if shown.weights else "",
        path=path,
        status=_status(shown, path, verify),
        first_use=on_first_use(shown),
    )


def rows(*, verify: bool = False) -> list[Row]:
    """All models as a table, in the order of `names`."""
    return [row(name, verify=verify) for name in names()]


def _status(shown: ModelCard, path: Path | None, verify: bool) -> Status:
    if shown.weights is None:
        return "not needed"
    if path is None:
        return "absent"
    tuned = shown.weights.source == "tuned"
    if not verify:
        return "tuned" if tuned else "present"
    try:
        checked = store.verify(shown, fresh=False)
    except WeightsError:
        return "damaged"
    if tuned:
        return "tuned"
    if not shown.weights.sha256:
        return "no sum"
    return "verified" if checked.official else "own file"
