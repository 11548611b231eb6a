"""Who is next: round robin over clients, and over the sessions of each, so that nobody waits for another's pile.

There is one GPU. Clicks, jobs and idle questions have a lane each, with as many places as may work at once; within the
backend clicks go first anyway (`napari_sammed.backend.inference`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from napari_sammed.errors import Cancelled
from napari_sammed.server.refusals import Refusal

T = TypeVar("T")


class Watch(Protocol):
    """Is told how long work of a kind waited, and how long it took."""

    def waited(self, kind: str, seconds: float) -> None: ...

    def worked(self, kind: str, seconds: float) -> None: ...


async def outcome(task: asyncio.Task[Any]) -> Any:
    """The result of a task that others may cancel, which is an ordinary error then."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Cancelled from None
        task.cancel()
        raise


class Rounds:
    """What waits, in fair order: the next client's next session's first entry."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()

    def add(self, client: str, session: str, entry: asyncio.Future[None]) -> None:
        self._clients.setdefault(client, OrderedDict()).setdefault(session, deque()).append(entry)

    def waiting(self, client: str) -> int:
        """Entries of one client."""
        return sum(map(len, self._clients.get(client, {}).values()))

    def __len__(self) -> int:
        return sum(map(self.waiting, self._clients))

    def take(self) -> asyncio.Future[None] | None:
        """The next entry; its client and session go to the end of their rows."""
        if not self._clients:
            return None
        client, sessions = self._clients.popitem(last=False)
        session, entries = sessions.popitem(last=False)
        entry = entries.popleft()
        if entries:
            sessions[session] = entries
        if sessions:
            self._clients[client] = sessions
        return entry


class Lane:
    """Work of one kind, so much of it at once; belongs to one event loop.

    Parameters
    ----------
    name : str
        Of its threads.
    places : int
        Threads that work.
    most : int
        Entries of one client that may wait; further ones are refused as "busy".
    watch : Watch, optional
    """

    def __init__(self, name: str, places: int, most: int, watch: Watch | None = None) -> None:
        self.name = name
        self._rounds = Rounds()
        self._places = self._free = places
        self._watch = watch
        self._most = most
        self._threads = ThreadPoolExecutor(places, thread_name_prefix=f"napari-sammed-{name}")

    @property
    def waiting(self) -> int:
        """Entries that wait for a place."""
        return len(self._rounds)

    @property
    def working(self) -> int:
        """Places that are taken."""
        return self._places - self._free

    async def run(
        self, client: str, session: str, work: Callable[[], T], cancel: threading.Event, kind: str = "other"
    ) -> T:
        """Wait for a place, and work on a thread; if the task is cancelled, `cancel` is set, which ends the work.

        The kind of work is for the watch.

        Raises
        ------
        Refusal
            "busy", if too much of the client waits already.
        """
        if self._rounds.waiting(client) >= self._most:
            raise Refusal("busy", "Too many of your requests are waiting: wait for answers first.", retry_after=1)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        came = time.monotonic()
        self._rounds.add(client, session, turn)
        self._fill()
        try:
            await turn
        except asyncio.CancelledError:
            cancel.set()
            if turn.done() and not turn.cancelled():
                self._leave()  # the place had just come
            raise
        if self._watch is not None:
            self._watch.waited(kind, time.monotonic() - came)
        try:
            future = self._threads.submit(self._timed, kind, work)
        except RuntimeError:  # closed
            self._leave()
            raise Refusal("stopping", "The server is being stopped.") from None
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._leave))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancel.set()
            raise

    def close(self) -> None:
        """Take no more work; what runs is waited for by nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _timed(self, kind: str, work: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            return work()
        finally:
            if self._watch is not None:
                self._watch.worked(kind, time.monotonic() - start)

    def _leave(self) -> None:
        self._free += 1
        self._fill()

    def _fill(self) -> None:
        while self._free and (turn := self._rounds.take()) is not None:
            if not turn.done():  # else whoever waited has left
                self._free -= 1
                turn.set_result(None)
