"""Who is next: clients get equal time, and the sessions of each take turns, so that nobody waits for another's pile.

There is one GPU. Clicks, jobs and idle questions have a lane each, with as many places as may work at once; within the
backend clicks go first anyway (`napari_sammed.backend.inference`). Images that come in take turns in the same way.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from napari_sammed.errors import Cancelled
from napari_sammed.server.refusals import Refusal

T = TypeVar("T")

_LOOK = 0.5  # s, at most, between two looks at who has rested: others may have gone meanwhile


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
    """What waits, in fair order: of the client who has had least time, the next session's first entry.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996), with seconds as costs: time that somebody did not use is not
    saved up, and who has had as much as others comes in turn.
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()
        self._had: dict[str, float] = {}  # of those above `_now`: seconds up to which each has been served
        self._now = 0.0

    def add(self, client: str, session: str, entry: asyncio.Future[None]) -> None:
        self._clients.setdefault(client, OrderedDict()).setdefault(session, deque()).append(entry)

    @property
    def clients(self) -> Iterable[str]:
        """Those that wait."""
        return self._clients.keys()

    def waiting(self, client: str) -> int:
        """Entries of one client."""
        return sum(map(len, self._clients.get(client, {}).values()))

    def __len__(self) -> int:
        return sum(map(self.waiting, self._clients))

    def served(self, client: str, seconds: float) -> None:
        """Note how long an entry of a client took."""
        self._had[client] = max(self._had.get(client, 0.0), self._now) + seconds

    def take(self, passing_over: Container[str] = ()) -> tuple[str, asyncio.Future[None]] | None:
        """The next client, of those that are not passed over, and its entry; both go to the end of their rows."""
        there = [name for name in self._clients if name not in passing_over]
        if not there:
            return None
        client = min(there, key=lambda name: max(self._had.get(name, 0.0), self._now))
        self._now = max(self._had.get(client, 0.0), self._now)
        self._had = {name: had for name, had in self._had.items() if had > self._now}
        sessions = self._clients.pop(client)
        session, entries = sessions.popitem(last=False)
        entry = entries.popleft()
        if entries:
            sessions[session] = entries
        if sessions:
            self._clients[client] = sessions
        return client, entry


class Allowances:
    """What clients may take while others are at work, so that who thinks between questions finds the machine free.

    A question that has begun is not interrupted. If a pile of questions filled every gap that others leave, each of
    their questions would wait for one of it. So a client has its share of the time, as many shares as clients are at
    work; what it takes beyond that, after some seconds ahead, it has to rest for. Alone, it never rests.

    Parameters
    ----------
    ahead : float
        Seconds that a client may take at once before it has to rest.
    at_work : float
        Seconds after its last question for which a client counts as at work.
    """

    def __init__(self, ahead: float = 3.0, at_work: float = 20.0) -> None:
        self._ahead = ahead
        self._at_work = at_work
        self._asked: dict[str, float] = {}  # when each was last heard of
        self._taken: dict[str, tuple[float, float]] = {}  # seconds beyond the share, and when that was

    def asks(self, client: str, now: float) -> None:
        """Note that a client has a question."""
        self._asked = {name: at for name, at in self._asked.items() if now - at < self._at_work}
        self._asked[client] = now

    def served(self, client: str, seconds: float, now: float) -> None:
        """Note how long a question of a client took."""
        self.asks(client, now)
        self._taken[client] = (self._beyond(client, now) + seconds, now)
        self._taken = {name: taken for name, taken in self._taken.items() if self._beyond(name, now) > 0}

    def rest(self, client: str, now: float) -> float:
        """Seconds for which a client has to rest, if no other comes or goes."""
        others = sum(name != client and now - at < self._at_work for name, at in self._asked.items())
        return max(0.0, self._beyond(client, now) - self._ahead) * (1 + others) if others else 0.0

    def _beyond(self, client: str, now: float) -> float:
        seconds, at = self._taken.get(client, (0.0, now))
        return max(0.0, seconds - (now - at) / max(1, len(self._asked)))


