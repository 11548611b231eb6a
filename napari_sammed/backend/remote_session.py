"""The session about one image at a server: opened when it is needed, for which the image is sent if need be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from napari_sammed.backend.base import Partial, Prediction, Progress
from napari_sammed.backend.protocol import values
from napari_sammed.backend.protocol.images import ImageHeader, image_frames
from napari_sammed.backend.remote_connection import Connection, Refused
from napari_sammed.backend.remote_loop import Tell
from napari_sammed.errors import InputError, ServerError
from napari_sammed.volume import Volume

ROUNDS = 12
"""How often something is tried because the server has lost what it builds on."""

_GRACE = 3.0  # s that an image is still being sent for after the last one who waited for it has left


@dataclass(eq=False)
class Listening:
    """Who waits for an answer, and what they want to hear.

    Parameters
    ----------
    tell : callable
        Has something called on the thread of the one who waits.
    progress, partial : callable, optional
    stop : asyncio.Event, optional
        Set when they want what is there.
    """

    tell: Tell
    progress: Progress | None = None
    partial: Partial | None = None
    stop: asyncio.Event | None = None
    share: float = 0.0
    session: str | None = None  # in which the question was put last
    job: str | None = None  # that answers it, and the number of its last event
    last: int = 0

    def progressed(self, what: str, share: float | None = None) -> None:
        """Say what goes on; without a share it is what it was."""
        self.share = self.share if share is None else share
        if self.progress is not None:
            progress, now = self.progress, self.share
            self.tell(lambda: progress(what, now))

    def came(self, part: Prediction) -> None:
        """A part of the answer is there."""
        if self.partial is not None:
            partial = self.partial
            self.tell(lambda: partial(part))


class RemoteSession:
    """Belongs to one event loop, except for its making.

    Parameters
    ----------
    connection : Connection
    image : Volume
        In memory.
    limits : callable
        Gives the limits of the server by name.

    Attributes
    ----------
    id : str or None
        None while it has to be opened.
    revision : int
        How many predictions the server has counted, as far as is known here.
    """

    def __init__(self, connection: Connection, image: Volume, limits: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self.id: str | None = None
        self.revision = 0
        self._connection = connection
        self._image = image
        self._header = ImageHeader.of(image)
        self._limits = limits
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Listening] = []

    async def open_ahead(self) -> None:
        """Send the image before anybody asks; what goes wrong is told to those who ask."""
        with contextlib.suppress(Refused, InputError):
            await asyncio.shield(self._begun())

    async def opened(self, listening: Listening) -> str:
        """Its id.

        Raises
        ------
        Refused, InputError
        """
        while self.id is None:
            opening = self._begun()
            self._waiting.append(listening)
            try:
                await asyncio.shield(opening)
            finally:
                self._waiting.remove(listening)
                if not self._waiting:
                    asyncio.get_running_loop().call_later(_GRACE, self._unwanted, opening)
        return self.id

    def _begun(self) -> asyncio.Task[None]:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
        return self._opening

    def _unwanted(self, opening: asyncio.Task[None]) -> None:
        """Nobody waits any more, since a while: a newer prompt takes over what an older one began."""
        if not self._waiting:
            opening.cancel()

    async def _open(self) -> None:
        for _ in range(ROUNDS):
            try:
                reply = await self._connection.again(
                    lambda: self._connection.json("POST", "sessions", {"image": self._header.id}), self._tell_all
                )
            except Refused as refused:
                if refused.failure.code != "no_image":
                    raise
                await self._connection.again(self._send, self._tell_all)
                continue
            self.revision = values.whole(reply.get("revision"))
            self.id = values.text(reply.get("session"), 200)
            return
        raise lost(self._connection.host)

    async def _send(self) -> None:
        host, size = self._connection.host, self._header.nbytes
        most = (await self._limits()).get("image")
        if isinstance(most, int) and size > most:
            raise InputError(
                f"{host} takes images of up to {most / 2**20:,.0f} MiB, and this one has {size / 2**20:,.0f} MiB: crop "
                "it, or use this machine."
            )
        frames = image_frames(self._image, self._header)
        loop = asyncio.get_running_loop()

        async def body() -> AsyncGenerator[bytes, None]:
            while (item := await loop.run_in_executor(None, next, frames, None)) is not None:
                data, share = item
                done = f"{share * size / 2**20:,.0f} of {size / 2**20:,.0f} MiB"
                self._tell_all(f"sending the image to {host}, {done}", share)
                yield data

        try:
            await self._connection.send(f"images/{self._header.id}", body())
        finally:
            loop.run_in_executor(None, _closed, frames)

    def _tell_all(self, what: str, share: float | None = None) -> None:
        for listening in self._waiting:
            listening.progressed(what, share)

    def stop(self) -> None:
        """Send the image no further."""
        if self._opening is not None:
            self._opening.cancel()


def lost(host: str) -> ServerError:
    """Of a server that forgets again and again what it was told."""
    return ServerError(f"{host} loses its sessions again and again: tell whoever runs it.")


def _closed(frames: Any) -> None:
    """End a generator that may still run on another thread."""
    for _ in range(100):
        try:
            frames.close()
            return
        except ValueError:
            time.sleep(0.05)
