"""Where to segment: on this computer, or at a server that the user chose, which is sent images after a yes only.

The choice, the servers that are known and what may be sent to which belong to the user, for all programs
(`napari_sammed.backend.remote_choice`). Nothing about servers is in scenes, so that loading one never sends anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .fetching import Asker
from .texts import tr

if TYPE_CHECKING:
    from napari_sammed.backend.remote import RemoteBackend
    from napari_sammed.backend.remote_choice import Place, Servers
    from napari_sammed.backend.remote_facts import ServerCheck

_KEYS: dict[str, str] = {}
"""Keys that were typed in, by address, until Slicer ends: no keyring may be there; module and effect share them."""

_LEARNING = 3.0  # s that opening a session may wait for a server to say which models it has
_LOOK = 0.2  # s between looks at whether the face is still there, while the user is asked


def segments_here() -> bool:
    """Whether the user has chosen this computer, which needs PyTorch; also before the package is installed."""
    try:
        from napari_sammed.backend.remote_choice import Servers
    except ImportError:
        return True
    return Servers().chosen() is None


class Serving:
    """One face's dealings with servers; all on the main thread.

    Parameters
    ----------
    asker : Asker
        Its `run` does several things at a time.
    use : callable
        Called when `place` has become another one, or may be sent images no more.

    Attributes
    ----------
    place : Place or None
        Where questions go; None is this computer.
    check : ServerCheck or None
        What the server says of itself; None before it has.
    problem : str
        Why it does not; a sentence.
    """

    def __init__(self, asker: Asker, use: Callable[[], None]) -> None:
        self.place: Place | None = None
        self.check: ServerCheck | None = None
        self.problem = ""
        self._asker = asker
        self._use = use
        self._servers: Servers | None = None
        self._agreed = False
        self._test: threading.Event | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """Ask the user nothing any more."""
        self._closed.set()
        self.stop_test()

    @property
    def servers(self) -> Servers:
        """What is remembered; the package has to be installed."""
        if self._servers is None:
            from napari_sammed.backend.remote_choice import Servers

            self._servers = Servers()
        return self._servers

    @property
    def testing(self) -> bool:
        """Whether a server is being asked what it is."""
        return self._test is not None

    # ---- what is chosen ------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Segment where the user has chosen, here or in another program; asks a server what it is."""
        place = self.servers.chosen()
        agreed = place is not None and self.servers.agreed(place.url)
        changed, withdrawn = place != self.place, self._agreed and not agreed
        self._agreed = agreed
        if changed or withdrawn:
            self._go(place)

    def choose(self, place: Place | None, key: str = "") -> None:
        """Segment at a server from now on, or with None on this computer.

        Parameters
        ----------
        place : Place or None
        key : str
            A new one; empty for the one that is known.
        """
        from napari_sammed.backend.remote_keys import keep_key

        self.servers.choose(place)
        self._agreed = place is not None and self.servers.agreed(place.url)
        if place is not None and key:
            _KEYS[place.url] = key
            self._asker.run(lambda: _error_of(lambda: keep_key(place.url, key)), self._kept)
        if place is not None or self.place is not None:  # the same one again: to have what it left open answered
            self._go(place)

    def withdraw(self, url: str) -> None:
        """Ask again before images are sent to a server; the sessions there end."""
        self.servers.withdraw(url)
        self.follow()

    def forget(self, url: str, then: Callable[[str], None]) -> None:
        """Forget a server and its key, and hand over what stood in the way, a sentence or nothing."""

        def done(error: Exception | None) -> None:
            self.follow()
            then("" if error is None else str(error))

        _KEYS.pop(url, None)
        self._asker.run(lambda: _error_of(lambda: self.servers.forget(url)), done)

    def backend_at(self, place: Place) -> Callable[[], RemoteBackend]:
        """What makes a backend at a server, on any thread; looks into the keyring."""
        servers, lazy = self.servers, not self._agreed  # an image that may go there goes there at once

        def ask(host: str, size: int) -> bool:
            return self._agrees(place, host, size)

        def make() -> RemoteBackend:
            from napari_sammed.backend.remote_choice import connect

            backend = connect(place, ask, key=_KEYS.get(place.url), servers=servers, lazy=lazy)
            _learn_models(backend)
            return backend

        return make

    # ---- what a server says --------------------------------------------------------------------------------------

    def test(self, place: Place, key: str, then: Callable[[str], None]) -> None:
        """Ask a server what it is, beside the main thread, and hand the answer over, a sentence for the user.

        Parameters
        ----------
        place : Place
        key : str
            Empty for the one that is known.
        then : callable
        """
        cancel = self._test = threading.Event()

        def work() -> tuple[ServerCheck | None, str]:
            from napari_sammed import messages
            from napari_sammed.backend.remote_choice import connect

            try:
                backend = connect(place, lambda host, size: False, key=key or _KEYS.get(place.url))
                try:
                    return backend.check(cancel=cancel), ""
                finally:
                    backend.shutdown()
            except Exception as error:
                return None, messages.failure(error) or tr("Stopped.")

        def done(found: tuple[ServerCheck | None, str]) -> None:
            if self._test is not cancel:  # another one is being asked
                return
            self._test = None
            check, problem = found
            if place == self.place:
                self.check, self.problem = check or self.check, problem
            then(problem if check is None else check.sentence)

        self._asker.run(work, done)

    def stop_test(self) -> None:
        """Wait for no server any longer."""
        if self._test is not None:
            self._test.set()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _go(self, place: Place | None) -> None:
        self.place, self.check, self.problem = place, None, ""
        self._use()
        self.stop_test()
        self._test = None
        if place is not None:
            self.test(place, "", lambda _: None)

    def _kept(self, error: Exception | None) -> None:
        if error is not None:
            self._asker.say(
                tr(
                    "The key is kept until Slicer ends, as Slicer's Python has no keyring; pip_install('keyring') in "
                    "the Python console adds one."
                )
            )

    def _agrees(self, place: Place, host: str, size: int) -> bool:
        """Ask the user whether an image may be sent; on the thread that wants to send it."""
        answer: list[bool] = []
        answered = threading.Event()

        def ask() -> None:
            try:
                yes = not self._closed.is_set() and self._asker.agrees(*_question(place, host, size))
                if yes:
                    self.servers.agree(place.url)
                    self._agreed = True
                answer.append(yes)
            finally:
                answered.set()

        self._asker.post(ask)
        while not answered.wait(_LOOK):
            if self._closed.is_set():
                return False
        return bool(answer) and answer[0]