class Places:
    """So many of which clients take one each, in turn; belongs to one event loop.

    Parameters
    ----------
    count : int
    most : int
        Entries of one client that may wait; further ones are refused as "busy".
    each : int, optional
        Places that one client may have at once; by default all.
    allowances : Allowances, optional
        Has those rest who take more than their share; by default no place stays free while somebody waits.
    """

    def __init__(self, count: int, most: int, each: int | None = None, allowances: Allowances | None = None) -> None:
        self._rounds = Rounds()
        self._allowances = allowances
        self._rested: asyncio.TimerHandle | None = None
        self._free = count
        self._most = most
        self._each = each
        self._taken: Counter[str] = Counter()
        self._since: defaultdict[str, deque[float]] = defaultdict(deque)  # when each place was taken
        self._full: set[str] = set()

    @property
    def waiting(self) -> int:
        """Entries that wait for a place."""
        return len(self._rounds)

    @property
    def taken(self) -> int:
        """Places that clients have."""
        return self._taken.total()

    async def take(self, client: str, session: str) -> None:
        """Wait for a place, to be given back by `leave`; without one if the task is cancelled meanwhile.

        Raises
        ------
        Refusal
            "busy", if too much of the client waits already.
        """
        if self._rounds.waiting(client) >= self._most:
            raise Refusal("busy", "Too many of your requests are waiting: wait for answers first.", retry_after=1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rounds.add(client, session, turn)
        if self._allowances is not None:
            self._allowances.asks(client, time.monotonic())
        self._fill()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(client)  # the place had just come
            raise

    def leave(self, client: str) -> None:
        """Give a place back."""
        now = time.monotonic()
        seconds = now - self._since[client].popleft()
        self._rounds.served(client, seconds)
        if self._allowances is not None:
            self._allowances.served(client, seconds, now)
        self._free += 1
        self._taken[client] -= 1
        self._full.discard(client)
        if not self._taken[client]:
            del self._taken[client], self._since[client]
        self._fill()

    def _fill(self) -> None:
        if self._rested is not None:
            self._rested.cancel()
            self._rested = None
        passing_over = self._full | self._resting()
        while self._free and (found := self._rounds.take(passing_over)) is not None:
            client, turn = found
            if turn.done():  # whoever waited has left
                continue
            self._free -= 1
            self._taken[client] += 1
            self._since[client].append(time.monotonic())
            if self._taken[client] == self._each:
                self._full.add(client)
                passing_over.add(client)
            turn.set_result(None)

    def _resting(self) -> set[str]:
        """Clients that have to wait though there is a place; they are looked at again when the first has rested."""
        if self._allowances is None or not self._free:
            return set()
        now = time.monotonic()
        rests = {client: self._allowances.rest(client, now) for client in self._rounds.clients}
        resting = {client: rest for client, rest in rests.items() if rest > 0}
        if resting:
            soon = max(0.01, min(resting.values()))
            self._rested = asyncio.get_running_loop().call_later(min(soon, _LOOK), self._fill)
        return set(resting)


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
    allowances : Allowances, optional
        As of `Places`.
    """

    def __init__(
        self, name: str, places: int, most: int, watch: Watch | None = None, allowances: Allowances | None = None
    ) -> None:
        self.name = name
        self._places = Places(places, most, allowances=allowances)
        self._watch = watch
        self._threads = ThreadPoolExecutor(places, thread_name_prefix=f"napari-sammed-{name}")

    @property
    def waiting(self) -> int:
        """Entries that wait for a place."""
        return self._places.waiting

    @property
    def working(self) -> int:
        """Places that are taken."""
        return self._places.taken

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
        loop, came = asyncio.get_running_loop(), time.monotonic()
        try:
            await self._places.take(client, session)
        except asyncio.CancelledError:
            cancel.set()
            raise
        leave = functools.partial(self._places.leave, client)
        if self._watch is not None:
            self._watch.waited(kind, time.monotonic() - came)
        try:
            future = self._threads.submit(self._timed, kind, work)
        except RuntimeError:  # closed
            leave()
            raise Refusal("unavailable", "The server is being stopped.", retry_after=2) from None
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(leave))
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
