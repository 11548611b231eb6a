"""``napari-sammed models``: which models there are, and their weights."""

from __future__ import annotations

import threading
from typing import Any

from napari_sammed.commands.terminal import download_bar, say, say_json
from napari_sammed.errors import WeightsError
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.models.registry import Row


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
        size = f"{row.size / 1e6:.0f} MB" if row.size else "none"
        table.add_row(row.name, row.dimensions, row.prompts, size, row.licence, row.status)
    console = Console()
    console.print(table)
    for row in rows:
        console.print(f"{row.name}: {row.summary}", style="dim", highlight=False)


def pull(name: str, accept_licence: bool) -> None:
    """Fetch a model's weights; what, how much and under which licence is logged before the download."""
    cancel = threading.Event()
    with download_bar(name) as progress:
        try:
            path = store.pull(registry.card(name), progress, cancel, accept_licence=accept_licence)
        except KeyboardInterrupt:
            cancel.set()
            raise
    say(str(path))


def path(name: str) -> None:
    """Where a model's weights lie on this machine."""
    card = registry.card(name)
    found = store.locate(card)
    if found is None:
        raise WeightsError(
            f"the weights of {name} are not on this machine: run `napari-sammed models pull {name}`, or name the "
            f"folder that they are in with {store.FOLDER_VARIABLE}"
        )
    say(str(found))


def verify(name: str | None, as_json: bool) -> None:
    """Check the weights of one model, or of all that are on this machine."""
    if name is not None:
        card = registry.card(name)
        checked = [store.verify(card)]
        names = [name]
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
        whose = "the published weights" if found.official else "whole, but not the published weights"
        say(f"{each}: {whose}, sha256 {found.sha256}, {found.path}")
    if not names:
        say("There are no weights on this machine yet.")


def as_dict(row: Row) -> dict[str, Any]:
    """A row for JSON."""
    return {**vars(row), "path": None if row.path is None else str(row.path)}
