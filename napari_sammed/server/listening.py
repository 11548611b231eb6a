"""Where connections wait until they say something, at next to no cost; only then are they HTTP's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

import uvicorn

from napari_sammed.server.connections import Connection, PatientProtocol, Waiting
from napari_sammed.server.settings import Limits

_QUEUE = 1024  # connections that the system keeps until they are taken in
_AT_A_TIME = 8  # connections that are taken in between two looks at what others ask
_PAUSE = 0.02  # seconds in which none is taken in where the system has no room for more
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class PatientServer(uvicorn.Server):
    """One that silent clients cost next to nothing.

    Parameters
    ----------
    config : uvicorn.Config
    limits : Limits

    Attributes
    ----------
    waiting : Waiting
    """

    def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
        super().__init__(config)
        self.waiting = Waiting(limits.connections, limits.silence)
        self._listeners: list[Listener] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._listeners = [Listener(each, self.waiting, self._protocol, self.config.ssl) for each in sockets or ()]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self._listeners:
            listener.close()
        await super().shutdown(sockets)

    def _protocol(self, caller: Connection) -> PatientProtocol:
        state = {"server_state": self.server_state, "app_state": self.lifespan.state}
        return PatientProtocol(self.waiting, caller, config=self.config, **state)


class Listener:
    """Takes in connections, and makes those HTTP's that say something.

    Until then, one is a socket that the event loop watches. As HTTP's it would be a task, a transport, a parser and a
    timer, and a thousand that come at once would hold up everybody.

    Parameters
    ----------
    listening : socket.socket
    waiting : Waiting
        Where connections are counted.
    protocol : callable
        Makes the protocol for what has been the given connection until then.
    tls : ssl.SSLContext or None
    """

    def __init__(
        self,
        listening: socket.socket,
        waiting: Waiting,
        protocol: Callable[[Connection], asyncio.Protocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listening = listening
        self._waiting = waiting
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._entering: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take in nobody any more; who has asked nothing has to leave."""
        self._loop.remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()
        for silent in list(self._waiting.silent):
            silent.leave()

    def _listen(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for taken in range(_AT_A_TIME):
            try:
                line, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                if not taken:  # else it is said even if nobody is waiting any more
                    self._make_room()
                return
            line.setblocking(False)
            caller = _Caller(line, self)
            self._loop.add_reader(line.fileno(), self._heard, caller)  # four times as fast as with the socket itself
            self._waiting.enter(caller)

    def _make_room(self) -> None:
        if longest := self._waiting.longest():
            longest.leave()
        self._loop.remove_reader(self._listening)  # which would call again and again
        self._pause = self._loop.call_later(_PAUSE, self._listen)

    def _heard(self, caller: _Caller) -> None:
        try:
            said = caller.line.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said = b""
        if not said:
            caller.leave()
            return
        self._loop.remove_reader(caller.line.fileno())
        caller.enters = True
        self._waiting.wait(caller, self._waiting.silent)  # anew: for TLS, and a whole request
        task = self._loop.create_task(self._let_in(caller))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _let_in(self, caller: _Caller) -> None:
        line = caller.line
        try:
            # asyncio does this for sockets that say they are of TCP, which accepted ones do not. Without, the second
            # piece of a reply waits until the first has been acknowledged: 40 ms for each.
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(lambda: self._protocol(caller), line, ssl=self._tls)
        except OSError:  # the client has left, or does not know TLS
            line.close()
        finally:
            self._waiting.forget(caller)

    def leaves(self, caller: _Caller) -> None:
        """Close a connection that is not HTTP's yet."""
        self._waiting.forget(caller)
        if caller.enters:
            with contextlib.suppress(OSError):
                caller.line.shutdown(socket.SHUT_RDWR)  # whoever has it now sees that and closes it
        else:
            self._loop.remove_reader(caller.line.fileno())
            caller.line.close()


class _Caller:
    """A connection that is not HTTP's yet."""

    __slots__ = ("_listener", "enters", "line")

    def __init__(self, line: socket.socket, listener: Listener) -> None:
        self.line = line
        self.enters = False
        self._listener = listener

    def leave(self) -> None:
        self._listener.leaves(self)


def listen(host: str, port: int) -> socket.socket:
    """A socket at which `PatientServer` can listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_QUEUE)
