"""Replies that may take a while: one frame if it comes soon, else a stream that says so until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from napari_sammed.backend.protocol import FRAMES, events
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.server.lanes import outcome
from napari_sammed.server.refusals import Refusal

SOON = 1.0
"""Seconds within which an answer or an error is an ordinary reply."""
ALIVE = 5.0
"""Seconds of silence after which a stream says that it still is alive."""


async def reply(
    request: Request,
    task: asyncio.Task[Frame],
    told: asyncio.Queue[Frame],
    refused: Callable[[BaseException], Refusal],
) -> Response:
    """What a task gives, as a reply; the task is cancelled when the client leaves.

    Parameters
    ----------
    request : Request
        Its body has been read.
    task : asyncio.Task
        Gives the last event.
    told : asyncio.Queue
        Events before it.
    refused : callable
        Makes a refusal of an exception.
    """
    left = asyncio.create_task(has_left(request))
    try:
        await asyncio.wait({task, left}, timeout=SOON, return_when=asyncio.FIRST_COMPLETED)
        if left.done() and not task.done():
            task.cancel()
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        left.cancel()
    if left.done() or task.done():
        return Response(await asyncio.to_thread((await outcome(task)).encode), media_type=FRAMES)
    return StreamingResponse(_stream(task, told, refused), media_type=FRAMES)


async def _stream(
    task: asyncio.Task[Frame], told: asyncio.Queue[Frame], refused: Callable[[BaseException], Refusal]
) -> AsyncIterator[bytes]:
    try:
        while not task.done():
            word = asyncio.ensure_future(told.get())
            await asyncio.wait({task, word}, timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if word.done():
                yield word.result().encode()
            else:
                word.cancel()
                if not task.done():
                    yield events.alive().encode()
        try:
            last = await outcome(task)
        except Exception as error:
            last = events.error(refused(error).failure)
        yield await asyncio.to_thread(last.encode)
    finally:
        task.cancel()


async def has_left(request: Request) -> None:
    """Waits until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
