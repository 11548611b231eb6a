"""The recipes: which models can be tuned, what of them learns, and with which settings.

Importing this file imports neither torch nor Lightning; a recipe's own file is imported when it is made.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.errors import InputError
from napari_sammed.models import registry

if TYPE_CHECKING:
    from torch import nn

    from napari_sammed.training.fitting import Task
    from napari_sammed.training.material import Material


@dataclass(frozen=True)
class Recipe:
    """How a model is tuned.

    Parameters
    ----------
    name, title : str
    learns : str
        What changes, in a phrase.
    bases : tuple of str
        Registry names of the models that can be tuned, the default first.
    task : str
        ``module:Class`` of the `napari_sammed.training.fitting.Task`, called with (network, material, settings).
    published : str
        Name of the published settings in that module, or of their class, which has them as its defaults.
    small : str or mapping
        Ours for small data and one device: another name, or what is other than published.
    steps, published_steps : int
    run : mapping
        Values of `napari_sammed.training.fitting.Run` that the recipe wants.
    makes : str
        Registry name of the model that comes out, where it is not that of the base.
    network : str
        Name of the network, where it is not that of the base.
    """

    name: str
    title: str
    learns: str
    bases: tuple[str, ...]
    task: str
    published: str
    small: str | Mapping[str, Any]
    steps: int
    published_steps: int
    run: Mapping[str, Any] = field(default_factory=dict)
    makes: str = ""
    network: str = ""

    def settings(self, published: bool = False, changes: Mapping[str, Any] | None = None) -> Any:
        """The recipe's own dataclass of settings.

        Parameters
        ----------
        published : bool
            The published constants instead of ours.
        changes : mapping, optional
            Values by name, as of `with_value`.

        Raises
        ------
        InputError
            For a setting that the recipe does not have, or a value of another kind.
        """
        settings = self._settings(self.published)
        if not published:
            ours = self.small
            settings = self._settings(ours) if isinstance(ours, str) else replace(settings, **ours)
        for name, value in (changes or {}).items():
            settings = with_value(settings, name, value, self.name)
        return settings

    def make(self, network: nn.Module, material: Material, settings: Any) -> Task:
        """What is learnt, and from what."""
        return self._part(self.task.partition(":")[2])(network, material, settings)

    def _settings(self, name: str) -> Any:
        found = self._part(name)
        return found() if isinstance(found, type) else found

    def _part(self, name: str) -> Any:
        return getattr(importlib.import_module(self.task.partition(":")[0]), name)


_TRAINING = "napari_sammed.training"

_BETTER = {"measure_first": True}  # a run of a model that can do something never ends worse than it began

_SAMED = Recipe(
    name="samed",
    title="Organs without prompts (SAMed)",
    learns="low-rank updates of SAM's encoder, prompt encoder and mask decoder",
    bases=("sam-vit-b", "sam-vit-l", "sam-vit-h"),
    task=f"{_TRAINING}.samed_recipe:SamedTask",
    published="PUBLISHED",
    small="SMALL",
    steps=1000,
    published_steps=14_880,
    makes="samed",
    network="samed",
)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="litemedsam",
        title="Boxes on slices (LiteMedSAM)",
        learns="the mask decoder; with --set learns=lora or all, of the encoder as well",
        bases=("litemedsam",),
        task=f"{_TRAINING}.medsam_recipe:LiteMedSAMTask",
        published="LITEMEDSAM",
        small="SMALL_LITEMEDSAM",
        steps=300,
        published_steps=100_000,
        run=_BETTER,
    ),
    Recipe(
        name="medsam",
        title="Boxes on slices, larger (MedSAM)",
        learns="the mask decoder; with --set learns=lora or all, of the encoder as well",
        bases=("medsam", "sam-vit-b", "sam-vit-l", "sam-vit-h"),
        task=f"{_TRAINING}.medsam_recipe:MedSAMTask",
        published="MEDSAM",
        small="SMALL_MEDSAM",
        steps=300,
        published_steps=1_000_000,
        run=_BETTER,
    ),
    Recipe(
        name="sam-med2d",
        title="Boxes, clicks and corrections on slices (SAM-Med2D)",
        learns="prompt encoder and mask decoder; with --set adapters=true, the encoder's adapters as well",
        bases=("sam-med2d",),
        task=f"{_TRAINING}.sam_med2d_recipe:SamMed2dTask",
        published="SamMed2dSettings",
        small={"adapters": False},
        steps=300,
        published_steps=172_500,
        run=_BETTER,
    ),
    Recipe(
        name="distilling",
        title="A small encoder from a large one (LiteMedSAM from MedSAM or SAM)",
        learns="the encoder; prompt encoder and mask decoder become those of --set teacher=...",
        bases=("litemedsam",),
        task=f"{_TRAINING}.distilling:DistillingTask",
        published="DistillingSettings",
        small={"batch": 2},
        steps=2000,
        published_steps=100_000,
    ),
    Recipe(
        name="click",
        title="Clicks on slices (the click network)",
        learns="the head that answers clicks",
        bases=("click",),
        task=f"{_TRAINING}.click_recipe:ClickRecipeTask",
        published="PUBLISHED",
        small="SMALL",
        steps=300,
        published_steps=1500,
        run={**_BETTER, "clip": 1.0, "average": 0.99},
    ),
    Recipe(
        name="sam-med3d",
        title="Clicks in volumes (SAM-Med3D)",
        learns="prompt encoder and mask decoder; with --set learns=all, the encoder as well",
        bases=("sam-med3d",),
        task=f"{_TRAINING}.sam_med3d_recipe:SamMed3dTask",
        published="PUBLISHED",
        small="SMALL",
        steps=200,
        published_steps=62_500,
        run=_BETTER,
    ),
    Recipe(
        name="segvol",
        title="Points and boxes in CT volumes (SegVol)",
        learns="prompt encoder and mask decoder; with --set learns=all, the encoder as well",
        bases=("segvol",),
        task=f"{_TRAINING}.segvol_recipe:SegVolTask",
        published="PUBLISHED",
        small="SMALL",
        steps=200,
        published_steps=1_860_000,
        run=_BETTER,
    ),
    _SAMED,
    replace(
        _SAMED,
        name="samed_s",
        title="Organs without prompts, smaller (SAMed_s)",
        learns="low-rank updates of SAM's encoder and of the decoder's attention, prompt encoder and heads",
        network="samed_s",
    ),
)

_BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def names() -> tuple[str, ...]:
    """Names of all recipes."""
    return tuple(_BY_NAME)


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises
    ------
    InputError
        If there is none of this name; suggests the nearest one and lists all.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name.lower(), _BY_NAME, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"There is no recipe {name!r}; {hint}The recipes are {', '.join(_BY_NAME)}.")


def base_of(chosen: Recipe, base: str | None) -> str:
    """The model that is tuned; InputError for one that the recipe is not for."""
    if base is None:
        return chosen.bases[0]
    if base not in chosen.bases:
        registry.card(base)  # whether there is one at all
        raise InputError(f"The recipe {chosen.name} tunes {', '.join(chosen.bases)}, not {base}.")
    return base


def with_value(settings: Any, name: str, value: Any, of: str = "") -> Any:
    """Settings with another value; text is read as what the value was.

    Raises
    ------
    InputError
        For an unknown name, or a value of another kind.
    """
    known = {each.name: getattr(settings, each.name) for each in fields(settings)}
    if name not in known:
        raise InputError(f"The recipe {of} has no setting {name!r}; it has {', '.join(known)}.")
    before = known[name]
    try:
        return replace(settings, **{name: _like(before, value)})
    except ValueError:
        kind = {bool: "true or false", int: "a whole number", float: "a number", tuple: "numbers with commas"}.get(
            type(before), "something else"
        )
        raise InputError(f"The setting {name} of the recipe {of} is {kind}, not {value!r}.") from None


def _like(before: Any, value: Any) -> Any:
    if isinstance(before, bool):
        if str(value).lower() not in ("true", "false"):
            raise ValueError
        return str(value).lower() == "true"
    if isinstance(before, int) and float(value) != int(float(value)):
        raise ValueError
    if isinstance(before, tuple):
        parts = str(value).split(",") if isinstance(value, str) else list(value)
        if len(parts) != len(before):
            raise ValueError
        return tuple(_like(one, part) for one, part in zip(before, parts, strict=True))
    return type(before)(float(value)) if isinstance(before, int) else type(before)(value)


def make_network(
    chosen: Recipe, base: str, path: Path, classes: int, rank: int, config: Mapping[str, Any] | None = None
) -> nn.Module:
    """The network that is tuned, with the weights of its base.

    Parameters
    ----------
    chosen : Recipe
    base : str
    path : Path
        Of its weights.
    classes, rank : int
        Of SAMed's networks.
    config : mapping, optional
        Values of the network that differ from the published size.

    Raises
    ------
    WeightsError
        If the file does not fit.
    """
    from napari_sammed.models.assembly import assemble

    if chosen.name == "click":
        from napari_sammed.models.click import shipped_head

        return shipped_head()
    if not chosen.network:
        return assemble(registry.card(base), path, config=config).network
    from napari_sammed.models.tuned_assembly import samed_from_sam

    return samed_from_sam(base, chosen.network, path, {"num_classes": classes, "rank": rank, **(config or {})})
