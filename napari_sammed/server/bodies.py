"""Bodies of requests: JSON or frames, read whole up to the limits; images, read slab by slab."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from napari_sammed.backend.protocol import FRAMES
from napari_sammed.backend.protocol.frames import Frame, FrameReader
from napari_sammed.backend.protocol.images import SLAB, ImageHeader
from napari_sammed.errors import ProtocolError
from napari_sammed.server.images import ImageStore, Upload
from napari_sammed.server.refusals import Refusal
from napari_sammed.server.settings import Limits

_LARGE = 1 << 16  # bytes that are worth a thread
_LARGEST_JSON = 1 << 20


async def read_frame(request: Request, limits: Limits) -> Frame:
    """The body of a request as a frame, whether it is one or JSON.

    Raises
    ------
    ProtocolError
    Refusal
        "unsupported_media" for other media types, which also are those that web pages can send unasked.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", FRAMES):
        raise Refusal("unsupported_media", f"Send application/json or {FRAMES}.")
    data = bytearray()
    async for chunk in _chunks(request):
        data += chunk
        if kind != FRAMES and len(data) > _LARGEST_JSON:
            raise Refusal("too_large", f"JSON has at most {_LARGEST_JSON} bytes here: send frames.")

    def parse() -> Frame:
        frame = Frame.decode(bytes(data), limits.request) if kind == FRAMES else Frame(_json(data))
        _check_depth(frame.header, limits.depth)
        return frame

    return await asyncio.to_thread(parse) if len(data) > _LARGE else parse()


async def read_image(request: Request, image: str, store: ImageStore) -> None:
    """Take an image in, a slab at a time; if anything goes wrong, nothing is left of it."""
    intake = _Intake(image, store)
    try:
        async for piece in _pieces(request):
            await asyncio.to_thread(intake.take, piece)
        await asyncio.to_thread(intake.finish)
    finally:
        await asyncio.to_thread(intake.close)


class _Intake:
    """Takes in the bytes of an image; on one thread at a time."""

    def __init__(self, image: str, store: ImageStore) -> None:
        self._image = image
        self._store = store
        self._reader = FrameReader(2 * SLAB)
        self._upload: Upload | None = None
        self._open = contextlib.ExitStack()

    def take(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            if self._upload is not None:
                self._upload.add(frame)
                continue
            header = ImageHeader.from_frame(frame)
            if header.id != self._image:
                raise ProtocolError("The image has another id than the address that it is sent to.")
            self._upload = self._open.enter_context(self._store.receive(header))

    def finish(self) -> None:
        self._reader.end()
        if self._upload is None:
            raise ProtocolError("There is no image in this request.")
        self._upload.finish()

    def close(self) -> None:
        self._open.close()


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; Refusal "cancelled", which nobody will read, if the client leaves before its end."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise Refusal("cancelled", "The client has left.") from None


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces that are worth a thread each."""
    waiting = bytearray()
    async for chunk in _chunks(request):
        waiting += chunk
        if len(waiting) >= _LARGE:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ProtocolError("The body of the request is not JSON.") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"The body of the request is a JSON object, not {str(found)[:80]}.")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _check_depth(value: Any, most: int) -> None:
    """Refuse JSON that is nested deeper than anything of the protocol."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ProtocolError(f"The JSON is nested deeper than {most} levels.")
