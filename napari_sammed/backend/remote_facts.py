"""What a server says of itself: versions, limits, models."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from napari_sammed.backend.protocol import VERSION, cards
from napari_sammed.backend.remote_connection import Connection
from napari_sammed.errors import ProtocolError, ServerError
from napari_sammed.models.base import ModelCard

_PINGS = 3


@dataclass(frozen=True)
class ServerCheck:
    """What a server says of itself.

    Parameters
    ----------
    host : str
    latency : float
        Seconds from a request to its reply, the best of a few.
    version : str
        Of napari-sammed there.
    device : str
        What its models run on.
    models : tuple of ModelCard
        That can answer.
    image_bytes : int or None
        Largest image that it takes.
    """

    host: str
    latency: float
    version: str
    device: str
    models: tuple[ModelCard, ...]
    image_bytes: int | None

    @property
    def sentence(self) -> str:
        """For users."""
        models = ", ".join(card.title for card in self.models) or "no models"
        size = "" if self.image_bytes is None else f", images of up to {self.image_bytes / 2**30:.3g} GiB"
        return (
            f"{self.host} answers in {self.latency * 1000:.0f} ms (napari-sammed {self.version}, on {self.device}): "
            f"{models}{size}."
        )


class Facts:
    """Asked when they are needed, and kept; belongs to one event loop.

    Parameters
    ----------
    connection : Connection

    Attributes
    ----------
    cards : dict of str to ModelCard, or None
        Of the models that can answer there, as they were when last asked for; read on any thread.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._info: dict[str, Any] | None = None
        self.cards: dict[str, ModelCard] | None = None

    async def check(self) -> ServerCheck:
        """Ask all of it now; errors as of `Connection.json`, ServerError for another version or another program."""
        try:
            return await self._check()
        except ProtocolError:
            raise ServerError(
                f"{self._connection.host} answers, but is no server of napari-sammed: check the address and its port."
            ) from None

    async def _check(self) -> ServerCheck:
        times = []
        for _ in range(_PINGS):
            start = time.perf_counter()
            await self._connection.json("GET", "health")
            times.append(time.perf_counter() - start)
        info, found = await self._ask(), await self.ask_cards()
        limit = (await self.limits()).get("image")
        return ServerCheck(
            self._connection.host,
            min(times),
            str(info.get("version", "?"))[:40],
            str(info.get("device", "?"))[:40],
            tuple(found.values()),
            limit if isinstance(limit, int) else None,
        )

    async def limits(self) -> dict[str, Any]:
        """By name."""
        limits = (self._info or await self._ask()).get("limits")
        return limits if isinstance(limits, dict) else {}

    async def ask_cards(self) -> dict[str, ModelCard]:
        """Of the models that can answer there now."""
        items = (await self._connection.json("GET", "models")).get("models")
        if not isinstance(items, list):
            raise ProtocolError(f"{self._connection.host} names no models.")
        self.cards = {card.name: card for card in map(cards.card_from_json, items)}
        return self.cards

    async def _ask(self) -> dict[str, Any]:
        info = await self._connection.json("GET", "info")
        spoken = info.get("protocols")
        if not isinstance(spoken, list) or VERSION not in spoken:
            raise ServerError(
                f"{self._connection.host} speaks another version of the protocol ({str(spoken)[:40]}, not {VERSION}): "
                "install the same version of napari-sammed here as there."
            )
        self._info = info
        return info
