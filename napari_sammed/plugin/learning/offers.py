"""What the dock offers to choose from, in words: recipes, bases, names and folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_sammed import messages
from napari_sammed.models import registry, tuned_store
from napari_sammed.plugin.learning.wish import Wish
from napari_sammed.plugin.sessions import journals
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.training import recipes
from napari_sammed.training.looking import Look

_NEEDED = {"lightning_fabric": "lightning-fabric", "monai": "monai", "matplotlib": "matplotlib"}


def missing() -> str:
    """What has to be installed before anything can be learnt; empty if nothing has."""
    absent = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if not absent:
        return ""
    return (
        f"Learning needs {' and '.join(absent)}: run pip install 'napari-sammed[train]' in napari's environment, and "
        "start napari again."
    )


def recipe_choices() -> tuple[list[Choice], dict[str, str]]:
    """Recipes, and a sentence on each."""
    choices = [Choice(one.name, one.title, f"{one.steps:,} steps") for one in recipes.RECIPES]
    return choices, {one.name: f"Learns {one.learns.partition(';')[0]}." for one in recipes.RECIPES}


def base_choices(recipe: str) -> tuple[list[Choice], dict[str, str]]:
    """Models that a recipe can begin with, and a sentence on each; those whose weights are here come first."""
    rows = [registry.row(name) for name in recipes.recipe(recipe).bases]
    rows.sort(key=lambda row: row.status == "absent")
    notes = {row.name: f"{row.summary} {row.first_use if row.status == 'absent' else ''}".strip() for row in rows}
    return [Choice(row.name, row.title, messages.model_tooltip(row)) for row in rows], notes


def found(look: Look) -> str:
    """What was found, in a sentence."""
    if not look.cases:
        return "Nothing that can be learnt from yet."
    what = "session" if look.kind == "sessions" else "case"
    of = "" if look.kind == "sessions" else f" ({look.kind})"
    cases, people = messages.counted(look.cases, what), messages.counted(look.patients, "patient")
    few = " That is few: a model learns more from ten and more." if look.patients < 5 else ""
    return f"{cases} of {people}{of}.{few}"


def structures(look: Look) -> list[tuple[str, str]]:
    """Names, and in how many cases each is."""
    what = "session" if look.kind == "sessions" else "case"
    return [(name, f"  ({messages.counted(count, what)})" if count else "") for name, count in look.structures.items()]


def free_name(names: Sequence[str], folder: Path) -> str:
    """A name for a model of some structures, which neither another model nor another run in the folder has."""
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError:
        there = set()
    return tuned_store.free_name("-".join(names[:2]) or "tuned", there | set(registry.names()))


def about(wish: Wish) -> str:
    """What a run is about, in a sentence."""
    known = {one.name: one.title for one in recipes.RECIPES}
    what = ", ".join(wish.structures) or "All structures"
    base = registry.card(wish.base).title if wish.base in registry.names() else wish.base
    where = "your sessions" if Path(wish.data) == journals.folder() else wish.data
    return f"{what} from {where}; {known.get(wish.recipe, wish.recipe)}, begun with {base}."


def checked(data: Mapping[str, Any], troubles: int) -> str:
    """What the data have come to before anything was learnt, in a sentence."""
    cases, people = data.get("cases") or {}, data.get("patients") or {}
    train, held = (int(cases.get(part, 0)) for part in ("train", "held_out"))
    said = (
        f"{messages.counted(train, 'case')} of {messages.counted(int(people.get('train', 0)), 'patient')} to learn from"
    )
    kept = f"{held} held out to measure with" if held else "none held out: what is learnt from is measured"
    wrong = f"{messages.counted(troubles, 'problem')} below" if troubles else "no problems"
    return f"{said}, {kept}; {wrong}. “Go on” begins to learn."


def time_left(seconds: float | None) -> str:
    """For people; empty if nothing can be said."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f" About {max(5, 5 * math.ceil(seconds / 5))}\u00a0s left."
    minutes = math.ceil(seconds / 60)
    return f" About {minutes}\u00a0min left." if minutes < 90 else f" About {minutes / 60:.1f}\u00a0h left."


def gain(before: dict[str, float], after: dict[str, float]) -> str:
    """What it has come to, in a sentence."""
    if "score" not in after:
        return "Done."
    was = f", before {before['score']:.3f}" if "score" in before else ""
    said = f"Done. Mean Dice on what was held out: {after['score']:.3f}{was}."
    if "score" in before and after["score"] <= before["score"]:
        said += " That is no better: more cases, or more steps, may help."
    return said
