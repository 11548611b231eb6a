"""What the model choosers offer while the models run at a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from napari_sammed import messages
from napari_sammed.models import registry
from napari_sammed.plugin.views.choosers import AUTO, Choice

if TYPE_CHECKING:
    from napari_sammed.models.base import ModelCard

Offered: TypeAlias = tuple[list[Choice], dict[str, str]]
"""The entries of a chooser, and the notes below it."""

_AUTO = "Boxes go to LiteMedSAM, clicks in volumes to the random walker, at {}; an object stays with its model."


def at_server(host: str, cards: Sequence[ModelCard] | None) -> tuple[Offered, Offered]:
    """Models that take prompts and those that take none; None for `cards` that the server has not told yet."""
    known = cards is not None
    found = cards if cards is not None else [registry.card(name) for name in registry.names()]
    notes = {card.name: messages.server_note(card, host, known) for card in found}
    if known and not any(card.name == "litemedsam" for card in found):
        notes[AUTO] = f"{host} does not have LiteMedSAM, which answers boxes: choose another model for them."
    auto = [Choice(AUTO, "Auto", _AUTO.format(host))]
    prompted = [_choice(card, host, known) for card in found if card.prompts]
    classes = [_choice(card, host, known) for card in found if not card.prompts]
    return (auto + prompted, notes), (classes, notes)


def _choice(card: ModelCard, host: str, known: bool) -> Choice:
    dimensions = ", ".join(f"{dimension}D" for dimension in sorted(card.dimensions))
    return Choice(card.name, f"{card.title} ({dimensions})", messages.server_tooltip(card, host, known))
