"""What there is to choose from: models, mappings of grey values, devices."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .logic import SammedLogic
from .prompting import AUTO
from .texts import tr

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.models.base import ModelCard

DISPLAYED = "displayed"
CUSTOM = "custom"
DEVICES = {
    "auto": "Automatic",
    "cuda": "NVIDIA or AMD GPU",
    "mps": "Apple GPU",
    "cpu": "Processor",
}


@dataclass(frozen=True)
class Offer:
    """An entry of a list of models or windows.

    Parameters
    ----------
    key, label : str
    tooltip : str
    note : str
        Shown below the list while this is chosen; may hold a link.
    fetch : str
        Text of a button that fetches its weights; empty if there is nothing to fetch.
    """

    key: str
    label: str
    tooltip: str = ""
    note: str = ""
    fetch: str = ""


def automatic() -> Offer:
    """The model that volume and prompt decide."""
    tooltip = tr("Boxes go to LiteMedSAM, clicks in volumes to the random walker; a segment stays with its model.")
    return Offer(AUTO, tr("Auto"), tooltip)


def of_models(fetching: Container[str]) -> list[Offer]:
    """Automatic choice, and the models that take prompts, with what is to be known of them on this machine now.

    Parameters
    ----------
    fetching : container of str
        Models whose weights are on their way.

    Raises
    ------
    InputError
        If the folder of weights that the user names is not there.
    """
    from napari_sammed import messages
    from napari_sammed.models import registry

    offers = [automatic()]
    for row in registry.rows():
        if not row.prompts:
            continue
        card = registry.card(row.name)
        fetch = _fetch_label(card, row.size, card.name in fetching) if row.status == "absent" else ""
        label = f"{row.title} ({row.dimensions})"
        offers.append(Offer(row.name, label, messages.model_tooltip(row), messages.model_note(card, row), fetch))
    return offers


def of_server(host: str, cards: Sequence[ModelCard] | None, chosen: str = AUTO) -> list[Offer]:
    """Automatic choice, and the models of a server that take prompts.

    Parameters
    ----------
    host : str
    cards : sequence of ModelCard or None
        What it has; None before it has said so, then those that are known here.
    chosen : str
        The model that is chosen now: it stays in the list if the server lacks it, and is said to be missing.
    """
    from napari_sammed import messages
    from napari_sammed.models import registry

    known = cards is not None
    found = [card for card in (map(registry.card, registry.names()) if cards is None else cards) if card.prompts]
    offers = [automatic()]
    for card in found:
        label = f"{card.title} ({', '.join(f'{count}D' for count in sorted(card.dimensions))})"
        tooltip, note = (say(card, host, known) for say in (messages.server_tooltip, messages.server_note))
        offers.append(Offer(card.name, label, tooltip, note))
    if known and chosen not in [offer.key for offer in offers]:
        note = tr("{host} does not have this model: choose another one.").format(host=host)
        offers.append(Offer(chosen, tr("{model} (not there)").format(model=chosen), note, note))
    return offers


def of_windows() -> list[Offer]:
    """Mappings of grey values."""
    from napari_sammed.intensity import Window

    as_needed = tr("As the image needs: soft tissue for CT, percentiles for other scans")
    shown = tr("Window and level of the volume's display, at the moment of each prompt")
    return [
        Offer("auto", tr("Auto"), as_needed),
        *(Offer(key, label) for key, label in Window.presets().items()),
        Offer(DISPLAYED, tr("As displayed"), shown),
        Offer(CUSTOM, tr("Custom level and width"), tr("A window of your own, in the volume's grey values")),
    ]


def window_of(key: str, custom: tuple[float, float], logic: SammedLogic) -> Window | None:
    """The mapping that a key of `of_windows` stands for now; None to leave it to the volume."""
    from napari_sammed.intensity import Window

    if key == "auto":
        session = logic.session
        return None if session is None else Window.auto(session.session.image)
    if key == CUSTOM:
        return Window.custom(*custom)
    if key != DISPLAYED:
        return Window.preset(key)
    display = None if logic.volume is None else logic.volume.GetDisplayNode()
    if display is None or not hasattr(display, "GetWindowLevelMin"):
        return None
    return Window.displayed(display.GetWindowLevelMin(), display.GetWindowLevelMax())


def _fetch_label(card: ModelCard, size: int, on_its_way: bool) -> str:
    from napari_sammed.models.sources import by_hand

    if on_its_way:
        return tr("Stop fetching")
    if by_hand(card):
        return ""
    return tr("Fetch {size} MB…").format(size=round(size / 1e6)) if size else tr("Fetch…")
