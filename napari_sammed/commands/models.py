"""``napari-sammed models``: which models there are, and their weights."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from napari_sammed.commands.terminal import download_bar, note, say, say_json
from napari_sammed.errors import WeightsError
from napari_sammed.models import registry, sums, tuned_store
from napari_sammed.models import weights as store
from napari_sammed.models.base import ModelCard
from napari_sammed.models.cards import CARDS
from napari_sammed.models.identify import identify_file
from napari_sammed.models.registry import Row
from napari_sammed.models.sources import how_to_get, weight_file


def list_models(as_json: bool) -> None:
    """All models as a table."""
    rows = registry.rows()
    if as_json:
        say_json({"models": [as_dict(row) for row in rows]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "looks at", "trained on", "weights", "licence", "here"):
        table.add_column(heading)
    for row in rows:
        size = f"{row.size / 1e6:.0f} MB" if row.size else "none" if row.status == "not needed" else "?"
        table.add_row(row.name, row.dimensions, row.prompts or "no prompts", size, row.licence, row.status)
    console = Console()
    console.print(table)
    for row in rows:
        console.print(f"{row.name}: {row.summary}", style="dim", highlight=False)


def pull(name: str, accept_licence: bool) -> None:
    """Fetch a model's weights; what, how much and under which licence is logged before the download."""
    card = registry.card(name)
    cancel = threading.Event()
    for each in [registry.card(card.base), card] if card.base else [card]:
        with download_bar(each.name) as progress:
            try:
                path = store.pull(each, progress, cancel, accept_licence=accept_licence)
            except KeyboardInterrupt:
                cancel.set()
                raise
        say(str(path))


def show(name: str, as_json: bool) -> None:
    """Everything that is known of a model: its use, prompts, weights, licences and citation."""
    card, row = registry.card(name), registry.row(name)
    facts = {
        "name": card.name,
        "title": card.title,
        "good for": card.summary,
        "trained for": card.intended_use,
        "prompts": row.prompts or "none: it labels the whole image",
        "looks at": f"{row.dimensions}, {' x '.join(map(str, card.input_size)) or 'any size'}",
        "code": f"{card.home} ({card.code_licence})" if card.home else card.code_licence,
        "weights": "needs none" if card.weights is None else f"{row.status}{f', {row.path}' if row.path else ''}",
        "licence of the weights": card.weights.licence if card.weights else "",
        "remark": card.weights.note if card.weights else "",
        "where to get them": "" if card.weights is None or row.status == "tuned" else how_to_get(card),
        "sha256": _sum(card),
        "builds on the weights of": card.base,
        "cite": card.citation,
        **_tuning(name),
    }
    if as_json:
        say_json({key.replace(" ", "_"): value for key, value in facts.items()})
        return
    for key, value in facts.items():
        if value:
            say(f"{key}: {value}")


def add(file: Path, name: str | None, as_json: bool) -> None:
    """Take a tuned file in, so that every face offers it."""
    model = tuned_store.add(file, name, registry.names())
    base = registry.row(model.card.base)
    if as_json:
        say_json({"model": model.name, "title": model.card.title, "path": str(model.path), "base": base.name})
        return
    say(f"{model.name}: {model.card.title}, {model.path}")
    use = "segment IMAGE --model" if registry.card(model.name).prompts else "auto IMAGE --model"
    say(f"Use it with `napari-sammed {use} {model.name}`, and in napari and 3D Slicer as any other.")
    if base.status == "absent":
        note(f"It adds to the weights of {base.title}, which are not on this machine. {base.first_use}")


def remove(name: str, yes: bool, as_json: bool) -> None:
    """Delete a tuned model's file, if the user means it."""
    found = tuned_store.find_file(name)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise WeightsError(f"{found} would be deleted: say --yes to that")
        typer.confirm(f"Delete {found}?", abort=True, err=True)
    path = tuned_store.remove(name)
    if as_json:
        say_json({"removed": name, "path": str(path)})
    else:
        say(f"{name} is no longer here: {path} is deleted.")


def _tuning(name: str) -> dict[str, Any]:
    """What is known of a tuned model only."""
    model = None if name in {card.name for card in CARDS} else tuned_store.find(name)
    if model is None:
        return {}
    card = model.card
    return {
        "tuned from": f"{card.base} with the sha256 {card.base_sha256}",
        "recipe": card.recipe,
        "structures": ", ".join(card.classes),
        "learnt from": _listed(card.data),
        "Dice before": _listed(card.before),
        "Dice after": _listed(card.after),
        "settings": _listed(card.settings),
        "seed": str(card.seed),
        "made": f"{card.date} by napari-sammed {card.version}",
    }


