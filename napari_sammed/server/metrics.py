"""What a server counts and how it stands, as Prometheus reads it.

Nothing of who asks is in it: no keys, addresses, ids or names, only routes, statuses, codes and kinds of work, of which
there are few.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from napari_sammed import __version__
from napari_sammed.backend.local import LocalBackend

if TYPE_CHECKING:
    from napari_sammed.backend.cache import ByteCache
    from napari_sammed.server.core import Core

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of what `text` gives."""

_METHODS = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PREFIX = "napari_sammed_"


class Metrics:
    """The counters of one server, in a registry of their own; any thread may count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self._requests = Counter(_PREFIX + "requests", "Requests answered.", ["method", "route", "status"], **own)
        self._came = Counter(_PREFIX + "received_bytes", "Bytes of request bodies.", **own)
        self._went = Counter(_PREFIX + "sent_bytes", "Bytes of reply bodies.", **own)
        self._refusals = Counter(_PREFIX + "refusals", "What was not done, by the protocol's codes.", ["code"], **own)
        self._waited = Histogram(
            _PREFIX + "waiting_seconds", "From a question to its turn.", ["kind"], buckets=_SECONDS, **own
        )
        self._worked = Histogram(
            _PREFIX + "computing_seconds", "From its turn to its answer.", ["kind"], buckets=_SECONDS, **own
        )
        ProcessCollector(registry=self.registry)

    def served(self, method: str, route: str, status: int, came: int, went: int) -> None:
        """A request is through, which brought and took so many bytes; the route is a template, or one word for none."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._came.inc(came)
        self._went.inc(went)

    def refused(self, code: str) -> None:
        """Something was not done."""
        self._refusals.labels(code).inc()

    def waited(self, kind: str, seconds: float) -> None:
        """Work of a kind has had its turn."""
        self._waited.labels(kind).observe(seconds)

    def worked(self, kind: str, seconds: float) -> None:
        """Work of a kind has ended, one way or another."""
        self._worked.labels(kind).observe(seconds)


class Standing(Collector):
    """How a server stands at the moment that somebody looks; belongs to its event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._images = (0, 0)
        self._device: dict[tuple[str, str], int] = {}
        core.metrics.registry.register(self)

    async def text(self) -> bytes:
        """Everything that is counted or stands, in Prometheus' text format."""
        self._images, self._device = await asyncio.to_thread(lambda: (self._core.images.kept(), _device_memory()))
        return generate_latest(self._core.metrics.registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        core = self._core
        version = GaugeMetricFamily(_PREFIX + "info", "The version of the package.", labels=["version"])
        version.add_metric([__version__], 1)
        yield version
        waiting = GaugeMetricFamily(_PREFIX + "waiting", "Questions that wait for a turn.", labels=["lane"])
        working = GaugeMetricFamily(_PREFIX + "working", "Questions that have it.", labels=["lane"])
        for lane in core.lanes:
            waiting.add_metric([lane.name], lane.waiting)
            working.add_metric([lane.name], lane.working)
        yield from (waiting, working)
        yield GaugeMetricFamily(_PREFIX + "jobs_running", "Jobs that are not through.", core.jobs.running)
        yield GaugeMetricFamily(_PREFIX + "sessions", "Sessions in use.", len(core.sessions))
        yield GaugeMetricFamily(_PREFIX + "images", "Images on the disk.", self._images[0])
        yield GaugeMetricFamily(_PREFIX + "images_bytes", "Their voxels.", self._images[1])
        yield from _caches(core)
        device = GaugeMetricFamily(
            _PREFIX + "device_memory_bytes", "Of the GPU, by torch and the driver.", labels=["device", "kind"]
        )
        for labels, size in self._device.items():
            device.add_metric(labels, size)
        yield device


def _caches(core: Core) -> Iterator[Metric]:
    caches: dict[str, ByteCache] = {"answers": core.answers.cache}
    if isinstance(core.backend, LocalBackend):
        caches["embeddings"] = core.backend.embeddings
    size = GaugeMetricFamily(_PREFIX + "cache_bytes", "Memory that is used.", labels=["cache"])
    limit = GaugeMetricFamily(_PREFIX + "cache_limit_bytes", "Memory that may be used.", labels=["cache"])
    hits = CounterMetricFamily(_PREFIX + "cache_hits", "Found there.", labels=["cache"])
    misses = CounterMetricFamily(_PREFIX + "cache_misses", "Not found there.", labels=["cache"])
    for name, cache in caches.items():
        size.add_metric([name], cache.nbytes)
        limit.add_metric([name], cache.limit)
        hits.add_metric([name], cache.hits)
        misses.add_metric([name], cache.misses)
    yield from (size, limit, hits, misses)


def _device_memory() -> dict[tuple[str, str], int]:
    """Bytes by CUDA device and kind; of devices that this process uses, so nothing is begun on others."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    found = {}
    for number in range(torch.cuda.device_count()):
        reserved = torch.cuda.memory_reserved(number)
        if reserved:
            free, total = torch.cuda.mem_get_info(number)
            allocated = torch.cuda.memory_allocated(number)
            kinds = {"allocated": allocated, "reserved": reserved, "free": free, "total": total}
            found |= {(str(number), kind): size for kind, size in kinds.items()}
    return found
