"""What may be asked about soon: parts of images that are encoded when there is nothing better to do, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

MOST = 4096
"""Parts of images that wait, of a session; a further one takes the place of the oldest, which is left behind."""


class Hints:
    """The hints of all sessions; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Future[None]]] = {}

    def add(self, session: str, parts: Sequence[Future[None]]) -> None:
        """Keep what the backend has been told, so that it can be taken back."""
        waiting = deque(future for future in self._waiting.get(session, ()) if not future.done())
        waiting.extend(parts)
        while len(waiting) > MOST:
            waiting.popleft().cancel()
        self._waiting[session] = waiting

    def forget(self, session: str) -> None:
        """Take back what waits of a session that has ended."""
        for future in self._waiting.pop(session, ()):
            future.cancel()


async def ready(parts: Sequence[Future[None]]) -> None:
    """Wait until parts are encoded, or given up; if the task is cancelled, they are taken back as far as they wait."""
    try:
        await asyncio.wait([asyncio.wrap_future(part) for part in parts])
    except asyncio.CancelledError:
        for part in parts:
            part.cancel()
        raise
