"""A queue in which the latest request wins.

Somebody who clicks faster than a network answers wants the answer to the last click, which knows of all the earlier
ones, not each intermediate mask in turn.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from napari_sammed.errors import InputError

T = TypeVar("T")


@dataclass(eq=False)
class _Request:
    key: Hashable
    work: Callable[[threading.Event], Any]
    stop: threading.Event | None = None
    future: Future[Any] = field(default_factory=Future)
    cancel: threading.Event = field(default_factory=threading.Event)

    def drop(self) -> None:
        self.cancel.set()
        if self.future.cancel():
            self.future.set_running_or_notify_cancel()  # else `concurrent.futures.wait` waits for it for ever


class LatestWins:
    """Does work beside the caller, piece by piece, in order; the newest of a key supersedes the others.

    Work gets an event that is set when its result is no longer wanted. Requests that were dropped before their turn
    end as cancelled futures; running ones end as they like (usually with `napari_sammed.errors.Cancelled`).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._wake = threading.Condition()
        self._waiting: OrderedDict[Hashable, _Request] = OrderedDict()
        self._running: _Request | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        with self._wake:
            return bool(self._waiting) or self._running is not None

    @property
    def pending(self) -> list[Future[Any]]:
        """What waits and what runs now."""
        with self._wake:
            running = [] if self._running is None else [self._running]
            return [request.future for request in (*running, *self._waiting.values())]

    def submit(
        self, key: Hashable, work: Callable[[threading.Event], T], stop: threading.Event | None = None
    ) -> Future[T]:
        """Queue work; what waits or runs under the same key is superseded.

        Work that has something to show for itself when it ends early watches `stop`, which `stop_all` sets.
        """
        request = _Request(key, work, stop)
        with self._wake:
            if self._closed:
                raise InputError("The session is closed.")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread  # only now: Ctrl-C may come in between, and `close` waits for what has started
            superseded = [self._waiting.pop(key, None), self._running if self._is_running(key) else None]
            self._waiting[key] = request
            self._wake.notify_all()
        for older in superseded:
            if older is not None:
                older.drop()
        return request.future

    def cancel(self, key: Hashable = None) -> None:
        """Drop what waits or runs under a key; None drops everything."""
        with self._wake:
            keys = list(self._waiting) if key is None else [key]
            dropped = [self._waiting.pop(k) for k in keys if k in self._waiting]
            if self._running is not None and (key is None or self._is_running(key)):
                dropped.append(self._running)
        for request in dropped:
            request.drop()

    def stop_all(self) -> None:
        """Drop what waits, and what runs unless it can end early with what it has."""
        with self._wake:
            dropped = [self._waiting.pop(key) for key in list(self._waiting)]
            if self._running is not None:
                if self._running.stop is None:
                    dropped.append(self._running)
                else:
                    self._running.stop.set()
        for request in dropped:
            request.drop()

    def close(self) -> None:
        """Drop everything, or have it end early, and end the thread."""
        self.stop_all()
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _is_running(self, key: Hashable) -> bool:
        return self._running is not None and self._running.key == key

    def _run(self) -> None:
        while (request := self._next()) is not None:
            try:
                result = request.work(request.cancel)
            except BaseException as error:
                self._finish()
                request.future.set_exception(error)
            else:
                self._finish()
                request.future.set_result(result)

    def _next(self) -> _Request | None:
        with self._wake:
            while True:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return None
                _, request = self._waiting.popitem(last=False)
                if request.future.set_running_or_notify_cancel():
                    self._running = request
                    return request

    def _finish(self) -> None:
        with self._wake:
            self._running = None
