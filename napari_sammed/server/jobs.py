"""Work that takes longer than a click: what it tells is numbered, so that a listener who was cut off can go on."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine

from napari_sammed.backend.protocol import events
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.server.keys import Client
from napari_sammed.server.refusals import Refusal, not_found

_TELL_APART = 0.1  # seconds between two words of progress
_REMEMBERED = 10_000  # requests that were called off, and so are not begun when they come late


class Job:
    """Something that runs; belongs to one event loop.

    Parameters
    ----------
    client : str
        Whose.
    session : str
    request_id : str
    most : int
        Bytes of events that are kept; what is partial goes first.

    Attributes
    ----------
    id : str
        Not to be guessed.
    cancel, stop : threading.Event
        See `napari_sammed.backend.base.Backend.propagate`.
    done : bool
    """

    def __init__(self, client: str, session: str, request_id: str, most: int) -> None:
        self.id = secrets.token_hex(24)
        self.client = client
        self.session = session
        self.request_id = request_id
        self.cancel = threading.Event()
        self.stop = threading.Event()
        self.done = False
        self.heard = time.monotonic()
        self._most = most
        self._events: deque[tuple[int, str, bytes]] = deque()
        self._number = 0
        self._nbytes = 0
        self._told = 0.0
        self._listeners = 0
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, frame: Frame) -> None:
        """Add an event; on any thread."""
        if frame.header["event"] == "progress":
            now = time.monotonic()
            if now - self._told < _TELL_APART:
                return
            self._told = now
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, frame)

    async def listen(self, after: int, alive: float) -> AsyncIterator[bytes]:
        """Encoded events after a number, to the last one; an "alive" where nothing comes for so many seconds."""
        self._listeners += 1
        try:
            while True:
                news = self._news
                for number, _, data in list(self._events):
                    if number > after:
                        yield data
                        after = number
                if self.done:
                    return
                try:
                    await asyncio.wait_for(news.wait(), alive)
                except TimeoutError:
                    yield events.alive().encode()
        finally:
            self._listeners -= 1
            self.heard = time.monotonic()

    @property
    def unheard(self) -> float:
        """Seconds for which nobody has been listening."""
        return 0.0 if self._listeners else time.monotonic() - self.heard

    def end(self, frame: Frame) -> None:
        """Add the last event."""
        self._add(frame, last=True)

    def _add(self, frame: Frame, *, last: bool = False) -> None:
        if self.done:
            return
        self._number += 1
        data = events.numbered(frame, self._number).encode()
        self._events.append((self._number, frame.header["event"], data))
        self._nbytes += len(data)
        while self._nbytes > self._most and len(self._events) > 1:
            self._nbytes -= len(self._events.popleft()[2])
        self.done = last
        self._news.set()
        self._news = asyncio.Event()


class Jobs:
    """The jobs of all clients; belongs to one event loop.

    Parameters
    ----------
    unheard : float
        Seconds after which a job is cancelled that nobody listens to, and forgotten when it is done.
    most : int
        See `Job`.
    refused : callable
        Makes a refusal of what went wrong.
    """

    def __init__(self, unheard: float, most: int, refused: Callable[[BaseException], Refusal]) -> None:
        self._unheard = unheard
        self._refused = refused
        self._most = most
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._called_off: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def start(
        self, client: Client, session: str, request_id: str, work: Callable[[Job], Coroutine[None, None, Frame]]
    ) -> Job:
        """Begin a job, whose coroutine gives the last event; the same request again gives the same job.

        Raises
        ------
        Refusal
            "cancelled" if the request was called off: it may come late, and is not to be done after all.
        """
        if (client.id, session, request_id) in self._called_off:
            raise Refusal("cancelled", "This was called off before: ask again under a new request id.")
        for job in self._jobs.values():
            if (job.client, job.session, job.request_id) == (client.id, session, request_id):
                return job
        job = Job(client.id, session, request_id, self._most)

        async def run() -> None:
            try:
                job.end(await work(job))
            except asyncio.CancelledError:
                called_off()
            except Exception as error:
                job.end(events.error(self._refused(error).failure))

        def called_off(_: object = None) -> None:
            job.end(events.error(Refusal("cancelled", "The job was cancelled.").failure))

        self._jobs[job.id] = job
        self._tasks[job.id] = asyncio.create_task(run())
        self._tasks[job.id].add_done_callback(called_off)  # before it had begun; else the job has its end
        return job

    @property
    def ids(self) -> tuple[str, ...]:
        """Of those that are not forgotten."""
        return tuple(self._jobs)

    def get(self, client: Client, id: str) -> Job:
        """Refusal "not_found" for jobs that are unknown, forgotten, or somebody else's."""
        job = self._jobs.get(id)
        if job is None or job.client != client.id:
            raise not_found("job")
        return job

    @property
    def running(self) -> int:
        """How many are not through."""
        return sum(not job.done for job in self._jobs.values())

    def cancel(self, job: Job) -> None:
        """End a job at once."""
        job.cancel.set()
        self._tasks[job.id].cancel()
        if not job.done:
            self._called_off[job.client, job.session, job.request_id] = None
            while len(self._called_off) > _REMEMBERED:
                self._called_off.popitem(last=False)

    def sweep(self) -> None:
        """Cancel and forget what nobody listens to."""
        for job in list(self._jobs.values()):
            if job.unheard > self._unheard:
                if job.done:
                    del self._jobs[job.id], self._tasks[job.id]
                else:
                    self.cancel(job)
                    job.heard = time.monotonic()

    async def close(self) -> None:
        """Cancel all jobs, and wait until they have said so."""
        for job in list(self._jobs.values()):
            self.cancel(job)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
