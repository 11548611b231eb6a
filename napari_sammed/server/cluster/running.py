"""A server on a cluster from start to end, as the command runs it."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_sammed.cluster import joined
from napari_sammed.errors import InputError
from napari_sammed.server.keys import KeyRing, add_key
from napari_sammed.server.running import Started, data_folder, socket_of
from napari_sammed.server.settings import Settings

if TYPE_CHECKING:
    from napari_sammed.server.cluster.application import Scale
    from napari_sammed.server.cluster.worker import MakeBackend

_FIRST = 60  # seconds for the first word of a replica
_LOOK = 5.0  # seconds between two looks at the cluster
_LOST = 3  # looks in a row that may fail


def serve_on_cluster(
    settings: Settings,
    address: str | None,
    started: Callable[[Started], None],
    *,
    low: int | None = None,
    high: int | None = None,
    gpus: float | None = None,
    sessions: int | None = None,
    backend: MakeBackend | None = None,
) -> int:
    """Run a server on a Ray cluster until this process is told to end (SIGTERM, SIGINT).

    Parameters
    ----------
    settings : Settings
    address : str or None
        See `napari_sammed.cluster.joined`.
    started : callable
        Called once it listens, at this machine.
    low, high : int, optional
        Replicas, at least and at most. Default: one for each GPU, or one.
    gpus : float, optional
        Of each replica. Default: 1 if there are any, else 0.
    sessions : int, optional
        See `napari_sammed.server.cluster.application.Scale`.
    backend : callable, optional
        See `napari_sammed.server.cluster.worker.Worker`.

    Returns
    -------
    int
        Exit status: 0, or 1 if the cluster is gone.

    Raises
    ------
    InputError
    """
    settings.check()
    with data_folder(settings), socket_of(settings) as listening:  # told here, as on the cluster nobody would see it
        settings = replace(settings, port=listening.getsockname()[1])  # the same for an ingress that is started anew
        new_key = None
        if settings.keys is not None:
            if not settings.keys.exists():
                new_key = add_key(settings.keys, "first")
            KeyRing(settings.keys)
    with joined(address):
        import ray
        from ray import serve
        from ray.serve.exceptions import RayServeException
        from ray.serve.schema import LoggingConfig

        from napari_sammed.server.cluster.application import NAME, WORKER, application

        for name in ("ray", "ray.serve"):
            logging.getLogger(name).setLevel(logging.WARNING)
        scale = _scale(ray.cluster_resources(), low, high, gpus, sessions)
        app = application(settings, replace(scale, ingress=f"node:{ray.util.get_node_ip_address()}"), backend)
        try:
            try:
                serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING"))
                handle = serve.run(app, name=NAME, route_prefix=None)
                handle.port.remote().result(timeout_s=_FIRST)
                models = serve.get_deployment_handle(WORKER, NAME).models.remote().result(timeout_s=_FIRST)
            except (RuntimeError, TimeoutError, RayServeException) as error:
                raise InputError(f"The server does not start on the cluster: {error}") from None
            started(Started(settings, new_key, models))
            return _wait(lambda: ray.cluster_resources())
        finally:
            with contextlib.suppress(Exception):  # of a cluster that is gone
                serve.shutdown() if address is None else serve.delete(NAME)


def _scale(
    there: dict[str, float], low: int | None, high: int | None, gpus: float | None, sessions: int | None
) -> Scale:
    """How much of a cluster the server takes, of which so much is there."""
    from napari_sammed.server.cluster.application import Scale

    all_gpus, all_cpus = there.get("GPU", 0.0), there.get("CPU", 0.0)
    each = gpus if gpus is not None else float(all_gpus > 0)
    if low is None:
        low = max(1, int(all_gpus / each)) if each and high is None else 1
    high = high or low
    if each * low > all_gpus:
        raise InputError(
            f"The cluster has {all_gpus:g} GPUs, not {each * low:g} for {low} replicas: ask for fewer, or for a part "
            "of a GPU for each (--gpus-per-replica)."
        )
    if all_cpus <= 0:
        raise InputError("The cluster has no CPU to give away.")
    cpus = min(1.0, int(all_cpus / high * 1000) / 1000)
    scale = Scale(low, high, each, max(cpus, 0.001), threads=max(1, int(all_cpus / low)))
    return scale if sessions is None else replace(scale, sessions=sessions)


def _wait(look: Callable[[], object]) -> int:
    """Wait for a signal, or until the cluster cannot be seen any more; the exit status."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        failed = 0
        while not told.wait(_LOOK):
            try:
                look()
                failed = 0
            except Exception:
                failed += 1
            if failed == _LOST:
                return 1
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
