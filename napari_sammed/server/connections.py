"""Connections that are open but ask nothing: bounded in number and in time, so that real clients get through."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Waiting:
    """The connections of a server, and which of them have no request under way.

    Parameters
    ----------
    most : int
        Connections open at once; for a further one, the one that waits longest is closed, of those first that have
        never asked anything.
    silence : float
        Seconds after which a connection is closed that has not brought a whole request head.
    """

    def __init__(self, most: int, silence: float) -> None:
        self.most = most
        self.silence = silence
        self.open: set[PatientProtocol] = set()
        self.silent: dict[PatientProtocol, None] = {}  # ordered; have never asked anything
        self.idle: dict[PatientProtocol, None] = {}  # ordered; the others without a request under way

    def longest(self) -> PatientProtocol | None:
        """Whoever is closed first; None if all are at work."""
        return next(iter(self.silent or self.idle), None)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose patience with clients ends; made by `patient`."""

    waiting: Waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._idle = self.waiting.silent
        waiting = self.waiting
        if len(waiting.open) >= waiting.most:
            longest = waiting.longest() or self
            longest.leave()
            if longest is self:
                return
        waiting.open.add(self)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._at_work():
            self._stop_waiting()
            self._idle = self.waiting.idle
        elif self not in self._idle:
            self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self._at_work():
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.waiting.open.discard(self)
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close the connection at once."""
        self._stop_waiting()
        self.waiting.open.discard(self)
        self.transport.abort()

    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        self._stop_waiting()
        self._idle[self] = None
        self._deadline = self.loop.call_later(self.waiting.silence, self.leave)

    def _stop_waiting(self) -> None:
        self._idle.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def patient(most: int, silence: float) -> type[PatientProtocol]:
    """The protocol for one server; parameters as of `Waiting`."""
    return type("Patient", (PatientProtocol,), {"waiting": Waiting(most, silence)})
