"""Where the models run: on this computer, or at a server that the user chose; asked there only when it is needed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from typing import TYPE_CHECKING

from napari_sammed import messages
from napari_sammed.backend.remote_choice import Place, Servers, connect
from napari_sammed.backend.remote_keys import find_key, keep_key, keeps_keys
from napari_sammed.errors import InputError
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.views.place import PlaceDialog, Wish
from napari_sammed.plugin.views.sending import SendQuestion

if TYPE_CHECKING:
    from napari_sammed.backend.base import Backend
    from napari_sammed.backend.remote import RemoteBackend
    from napari_sammed.backend.remote_facts import ServerCheck
    from napari_sammed.plugin.features.model_offers import ModelOffers
    from napari_sammed.plugin.views.panel import Panel

_LOOK = 0.2  # s between looks at whether the panel is still there, while the user is asked


class _Asked:
    """A question to the user that another thread waits for."""

    def __init__(self, host: str, size: int) -> None:
        self.host = host
        self.size = size
        self.done = threading.Event()
        self.agreed = False


class PlaceChoice:
    """The panel's button that names the place, its dialog, and the question before an image goes to a server.

    Belongs to the GUI thread. The server that was chosen before is used again, and contacted when something is asked.

    Parameters
    ----------
    panel : Panel
    gui : GuiThread
    offers : ModelOffers
    local : Backend
        Of this computer.
    use : callable
        Has another backend answer from now on; given it, what to say then, and what to call when the one before is used
        no more.
    cancel : callable
        Stops everything that is being asked.
    remembered : bool
        Whether to begin at the server that was chosen before.
    """

    def __init__(
        self,
        panel: Panel,
        gui: GuiThread,
        offers: ModelOffers,
        local: Backend,
        use: Callable[[Backend, str, Callable[[], None]], None],
        cancel: Callable[[], None],
        remembered: bool = True,
    ) -> None:
        self.dialog: PlaceDialog | None = None
        self.question: SendQuestion | None = None
        self._panel = panel
        self._gui = gui
        self._offers = offers
        self._local = local
        self._use = use
        self._cancel = cancel
        self._servers = Servers()
        self._background = Background(gui, "napari-sammed-servers")
        self._keys: dict[str, str] = {}  # that are in no keyring, by address: as long as the program runs
        self._place: Place | None = None
        self._remote: RemoteBackend | None = None
        self._used = self._known = False  # whether it was needed, and has said what models it has
        self._testing = threading.Event()
        self._closed = False
        panel.place.wanted.connect(self.show)
        panel.status.retried.connect(lambda: self._ask_models())
        panel.modes.chosen.connect(lambda _: self._ask_models())
        chosen = self._servers.chosen()
        if chosen is not None and remembered:
            self._go(chosen)

    def show(self) -> None:
        """Open the dialog, or bring it to the front."""
        if self.dialog is None:
            dialog = self.dialog = PlaceDialog(self._panel)
            dialog.picked.connect(self._look_for_key)
            dialog.test_wanted.connect(self.test)
            dialog.stop_wanted.connect(lambda: self._testing.set())
            dialog.chosen.connect(self.choose)
            dialog.forget_wanted.connect(self._forget)
            dialog.ask_wanted.connect(self._ask_again)
            self._background.run(keeps_keys, lambda future: dialog.set_keyring(_result(future)))
            self._background.run(lambda: import_module("napari_sammed.backend.remote"))  # takes a while
        self._show_places()
        self.dialog.show()
        self.dialog.raise_()
        self.dialog.activateWindow()

    def test(self) -> None:
        """Ask the server of the form what it is."""
        self._with_wish(self._test)

    def choose(self) -> None:
        """Segment where the form says from now on."""
        self._with_wish(self._choose)

    def _test(self, wish: Wish) -> None:
        cancel = self._testing = threading.Event()

        def work() -> ServerCheck:
            backend = self._connected(wish.place, wish.key)
            try:
                return backend.check(cancel=cancel)
            finally:
                backend.shutdown()

        def done(future: Future[ServerCheck]) -> None:
            if self._testing is not cancel:  # of another server
                return
            self.dialog.set_testing(False)
            problem = "" if future.exception() is None else messages.failure(future.exception()) or "Stopped."
            self.dialog.say(problem, "" if problem else future.result().sentence)

        self.dialog.set_testing(True)
        self._ask_aside(work, done)

    def _choose(self, wish: Wish | None) -> None:
        self.dialog.accept()
        self._testing.set()
        if wish is not None and wish.key:
            self._keys[wish.place.url] = wish.key
            if wish.keep:
                self._background.run(lambda: keep_key(wish.place.url, wish.key), self._on_kept)
        place = None if wish is None else wish.place
        self._background.run(lambda: self._servers.choose(place))
        if place != self._place or (wish is not None and wish.key):
            self._go(place)
            self._use_it(tell=True)

    def close(self, wait: bool = False) -> None:
        """Ask nothing any more, and end the connection."""
        self._closed = True
        self._testing.set()
        if self.question is not None:
            self.question.reject()
        if self.dialog is not None:
            self.dialog.close()
        if self._remote is not None:
            self._background.run(self._remote.shutdown)
        self._background.close(wait)

    # ---- going there ---------------------------------------------------------------------------------------------

    def _go(self, place: Place | None) -> None:
        before, self._place = self._remote, place
        self._used = self._known = False
        self._remote = None if place is None else self._connected(place, "")
        self._panel.place.show_place("" if place is None else place.host)
        if place is None:
            self._offers.show_here()
        else:
            self._offers.show_server(place.host, None)
        self._panel.status.warn("", "server")
        text = f"The models run {'on this computer' if place is None else f'at {place.host}'} from now on."
        self._use(self._remote or self._local, text, lambda: None if before is None else before.shutdown())

    def _connected(self, place: Place, key: str) -> RemoteBackend:
        return connect(
            place,
            self._agrees,
            key=key or self._keys.get(place.url),
            servers=self._servers,
            on_use=lambda: self._gui.post(self._use_it),
            lazy=True,
        )

    def _use_it(self, tell: bool = False) -> None:
        """The server is needed now: have it say what models it has; tell also if it does not answer."""
        self._used = True
        self._ask_models(tell)

    def _ask_models(self, tell: bool = False) -> None:
        remote, place = self._remote, self._place
        if remote is None or self._known or not self._used:
            return
        self._known = True

        def done(future: Future[ServerCheck]) -> None:
            if self._remote is not remote:
                return
            error = future.exception()
            if error is None:
                self._offers.show_server(place.host, future.result().models)
                self._panel.place.show_place(place.host, messages.plain(future.result().sentence))
                self._panel.status.warn("", "server")
            else:
                self._known = False
                if tell:  # else whoever is waited for tells
                    self._panel.status.warn(messages.failure(error) or "", "server")

        self._ask_aside(remote.check, done)

    def _ask_aside(self, work: Callable[[], ServerCheck], done: Callable[[Future[ServerCheck]], None]) -> None:
        """On a thread of its own: a silent server must not hold up keys and settings."""
        Background(self._gui, "napari-sammed-check").run(work, done)

    # ---- consent -------------------------------------------------------------------------------------------------

    def _agrees(self, host: str, size: int) -> bool:
        """Ask the user, on the thread that wants to send."""
        asked = _Asked(host, size)
        self._gui.post(self._ask, asked)
        while not asked.done.wait(_LOOK):
            if self._closed:
                return False
        return asked.agreed

    def _ask(self, asked: _Asked) -> None:
        question = self.question = SendQuestion(asked.host, asked.size, self._panel)

        def answered(agreed: bool) -> None:
            self.question = None
            question.deleteLater()
            if not agreed and not self._closed:
                self._cancel()
                self._panel.status.say(
                    f"Nothing was sent to {asked.host}. Your prompts stay: try again to be asked again, or press "
                    f"Server {asked.host} below to choose this computer.",
                    retry=True,
                )
            asked.agreed = agreed
            asked.done.set()

        question.answered.connect(answered)
        question.open()

    # ---- the dialog ----------------------------------------------------------------------------------------------

    def _with_wish(self, do: Callable[[Wish | None], None]) -> None:
        """Do something with what the form says, unless that is no address."""
        self.dialog.say("")
        try:
            wish = self.dialog.wish()
        except InputError as error:
            self.dialog.say(messages.failure(error) or "")
            return
        do(wish)

    def _show_places(self) -> None:
        self.dialog.set_places(self._servers.known(), self._place, self._agreed)

    @property
    def _agreed(self) -> list[str]:
        return [place.url for place in self._servers.known() if self._servers.agreed(place.url)]

    def _look_for_key(self, url: str) -> None:
        def done(future: Future[bool]) -> None:
            with contextlib.suppress(Exception):
                self.dialog.set_has_key(url, future.result())

        self._background.run(lambda: url in self._keys or find_key(url) is not None, done)

    def _forget(self, url: str) -> None:
        self._keys.pop(url, None)

        def done(future: Future[None]) -> None:
            if self._place is not None and self._place.url == url:
                self._go(None)
            self._show_places()
            self._report(future, "Forgotten, with its key.")

        self._background.run(lambda: self._servers.forget(url), done)

    def _ask_again(self, url: str) -> None:
        def done(future: Future[None]) -> None:
            self.dialog.set_agreed(self._agreed)
            self._report(future, "You are asked again before an image is sent there.")

        self._background.run(lambda: self._servers.withdraw(url), done)

    def _report(self, future: Future[None], good: str) -> None:
        problem = _problem(future)
        self.dialog.say(problem, "" if problem else good)

    def _on_kept(self, future: Future[None]) -> None:
        if future.exception() is not None:
            self._panel.status.warn(f"{_problem(future)} It is used until napari ends.", "key")


def _result(future: Future[bool]) -> bool:
    return future.exception() is None and future.result()


def _problem(future: Future[None]) -> str:
    error = future.exception()
    return "" if error is None else messages.failure(error) or ""
