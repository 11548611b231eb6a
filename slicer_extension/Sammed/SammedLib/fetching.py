"""Fetching the weights of models to this computer, after the user has agreed to their licence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .prompting import AUTO
from .texts import tr

if TYPE_CHECKING:
    from napari_sammed.prompts import Prompt


class Asker(Protocol):
    """Who talks to the user (`SammedLib.presenter.Presenter`); all on the main thread but `post`."""

    def say(self, message: str) -> None:
        """Show a sentence."""

    def progressed(self, what: str, share: float) -> None:
        """Show what is being done and how far it is, 0 to 1."""

    def agrees(self, question: str, conditions: str) -> bool:
        """Ask for a yes."""

    def post(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have the main thread call a function soon; from any thread."""

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do work beside the main thread, and hand its result to a function on it; failures are said."""


class Fetching:
    """Downloads of one face.

    Parameters
    ----------
    asker : Asker

    Attributes
    ----------
    on_its_way : dict of str to threading.Event
        By model; set the event to stop.
    """

    def __init__(self, asker: Asker) -> None:
        self.on_its_way: dict[str, threading.Event] = {}
        self._asker = asker

    def stop(self) -> None:
        """Stop all of them."""
        for cancel in self.on_its_way.values():
            cancel.set()

    def missing(self, model: str, prompt: Prompt | None) -> str | None:
        """The model of a question, if its weights are to be fetched first.

        Parameters
        ----------
        model : str
            Chosen by the user; "auto" goes by the prompt.
        prompt : Prompt or None
            None where "auto" stays with a model that is known to be here.
        """
        from napari_sammed.models import registry

        if model == AUTO and prompt is not None:
            model = registry.default_for(3, prompt)
        known = model in registry.names() and registry.row(model).status == "absent"
        return model if known else None

    def fetch(self, model: str, then: Callable[[], None]) -> bool:
        """Fetch weights, and do something when they are here.

        Returns
        -------
        bool
            False if the user does not want that, they are on their way already, or have to be got by hand.
        """
        from napari_sammed import messages
        from napari_sammed.models import registry, weights
        from napari_sammed.models.sources import by_hand, how_to_get

        asker, card = self._asker, registry.card(model)
        if by_hand(card):
            asker.say(f"{how_to_get(card)}.")
            return False
        question = tr("Weights of {title}: agree and fetch?").format(title=card.title)
        if model in self.on_its_way or not asker.agrees(question, messages.conditions(card, registry.row(model))):
            return False
        cancel = self.on_its_way[model] = threading.Event()

        def progress(done: int, total: int | None) -> None:
            text = tr("Fetching the weights of {title}").format(title=card.title)
            asker.post(asker.progressed, text, done / total if total else 0.0)

        def pull() -> None:
            try:
                weights.pull(card, progress, cancel, accept_licence=True)
            finally:
                asker.post(self.on_its_way.pop, model)

        def done(_: None) -> None:
            asker.say(tr("The weights of {title} are here now.").format(title=card.title))
            then()

        asker.run(pull, done)
        return True
