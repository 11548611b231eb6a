"""A network that fails: a relay to a server, whose connections break when a test wants it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit


class Line:
    """Passes bytes on between a client and a server.

    Parameters
    ----------
    server : str
        Its address.

    Attributes
    ----------
    url : str
        Of the relay.
    server : str
        Where it leads.
    sent : int
        Bytes that went to the server.
    breaks : callable
        Asked for each piece of the server's replies whether the connection breaks there, the piece lost.
    broken : int
        Connections that broke in this way.
    open : bool
        Whether connections are taken.
    delay : float
        Seconds that each 64 KiB take on their way to the server.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self.sent = 0
        self.broken = 0
        self.open = True
        self.delay = 0.0
        self.breaks: Callable[[bytes], bool] = lambda piece: False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._ends.clear()

    def close(self) -> None:
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            if not self.open:
                return
            parts = urlsplit(self.server)
            with socket.create_connection((parts.hostname, parts.port)) as far:
                self._ends |= {near, far}
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                self._pass(far, near, False)

    def _pass(self, source: socket.socket, target: socket.socket, there: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if there:
                    time.sleep(self.delay)
                    self.sent += len(piece)
                elif self.breaks(piece):
                    self.broken += 1
                    break
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self._ends.discard(end)


@contextlib.contextmanager
def line(server: str) -> Iterator[Line]:
    """A relay that ends with the block."""
    relay = Line(server)
    try:
        yield relay
    finally:
        relay.close()


def now_and_then(share: float, seed: int = 0) -> Callable[[bytes], bool]:
    """Breaks at so many of the pieces."""
    lot = random.Random(seed)
    return lambda piece: lot.random() < share
