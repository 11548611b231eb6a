"""Connections that are open but ask nothing: bounded in number and in time, so that real clients get through."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol

_SWEEP = 0.1  # seconds between two looks at who has waited too long, at least


class Connection(Protocol):
    """Of a client."""

    def leave(self) -> None:
        """Close it at once."""


class Waiting:
    """The connections of a server, and which of them have no request under way.

    Parameters
    ----------
    most : int
        Connections open at once; for a further one, the one that waits longest is closed, of those first that have
        never asked anything.
    silence : float
        Seconds after which a connection is closed that has said nothing, or that has not brought a whole request head
        since its first byte or the last reply.
    """

    def __init__(self, most: int, silence: float) -> None:
        self.most = most
        self.silence = silence
        self.open: set[Connection] = set()
        self.silent: dict[Connection, float] = {}  # since when, ordered; have never asked anything
        self.idle: dict[Connection, float] = {}  # the same of the others without a request under way
        self._sweeping: asyncio.TimerHandle | None = None  # one timer for all, since most are in vain

    def enter(self, newcomer: Connection) -> None:
        """Count a connection that has not asked anything yet; if there is no room, somebody leaves."""
        if len(self.open) >= self.most:
            longest = self.longest() or newcomer
            longest.leave()
            if longest is newcomer:
                return
        self.open.add(newcomer)
        self.wait(newcomer, self.silent)

    def longest(self) -> Connection | None:
        """Whoever is closed first; None if all are at work."""
        return next(iter(self.silent or self.idle), None)

    def wait(self, connection: Connection, among: dict[Connection, float]) -> None:
        """Begin to wait for a request."""
        loop = asyncio.get_running_loop()
        self.wait_no_more(connection)
        among[connection] = loop.time()
        if self._sweeping is None:
            self._sweeping = loop.call_later(self.silence, self._sweep)

    def wait_no_more(self, connection: Connection) -> None:
        """Note that a connection has a request under way."""
        self.silent.pop(connection, None)
        self.idle.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Count a connection no more."""
        self.wait_no_more(connection)
        self.open.discard(connection)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        first = []
        for among in (self.silent, self.idle):
            while among and next(iter(among.values())) + self.silence <= now:
                next(iter(among)).leave()
            first += list(among.values())[:1]
        self._sweeping = loop.call_at(max(min(first) + self.silence, now + _SWEEP), self._sweep) if first else None


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose patience with clients ends.

    Parameters
    ----------
    waiting : Waiting
    caller : Connection
        What the connection has been until now, among those that wait.
    **others
        As uvicorn makes its protocols.
    """

    def __init__(self, waiting: Waiting, caller: Connection, **others: Any) -> None:
        super().__init__(**others)
        self._waiting = waiting
        self._caller = caller
        self._among = waiting.silent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._caller not in self._waiting.open:
            transport.abort()
            return
        self._waiting.forget(self._caller)
        self._waiting.open.add(self)
        self._waiting.wait(self, self._among)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._at_work():
            self._waiting.wait_no_more(self)
            self._among = self._waiting.idle
        elif self not in self._among:
            self._waiting.wait(self, self._among)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self._at_work():
            self._waiting.wait(self, self._among)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.forget(self)
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close the connection at once."""
        self._waiting.forget(self)
        self.transport.abort()

    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete
