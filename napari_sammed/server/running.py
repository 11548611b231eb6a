"""A server process from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import uvicorn
from filelock import FileLock, Timeout

from napari_sammed.errors import InputError
from napari_sammed.server.app import create_app
from napari_sammed.server.core import Core
from napari_sammed.server.keys import KeyRing, add_key
from napari_sammed.server.listening import PatientServer, listen
from napari_sammed.server.settings import Settings

_FAREWELL = 10  # seconds that answers under way may take when the server is stopped
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SWITCH = 5e-4
"""Seconds after which a thread that computes lets those go on that talk to clients. With Python's own 5 ms, each of
the ten or so steps of a reply waits as long beside a busy model: a flood made others' clicks seven times slower."""


@dataclass(frozen=True)
class Started:
    """What an operator should know of a server that has started.

    Parameters
    ----------
    settings : Settings
        With the port that it listens at.
    new_key : str or None
        The key that was made because there was none; it is not shown again.
    models : tuple of str
        That can answer.
    """

    settings: Settings
    new_key: str | None
    models: tuple[str, ...]


def serve(settings: Settings, started: Callable[[Started], None]) -> int:
    """Run a server until it is told to end (SIGTERM, SIGINT).

    Parameters
    ----------
    settings : Settings
    started : callable
        Called once it listens.

    Returns
    -------
    int
        Exit status: 0, or 1 if it ended because its GPU does not answer any more.

    Raises
    ------
    InputError
        For settings that are not safe, a port that is taken, a data folder that cannot be used.
    """
    settings.check()
    with data_folder(settings), socket_of(settings) as listening:
        settings = replace(settings, port=listening.getsockname()[1])
        new_key, keys = None, None
        if settings.keys is not None:
            if not settings.keys.exists():
                new_key = add_key(settings.keys, "first")
            keys = KeyRing(settings.keys)
        log_to_stderr()
        sys.setswitchinterval(SWITCH)
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # `PatientServer` needs that one
            return runner.run(_serve(settings, keys, new_key, listening, started))


async def _serve(
    settings: Settings,
    keys: KeyRing | None,
    new_key: str | None,
    listening: socket.socket,
    started: Callable[[Started], None],
) -> int:
    core = Core(settings)
    models = tuple(await core.models())
    config = configuration(core, keys)
    await CoreServer(config, core, lambda: started(Started(settings, new_key, models))).serve([listening])
    return 1 if core.failed.is_set() else 0


def configuration(core: Core, keys: KeyRing | None) -> uvicorn.Config:
    """How uvicorn is to serve a core; errors as of `listening_as`."""
    return listening_as(core.settings, create_app(core, keys))


def listening_as(settings: Settings, app: Callable[..., Any]) -> uvicorn.Config:
    """How uvicorn is to serve an application to clients.

    Raises
    ------
    InputError
        For a certificate that cannot be used.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.names),  # then somebody on this machine passes requests on
        h11_max_incomplete_event_size=settings.limits.headers,
        timeout_keep_alive=int(settings.limits.silence) + 60,  # `PatientServer` sees to that
        timeout_graceful_shutdown=_FAREWELL,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        loop="asyncio",
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"The certificate {settings.tls_cert} or its key cannot be used: {error}.") from None
    return config


class CoreServer(PatientServer):
    """Ends in order at SIGTERM and SIGINT: nothing new, answers under way are sent, streams say that they end."""

    def __init__(self, config: uvicorn.Config, core: Core, started: Callable[[], None]) -> None:
        super().__init__(config, core.settings.limits)
        self._core = core
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._core.failed.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._core.stopping.set()
        await self._core.jobs.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._end) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # at the second time
        self.should_exit = True


def log_to_stderr() -> None:
    """Write what the server logs to stderr, with the time; of uvicorn nothing, whose lines name addresses in full."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("napari_sammed.server")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for other in ("uvicorn", "asyncio"):
        logging.getLogger(other).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def data_folder(settings: Settings) -> Iterator[None]:
    """The folder for images and journals, made if absent, which one server uses at a time."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(settings.data / "lock", timeout=0)
        with lock:
            yield
    except Timeout:
        raise InputError(f"Another server uses the folder {settings.data}: choose another one with --data.") from None
    except PermissionError as error:
        raise InputError(f"The folder {settings.data} cannot be used: {error.strerror}.") from None


@contextlib.contextmanager
def socket_of(settings: Settings) -> Iterator[socket.socket]:
    """Where a server listens; InputError if that cannot be."""
    try:
        listening = listen(settings.host, settings.port)
    except OSError as error:
        raise InputError(
            f"The server cannot listen at {settings.host}, port {settings.port}: {error.strerror or error}."
        ) from None
    with listening:
        yield listening
