"""A replica: a plain server behind the inner door, with a GPU of its own if there are any, which Ray Serve watches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import ray
import uvicorn
from ray import serve

from napari_sammed.backend.base import Backend
from napari_sammed.server.app import routes
from napari_sammed.server.cluster import share
from napari_sammed.server.cluster.directory import Report
from napari_sammed.server.cluster.door import Door
from napari_sammed.server.cluster.health import Pulse
from napari_sammed.server.connections import Waiting
from napari_sammed.server.core import Core
from napari_sammed.server.listening import listen
from napari_sammed.server.running import SWITCH, CoreServer, log_to_stderr
from napari_sammed.server.settings import Settings

INGRESS = "ingress"
"""Name of the deployment that replicas report to."""

MakeBackend: TypeAlias = Callable[[Settings], Backend]

_log = logging.getLogger(__name__)
_TELL = 1.0  # seconds between two reports
_KEEP_ALIVE = 3600  # seconds, since the ingress never leaves for good
_LINES = 4  # of the ingress for each of its clients' connections, which have one request at a time
_FAREWELL = 10  # seconds that answers under way may take


class Worker:
    """One replica; made by Ray Serve.

    Parameters
    ----------
    settings : Settings
        As the ingress has them; keys, names and TLS are the ingress's business.
    backend : callable, optional
        Makes the backend of a replica, on its machine. Default: as the settings say.
    """

    async def __init__(self, settings: Settings, backend: MakeBackend | None = None) -> None:
        log_to_stderr()
        sys.setswitchinterval(SWITCH)
        secret = share.secret(settings.data)
        context = serve.get_replica_context()
        self._id = context.replica_tag
        self._ingress = serve.get_deployment_handle(INGRESS, context.app_name)
        self._core = Core(settings, None if backend is None else backend(settings), shared=True)
        self._pulse = Pulse(_device(settings))
        host = ray.util.get_node_ip_address()
        listening = listen(host, 0)
        self._place = (host, listening.getsockname()[1])
        config = uvicorn.Config(
            Door(routes(self._core), secret),
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_FAREWELL,
            h11_max_incomplete_event_size=settings.limits.headers + 4096,
        )
        ready = asyncio.Event()
        self._server = _Server(config, self._core, ready.set)
        self._serving = asyncio.create_task(self._server.serve([listening]))
        await started(ready, self._serving)
        self._telling = asyncio.create_task(self._tell())

    async def check_health(self) -> None:
        """Asked by Ray Serve, which ends and replaces a replica that raises here, or does not answer."""
        if self._core.failed.is_set() or self._serving.done():
            raise RuntimeError("The GPU does not answer any more.")
        await self._pulse.take()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray Serve, for `napari_sammed.server.cluster.scaling`."""
        return {"sessions": float(len(self._core.sessions))}

    async def models(self) -> tuple[str, ...]:
        """That can answer."""
        return tuple(await self._core.models())

    async def __del__(self) -> None:
        """Called by Ray Serve when the replica is to end: answers under way are sent, journals closed."""
        if not hasattr(self, "_telling"):
            return
        self._telling.cancel()
        self._server.should_exit = True
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._report(leaving=True), 1)  # unless the ingress is gone already
        await asyncio.wait({self._serving}, timeout=_FAREWELL + 5)

    async def _tell(self) -> None:
        while not self._serving.done():
            try:
                await asyncio.wait_for(self._report(), 10)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # the ingress is being started anew
                _log.warning("The ingress does not answer: %s", type(error).__name__)
            await asyncio.sleep(_TELL)

    async def _report(self, *, leaving: bool = False) -> None:
        core = self._core
        leaving = leaving or core.failed.is_set() or core.stopping.is_set()
        report = Report(self._id, *self._place, core.sessions.ids, core.jobs.ids, leaving)
        await self._ingress.hear.remote(report)


class _Server(CoreServer):
    """As a plain server's, but that signals are Ray's, and that the only client may be silent for long."""

    def __init__(self, config: uvicorn.Config, core: Core, started: Callable[[], None]) -> None:
        super().__init__(config, core, started)
        self.waiting = Waiting(_LINES * core.settings.limits.connections, _KEEP_ALIVE)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def started(ready: asyncio.Event, serving: asyncio.Task[None]) -> None:
    """Wait until a server listens; what it raises, if it does not come to that."""
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        waiting.cancel()
        await serving
        raise RuntimeError("The server has not started.")


def _device(settings: Settings) -> str:
    """Where a replica computes, without asking torch where there is no GPU for it."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if ray.get_gpu_ids() else "cpu"
