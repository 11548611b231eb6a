"""The one thread that owns models and device: it loads, warms up and predicts.

GPU libraries keep plan caches per thread, so a network that is called from changing threads is slow again and again;
and a device that only one thread uses needs no locks. Work comes with a priority: clicks go before the slices of a
propagation, and those before embeddings computed ahead.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import TypeVar

from napari_sammed.errors import Cancelled

T = TypeVar("T")


class Priority(IntEnum):
    """What goes first on the inference thread; smaller is sooner."""

    CLICK = 0
    STEP = 1  # one slice or window of a long job
    AHEAD = 2  # an embedding that somebody may want soon
    STOP = 3


class InferenceThread:
    """Runs functions one at a time on one long-lived thread, by priority, first come first served within one."""

    def __init__(self, name: str = "napari-sammed-inference") -> None:
        self._queue: queue.PriorityQueue[tuple[Priority, int, Callable[[], None]]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], T], priority: Priority, cancel: threading.Event | None = None) -> Future[T]:
        """Queue a function; its future raises `Cancelled` if `cancel` is set before the turn comes."""
        future: Future[T] = Future()

        def task() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._queue.put((priority, next(self._count), task))
        return future

    def run(self, function: Callable[[], T], priority: Priority, cancel: threading.Event | None = None) -> T:
        """Submit and wait; on the inference thread itself, simply call."""
        if threading.current_thread() is self._thread:
            return function()
        return self.submit(function, priority, cancel).result()

    def let_pass(self, than: Priority) -> None:
        """Run what is queued with a higher priority than this; for long work on this thread, between its steps."""
        while (task := self._more_urgent(than)) is not None:
            task()

    def _more_urgent(self, than: Priority) -> Callable[[], None] | None:
        with self._queue.mutex:
            if not self._queue.queue or self._queue.queue[0][0] >= than:
                return None
        return self._queue.get_nowait()[2]  # nobody else takes from the queue

    def stop(self, timeout: float | None = 10) -> None:
        """Finish what is queued and end the thread."""
        self.submit(self._stopped.set, Priority.STOP)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped.is_set():
            _, _, task = self._queue.get()
            task()
            del task  # while nothing comes, nothing is kept of who asked last
