"""Which replica has which session: decided once, in one place, and anew only when the replica is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from napari_sammed.server.refusals import Refusal

_SETTLE = 3.0  # seconds after the start within which a replica may say that it has a session
_STARTING = 20.0  # seconds for which a request waits for a replica at all
_JUST_NOW = 5.0  # seconds for which a report may not have heard yet of what the ingress did


@dataclass(frozen=True)
class Report:
    """What a replica says of itself, every second.

    Parameters
    ----------
    replica : str
        Its id; a restarted one has another.
    host : str
    port : int
        Where it listens for the ingress.
    sessions : tuple of str
        Those in use, whose journals it has open.
    jobs : tuple of str
    leaving : bool
        It is being stopped.
    """

    replica: str
    host: str
    port: int
    sessions: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    leaving: bool = False


class Replica:
    """One replica as the ingress knows it.

    Attributes
    ----------
    report : Report
        The last one.
    heard : float
        When that came.
    opening : int
        Sessions that are being opened there.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.heard = time.monotonic()
        self.opening = 0
        self._placed: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._sessions: set[str] = set(report.sessions)

    @property
    def id(self) -> str:
        return self.report.replica

    @property
    def url(self) -> str:
        host = self.report.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.report.port}"

    @property
    def quiet(self) -> float:
        """Seconds since it was heard."""
        return time.monotonic() - self.heard

    @property
    def sessions(self) -> set[str]:
        """In use there, as far as is known."""
        return self._sessions | self._placed.keys()

    def has_job(self, job: str) -> bool:
        return job in self.report.jobs or job in self._started

    def hear(self, report: Report) -> None:
        """Take what it says in place of what it said before."""
        self.report, self.heard = report, time.monotonic()
        self._sessions = set(report.sessions)
        for recent in (self._placed, self._started):
            for name in [name for name, when in recent.items() if when < self.heard - _JUST_NOW]:
                del recent[name]

    def place(self, session: str) -> None:
        self._placed[session] = time.monotonic()

    def start(self, job: str) -> None:
        self._started[job] = time.monotonic()

    def forget(self, session: str) -> None:
        self._placed.pop(session, None)
        self._sessions.discard(session)


class Directory:
    """The replicas, and who has which session; belongs to one event loop.

    Parameters
    ----------
    settle, starting : float
        Seconds: for how long after the start a session may be claimed by the replica that has it, before it is given to
        one; for how long a request waits if there is no replica.
    """

    def __init__(self, settle: float = _SETTLE, starting: float = _STARTING) -> None:
        self._settled = time.monotonic() + settle
        self._starting = starting
        self._replicas: dict[str, Replica] = {}
        self._owners: dict[str, str] = {}
        self._news = asyncio.Event()

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return tuple(self._replicas.values())

    @property
    def in_use(self) -> set[str]:
        """Sessions that some replica has open."""
        return set().union(*(replica.sessions for replica in self.replicas))

    def hear(self, report: Report) -> None:
        """Take the word of a replica: what it has open is its own, whatever was thought."""
        replica = self._replicas.get(report.replica)
        if replica is None:
            if report.leaving:
                return
            self._replicas[report.replica] = replica = Replica(report)
        else:
            replica.hear(report)
        if not report.leaving:
            self._owners.update(dict.fromkeys(report.sessions, report.replica))
        self._news.set()
        self._news = asyncio.Event()

    async def of_session(self, session: str) -> Replica:
        """Who has a session; if nobody has (any more), it is given to the replica with the fewest.

        Raises
        ------
        Refusal
            "unavailable" if there is no replica.
        """
        while True:
            owner = self._replicas.get(self._owners.get(session, ""))
            if owner is not None:
                return owner
            if (wait := self._settled - time.monotonic()) > 0:
                await self._wait(wait)
                continue
            if (replica := self._least()) is not None:
                self.opened(session, replica)
                return replica
            await self.fewest()

    async def fewest(self) -> Replica:
        """Who is to have the next session; refusals as of `of_session`."""
        until = time.monotonic() + self._starting
        while (replica := self._least()) is None:
            if (wait := until - time.monotonic()) <= 0:
                raise Refusal("unavailable", "No GPU is ready yet: try again in a while.", retry_after=2)
            await self._wait(wait)
        return replica

    def opened(self, session: str, replica: Replica) -> None:
        """A session is at a replica from now on."""
        self._owners[session] = replica.id
        replica.place(session)

    def ended(self, session: str) -> None:
        """A session is gone for good."""
        owner = self._replicas.get(self._owners.pop(session, ""))
        if owner is not None:
            owner.forget(session)

    def of_job(self, job: str) -> Replica | None:
        """Who runs a job, if anybody."""
        return next((replica for replica in self.replicas if replica.has_job(job)), None)

    def lost(self, replica: Replica) -> None:
        """A replica is gone; what it had is given to others when it is asked for."""
        self._replicas.pop(replica.id, None)

    def tidy(self, exists: Callable[[str], bool]) -> None:
        """Forget sessions of which nothing is left."""
        in_use = self.in_use
        for session in [s for s, owner in self._owners.items() if s not in in_use or owner not in self._replicas]:
            if not exists(session):
                del self._owners[session]

    def _least(self) -> Replica | None:
        ready = [replica for replica in self.replicas if not replica.report.leaving]
        heard = [replica for replica in ready if replica.quiet < 2 * _JUST_NOW]
        return min(heard or ready, key=lambda replica: len(replica.sessions) + replica.opening, default=None)

    async def _wait(self, seconds: float) -> None:
        news = self._news
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), seconds)
