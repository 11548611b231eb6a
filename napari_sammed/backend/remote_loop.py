"""Calls that block, in front of work that waits on a network: an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeAlias, TypeVar

from napari_sammed.errors import Cancelled, ServerError

T = TypeVar("T")

Tell: TypeAlias = Callable[[Callable[[], None]], None]
"""Has something called on the thread of the one who waits."""

_POLL = 0.03  # s between looks at whether the one who waits still does


class Loop:
    """An event loop that others wait on; its thread is a daemon, and starts with the first work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._aside: set[asyncio.Task[Any]] = set()

    def run(
        self,
        work: Callable[[Tell], Awaitable[T]],
        cancel: threading.Event | None = None,
        stop: threading.Event | None = None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> T:
        """Have work done on the loop, and wait for it.

        Parameters
        ----------
        work : callable
            Makes the coroutine; is given what has callbacks called here, on the thread that waits.
        cancel : threading.Event, optional
            Set it to end the wait, and the work.
        stop : threading.Event, optional
            When it is set, `on_stop` is called on the loop, once.

        Raises
        ------
        Cancelled
        """
        told: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

        async def begin() -> T:
            return await work(told.put)

        if cancel is not None and cancel.is_set():
            raise Cancelled
        future = self.start(begin())
        future.add_done_callback(lambda _: told.put(None))
        stopped = False
        try:
            while True:
                try:
                    callback = told.get(timeout=_POLL if cancel is not None or stop is not None else None)
                except queue.Empty:
                    callback = lambda: None  # noqa: E731
                if callback is None:
                    return future.result()
                callback()
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                if stop is not None and stop.is_set() and not stopped:
                    stopped = True
                    self._running().call_soon_threadsafe(on_stop)
        except CancelledError:
            raise Cancelled from None
        finally:
            future.cancel()  # also after Ctrl-C, and where a callback failed; nothing if it is done

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have work done without waiting for it."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._running())
        except ServerError:
            work.close()
            raise

    def aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """On the loop: have something done for which nobody waits, whatever becomes of it."""

        async def quietly() -> None:
            with contextlib.suppress(Exception):  # a server that does not hear of it finds out by itself
                await asyncio.wait_for(work, 5)

        task = asyncio.ensure_future(quietly())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def close(self, last: Callable[[], Awaitable[None]], timeout: float = 10) -> None:
        """End all work, then the loop, after some last work."""
        with self._lock:
            loop, self._closed = self._loop, True
        if loop is None or not loop.is_running():
            return

        async def end() -> None:
            await asyncio.gather(*self._aside, return_exceptions=True)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await last()

        try:
            asyncio.run_coroutine_threadsafe(end(), loop).result(timeout)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise ServerError("The connection to the server was closed: open the image anew.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._work, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop

    @staticmethod
    def _work(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()
