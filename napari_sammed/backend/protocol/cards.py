"""Cards of models as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from napari_sammed.backend.protocol import values
from napari_sammed.errors import ProtocolError
from napari_sammed.models.base import ModelCard, WeightFile


def card_to_json(card: ModelCard) -> dict[str, Any]:
    """A card, without the name of the class that implements it."""
    item = dataclasses.asdict(card)
    del item["implementation"]
    return item | {"dimensions": sorted(card.dimensions), "prompts": sorted(card.prompts)}


@values.checked
def card_from_json(item: Any) -> ModelCard:
    kinds = {"dimensions": frozenset, "prompts": frozenset, "input_size": tuple}
    known = {field.name for field in dataclasses.fields(ModelCard)} - {"implementation"}
    fields = {key: kinds.get(key, lambda value: value)(value) for key, value in item.items() if key in known}
    if fields["weights"] is not None:
        known = {field.name for field in dataclasses.fields(WeightFile)}
        fields["weights"] = WeightFile(**{key: value for key, value in fields["weights"].items() if key in known})
    card = ModelCard(**fields, implementation="")
    values.text(card.name), values.text(card.title), values.text(card.summary, 10_000)
    if not card.dimensions <= {2, 3} or not card.prompts <= {"point", "box", "stroke", "mask"}:
        raise ProtocolError(f"Not a card of a model: {str(item)[:80]}.")
    return card
