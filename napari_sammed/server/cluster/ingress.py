"""The ingress: what clients talk to. Keys, hosts and limits are checked here, images taken in, all else passed on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import uvicorn
from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from napari_sammed.server.app import add_images, new_app
from napari_sammed.server.cluster import share
from napari_sammed.server.cluster.directory import Directory, Report
from napari_sammed.server.cluster.forwarding import Forwarder
from napari_sammed.server.cluster.passing import add_passing
from napari_sammed.server.cluster.worker import started
from napari_sammed.server.guard import Guard
from napari_sammed.server.images import ImageStore
from napari_sammed.server.keys import KeyRing
from napari_sammed.server.listening import PatientServer
from napari_sammed.server.metrics import Metrics
from napari_sammed.server.refusals import Refusal, noted
from napari_sammed.server.running import data_folder, listening_as, log_to_stderr, socket_of
from napari_sammed.server.sessions import sweep_journals
from napari_sammed.server.settings import Limits, Settings

_ROUND = 2.0  # seconds between two looks at replicas that say nothing
_SWEEP = 3600.0  # seconds between two looks at old images and journals
_QUIET = 4.0  # seconds without a report after which a replica is looked at


class Ingress:
    """The door of the cluster; made by Ray Serve, once.

    Parameters
    ----------
    settings : Settings
    replicas : DeploymentHandle
        So that Serve starts them, too; they report by themselves.
    """

    async def __init__(self, settings: Settings, replicas: DeploymentHandle) -> None:
        log_to_stderr()
        limits = settings.limits
        self._end = contextlib.ExitStack()
        self._end.enter_context(data_folder(settings))
        listening = self._end.enter_context(socket_of(settings))
        self._settings = settings = replace(settings, port=listening.getsockname()[1])
        keys = None if settings.keys is None else KeyRing(settings.keys)
        self.metrics = Metrics()
        self.images = ImageStore(settings.data / "images", limits.image, limits.disk, limits.keep, shared=True)
        self.directory = Directory()
        self.forwarder = Forwarder(self.directory, share.secret(settings.data))
        app = new_app(self._lifespan, self.refused, None)
        add_images(app, self.images)
        add_passing(app, self.directory, self.forwarder, self.metrics)
        guard = Guard(app, settings, keys, self.refused, self.metrics.served)
        ready = asyncio.Event()
        self._server = _Server(listening_as(settings, guard), limits, ready)
        self._serving = asyncio.create_task(self._server.serve([listening]))
        await started(ready, self._serving)

    async def hear(self, report: Report) -> None:
        """Called by replicas, every second."""
        self.directory.hear(report)

    async def port(self) -> int:
        """Where it listens."""
        return self._settings.port

    async def check_health(self) -> None:
        """Asked by Ray Serve, which ends and replaces an ingress that raises here, or does not answer."""
        if self._serving.done():
            raise RuntimeError("The ingress does not listen any more.")

    async def __del__(self) -> None:
        """Called by Ray Serve when the ingress is to end: answers under way are sent."""
        if hasattr(self, "_serving"):
            self._server.should_exit = True
            await asyncio.wait({self._serving}, timeout=15)
        if hasattr(self, "_end"):
            self._end.close()

    def refused(self, error: BaseException) -> Refusal:
        """What to tell a client of an exception; a defect is written to the log."""
        refusal = noted(error)
        self.metrics.refused(refusal.failure.code)
        return refusal

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        rounds = asyncio.create_task(self._look_after())
        yield
        rounds.cancel()
        await self.forwarder.close()

    async def _look_after(self) -> None:
        swept = -_SWEEP
        while True:
            try:
                for silent in [replica for replica in self.directory.replicas if replica.quiet > _QUIET]:
                    if await self.forwarder.is_gone(silent):
                        self.directory.lost(silent)
                if time.monotonic() - swept > _SWEEP:
                    swept = time.monotonic()
                    await self._sweep()
            except Exception as error:
                self.refused(error)
            await asyncio.sleep(_ROUND)

    async def _sweep(self) -> None:
        folder, in_use = self._settings.data / "sessions", self.directory.in_use
        await asyncio.to_thread(self.images.sweep)
        await asyncio.to_thread(sweep_journals, folder, self._settings.limits.keep, in_use)
        there = {path.stem for path in await asyncio.to_thread(lambda: list(folder.glob("*.jsonl")))}
        self.directory.tidy(there.__contains__)


class _Server(PatientServer):
    """Says when it listens; signals are Ray's."""

    def __init__(self, config: uvicorn.Config, limits: Limits, ready: asyncio.Event) -> None:
        super().__init__(config, limits)
        self._ready = ready

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self._ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
