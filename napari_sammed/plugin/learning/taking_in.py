"""From a tuned file to a model that can be chosen."""

from __future__ import annotations

from pathlib import Path

from napari_sammed.models import registry, tuned, tuned_store


def take_in(path: Path) -> str:
    """Have the registry know a tuned file, as ``napari-sammed models add`` does; gives its name there.

    Where another model has its name, it gets one beside it; a file that was taken in before is not taken in again. Not
    for the GUI thread.

    Raises
    ------
    WeightsError
        If it is no tuned file, or damaged.
    """
    card = tuned.read_card(path)
    for known in tuned_store.here().values():
        if known.card.sum == card.sum:
            return known.name
    taken = registry.names()
    name = card.name if card.name not in taken else tuned_store.free_name(card.name, taken)
    return tuned_store.add(path, name, taken).name