def _question(place: Place, host: str, size: int) -> tuple[str, str]:
    """Whether an image may be sent, and what that means."""
    from napari_sammed.messages import server_size

    parts = [
        tr("The image ({size}) has to be sent to {host}: its voxels and their geometry, no names.").format(
            size=server_size(size), host=host
        ),
        tr("Your prompts go there as well, and masks come back. The voxels of a head show a face."),
    ]
    if place.url.startswith("http://") and place.insecure:
        parts.append(tr("Over http, everybody between here and there can read them."))
    parts.append(tr("A yes holds for other images, too, until you take it back under Where to segment."))
    return tr("Send images to {host}?").format(host=host), "\n\n".join(parts)


def _learn_models(backend: RemoteBackend) -> None:
    """Have a backend know the models of its server, of which this computer may know nothing; not for long."""
    from napari_sammed.errors import Cancelled, InputError

    enough = threading.Event()
    timer = threading.Timer(_LEARNING, enough.set)
    timer.start()
    try:
        backend.check(cancel=enough)
    except (InputError, Cancelled):
        return  # questions will say what is wrong
    finally:
        timer.cancel()


def _error_of(work: Callable[[], Any]) -> Exception | None:
    """Do something that may be refused, and hand over the refusal."""
    from napari_sammed.errors import InputError

    try:
        work()
    except InputError as error:
        return error
    return None