def _listed(value: Any) -> str:
    """Entries as people read them, those in entries in brackets."""
    if isinstance(value, Mapping):
        shown = ((key, _listed(each)) for key, each in value.items())
        return ", ".join(f"{key} ({text})" if "," in text else f"{key} {text}" for key, text in shown)
    if isinstance(value, list | tuple):
        return "; ".join(map(_listed, value))
    return f"{value:.3f}" if isinstance(value, float) and 0.001 < abs(value) < 1 else str(value)


def _sum(card: ModelCard) -> str:
    if card.weights is None:
        return ""
    if card.weights.source == "tuned":
        found = store.locate(card)
        return "" if found is None else sums.sha256_of(found)
    recorded = f" (recorded by {card.weights.recorded_by})" if card.weights.recorded_by else ""
    return f"{card.weights.sha256}{recorded}" if card.weights.sha256 else "not published"


def identify(path: Path, as_json: bool) -> None:
    """Say which system, size and variant a weight file is."""
    found = identify_file(path)
    if as_json:
        values = {"file" if key == "path" else key: value for key, value in vars(found).items()}
        say_json({**values, "file": str(found.path), "details": dict(found.details)})
        return
    if not found.system:
        say(f"{path}: tensors of no system known here ({found.tensors} tensors, {found.values:,} values)")
        return
    whose = ""
    if found.published:
        recorded = weight_file(registry.card(found.published)).recorded_by
        whose = ", the published file" + (f" (by the sum that {recorded} have recorded)" if recorded else "")
    use = f"use it with --model {' or '.join(found.models)}" if found.models else "no model here can use it"
    say(f"{path}: {found.system}{whose}; {use}")
    details = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.details.items() if value != "")
    inside = f", inside {' '.join(found.wrapping)}" if found.wrapping else ""
    say(f"{found.tensors} tensors, {found.values:,} values{inside}{'; ' + details if details else ''}")
    if found.remark:
        say(found.remark)


def path(name: str) -> None:
    """Where a model's weights lie on this machine."""
    card = registry.card(name)
    found = store.locate(card)
    if found is None:
        raise WeightsError(f"the weights of {name} are not on this machine. {how_to_get(card)}")
    say(str(found))


def verify(name: str | None, weights: Path | None, as_json: bool) -> None:
    """Check the weights of one model, or of all that are on this machine; a file of the user's own, whether it fits."""
    if name is None and weights is not None:
        raise WeightsError(f"say which model {weights} is for: napari-sammed models verify NAME --weights FILE")
    if name is not None:
        card = registry.card(name)
        if weights is not None and weight_file(card).source == "tuned":
            raise WeightsError(f"{name} is a tuned model, whose file is its own: leave out {weights}")
        checked = [store.verify(card, weights)]
        names = [name]
        if weights is not None:
            _try(card, checked[0].path)
    else:
        names = [row.name for row in registry.rows() if row.path is not None]
        checked = [store.verify(registry.card(each)) for each in names]
    if as_json:
        say_json(
            {
                "verified": [
                    {"model": each, "path": str(found.path), "sha256": found.sha256, "official": found.official}
                    for each, found in zip(names, checked, strict=True)
                ]
            }
        )
        return
    for each, found in zip(names, checked, strict=True):
        say(f"{each}: {_judgement(each, found)}, sha256 {found.sha256}, {found.path}")
    if not names:
        say("There are no weights on this machine yet.")


def _try(card: ModelCard, path: Path) -> None:
    """Load weights into their network, and tell what was done to make them fit."""
    from napari_sammed.models.assembly import assemble

    for sentence in assemble(card, path).notes:
        note(f"Note: {sentence}")


def _judgement(name: str, found: store.Verified) -> str:
    file = weight_file(registry.card(name))
    if file.source == "tuned":
        return "whole, a tuned model"
    if not file.sha256:
        return "whole; its makers publish no sum to compare with"
    if not found.official:
        return "whole, but not the published weights"
    return "the published weights" + (f", by the sum that {file.recorded_by} recorded" if file.recorded_by else "")


def as_dict(row: Row) -> dict[str, Any]:
    """A row for JSON."""
    return {**vars(row), "path": None if row.path is None else str(row.path)}
