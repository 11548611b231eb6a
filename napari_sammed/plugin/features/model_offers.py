"""Which models the panel offers, what it says of them, and how their weights come to this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sammed import messages
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError, WeightsError
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.models.identify import identify_file
from napari_sammed.models.registry import Row
from napari_sammed.models.sources import by_hand
from napari_sammed.plugin.features.server_models import at_server
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.settings import own_weights
from napari_sammed.plugin.views import weights as dialogs
from napari_sammed.plugin.views.choosers import AUTO, Choice, ModelChooser, Weights

if TYPE_CHECKING:
    from napari_sammed.backend.base import Backend
    from napari_sammed.models.base import ModelCard
    from napari_sammed.plugin.settings.memory import Memory
    from napari_sammed.plugin.views.panel import Panel

_ABOUT_MODEL = "model"
_AUTO_TOOLTIP = "Boxes go to LiteMedSAM, clicks in volumes to the random walker; an object stays with its model."


class ModelOffers:
    """Fills the model choosers, those of prompts and those without, and sees to weights.

    Parameters
    ----------
    panel : Panel
    backend : Backend
    gui : GuiThread
    memory : Memory
        Keeps which weight files the user has chosen.
    """

    def __init__(self, panel: Panel, backend: Backend, gui: GuiThread, memory: Memory) -> None:
        self._panel = panel
        self._backend = backend
        self._gui = gui
        self._background = Background(gui)  # of its own: a download must not hold up images and sessions
        self._memory = memory
        self._own: dict[str, tuple[Path, ...]] = {}
        self._complaints: dict[str, str] = {}  # about files of before
        self._on_own: Callable[[], None] = lambda: None
        self._fetching: dict[str, threading.Event] = {}
        self._server: tuple[str, Sequence[ModelCard] | None] | None = None
        for chooser in self._choosers:
            chooser.fetch_wanted.connect(self.fetch)
            chooser.files_wanted.connect(self.choose_files)
            chooser.chosen.connect(lambda _: panel.status.warn("", _ABOUT_MODEL))
        self._use_remembered()

    def show(self) -> None:
        """Offer what the registry knows, as it stands on this machine now, or what the server has."""
        if self._server is not None:
            self._offer_server(*self._server)
            self._on_own()
            return
        try:
            rows = registry.rows()
        except InputError as error:  # the folder of weights that the user names is not there
            self._panel.status.warn(messages.failure(error) or "")
            return
        notes = {row.name: self._note(row) for row in rows}
        boxes = next(row for row in rows if row.name == "litemedsam")
        if boxes.status == "absent":
            notes[AUTO] = f"{boxes.title} answers boxes. {boxes.first_use}"
        weights = {row.name: self._weights(row) for row in rows if row.status != "not needed"}
        auto = [Choice(AUTO, "Auto", _AUTO_TOOLTIP)]
        prompted, classes = self._choosers
        prompted.set_models(auto + [_choice(row) for row in rows if row.prompts], notes, weights)
        classes.set_models([_choice(row) for row in rows if not row.prompts], notes, weights)
        self._on_own()

    def choose(self, name: str) -> str:
        """Offer a new model, choose it, and say what that means; at a server it cannot be chosen."""
        self.show()
        title = registry.card(name).title
        for chooser in self._choosers:
            if chooser.choose(name):
                who = (
                    "answers the next object's prompts"
                    if registry.card(name).prompts
                    else "is chosen below “Segment everything”"
                )
                return f"{title} is among the models as {name}, and {who}."
        return f"{title} is among the models of this computer as {name}; the server that is chosen does not have it."

    def show_server(self, host: str, cards: Sequence[ModelCard] | None) -> None:
        """Offer the models of a server from now on; those that there are at all while it has not been asked."""
        self._server = (host, cards)
        self.show()

    def show_here(self) -> None:
        """Offer the models of this machine from now on."""
        self._server = None
        self._panel.status.warn("", _ABOUT_MODEL)
        self.show()

    def fetch(self, name: str) -> None:
        """Fetch a model's weights if the user agrees to their licence; called again meanwhile, stop."""
        if name in self._fetching:
            self._fetching[name].set()
            return
        card = registry.card(name)
        if not dialogs.agrees(self._panel, card.title, messages.conditions(card, registry.row(name))):
            return
        cancel = self._fetching[name] = threading.Event()
        shown = [-1]

        def progress(done: int, total: int | None) -> None:
            percent = round(100 * done / total) if total else 0
            if percent != shown[0]:
                shown[0] = percent
                self._gui.post(self._panel.status.murmur, f"Fetching the weights of {card.title}: {percent} %")

        def done(future: Future[Path]) -> None:
            del self._fetching[name]
            self._panel.status.murmur("")
            self._report(future, f"The weights of {card.title} are here now.", "Stopped fetching.")

        self.show()
        self._background.run(lambda: store.pull(card, progress, cancel, accept_licence=True), done)

    def choose_files(self, name: str) -> None:
        """Let the user pick weight files for a model, and use them from now on if they are of its kind."""
        card = registry.card(name)
        files = dialogs.pick_files(self._panel, card.title, pair=bool(card.base))
        if not files:
            return

        def done(future: Future[None]) -> None:
            if future.exception() is None:
                self._own[name] = files
                self._settled(name)
                self._backend.use_weights(name, files)
            self._report(future, f"{card.title} uses {_names(files)} from now on.", "")

        def look() -> None:
            check(card, files)
            own_weights.remember(self._memory, name, files)

        self._panel.status.say(f"Looking at {_names(files)} …")
        self._background.run(look, done)

    def forget_files(self, name: str) -> None:
        """Use the official weights of a model again, instead of files that the user chose."""
        own_weights.forget(self._memory, name)
        self._settled(name)
        if self._own.pop(name, None) is not None:
            self._backend.use_weights(name, ())
        self._panel.status.say(f"{registry.card(name).title} uses its official weights from now on.")
        self.show()

    @property
    def own_weights(self) -> dict[str, str]:
        """Models with weight files that the user chose -> what is said of these."""
        said = {name: f"{registry.card(name).title}: {_names(files)}" for name, files in self._own.items()}
        return said | {name: f"{registry.card(name).title}: {text}" for name, text in self._complaints.items()}

    def on_own_weights(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when other weight files are used than before."""
        self._on_own = listener

    def close(self, wait: bool) -> None:
        """Stop downloads."""
        for cancel in self._fetching.values():
            cancel.set()
        self._background.close(wait)

    @property
    def _choosers(self) -> tuple[ModelChooser, ModelChooser]:
        return self._panel.image_section.model, self._panel.classes.model

    def _offer_server(self, host: str, cards: Sequence[ModelCard] | None) -> None:
        """Offer what the server has; a choice that is not there falls back to Auto, and that is said."""
        prompted, _ = self._choosers
        before, title = prompted.key, prompted.box.currentText()
        for chooser, offered in zip(self._choosers, at_server(host, cards), strict=True):
            chooser.set_models(*offered)
        if before not in ("", prompted.key):
            self._panel.status.warn(f"{host} does not have {title}: Auto is chosen instead.", _ABOUT_MODEL)

    def _use_remembered(self) -> None:
        """Have the files that were chosen before used again, where they are still the same."""
        if not isinstance(self._backend, LocalBackend):
            return
        for name, files in own_weights.remembered(self._memory).items():
            if name in registry.names():
                done = partial(self._on_looked, name, files)
                self._background.run(partial(own_weights.complaint, self._memory, name), done)

    def _on_looked(self, name: str, files: tuple[Path, ...], future: Future[str]) -> None:
        if name in self._own:  # the user was faster
            return
        text = str(future.exception() or "") or future.result()
        if text:
            self._complaints[name] = text
            self._panel.status.warn(f"{registry.card(name).title}: {text}", f"weights of {name}")
        else:
            self._own[name] = files
            self._backend.use_weights(name, files)
        self.show()

    def _settled(self, name: str) -> None:
        self._complaints.pop(name, None)
        self._panel.status.warn("", f"weights of {name}")

    def _note(self, row: Row) -> str:
        if row.name in self._own:
            return f"{row.summary} Its weights: {_names(self._own[row.name])}."
        if row.name in self._complaints:
            return f"{row.summary} {self._complaints[row.name]}"
        return messages.model_note(registry.card(row.name), row)

    def _weights(self, row: Row) -> Weights:
        card = registry.card(row.name)
        if row.name in self._fetching:
            fetch = "Stop fetching"
        elif row.status != "absent" or row.name in self._own or by_hand(card):
            fetch = ""
        else:
            fetch = f"Fetch {row.size / 1e6:.0f} MB…" if row.size else "Fetch…"
        return Weights(fetch, isinstance(self._backend, LocalBackend))

    def _report(self, future: Future[object], good: str, called_off: str) -> None:
        error = future.exception()
        self._panel.status.say(good if error is None else messages.failure(error) or called_off)
        self.show()


def check(card: ModelCard, files: Sequence[Path]) -> None:
    """Refuse files of another system by name, before anything is loaded.

    Raises
    ------
    WeightsError
    """
    for file in files:
        found = identify_file(file)
        if not {card.name, card.base} & set(found.models):
            what = f"is a file of {found.system}" if found.system else "is of no system known here"
            instead = f": choose the model {registry.card(found.models[0]).title} for it" if found.models else ""
            raise WeightsError(f"{file.name} {what}, not of {card.title}{instead}")


def _choice(row: Row) -> Choice:
    return Choice(row.name, f"{row.title} ({row.dimensions})", messages.model_tooltip(row))


def _names(files: Sequence[Path]) -> str:
    return " and ".join(file.name for file in files)
