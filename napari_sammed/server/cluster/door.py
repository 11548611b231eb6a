"""The inner door: requests from the ingress, which has looked at keys, hosts and sizes already, and nobody else's."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import PlainTextResponse

from napari_sammed.server.guard import Message, Receive, Send
from napari_sammed.server.keys import Client

_SECRET, _CLIENT, _NAME = "x-sammed-cluster", "x-sammed-client", "x-sammed-name"


def headers_for(client: Client, secret: str) -> dict[str, str]:
    """Of a request that the ingress passes on for a client."""
    return {_SECRET: secret, _CLIENT: client.id, _NAME: client.name}


class Door:
    """Lets requests through to an application that bring the secret.

    Parameters
    ----------
    app : callable
        ASGI application; finds the client in ``scope["state"]["client"]``.
    secret : str
    """

    def __init__(self, app: Callable[..., Awaitable[None]], secret: str) -> None:
        self._app = app
        self._secret = secret.encode("ascii")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers: dict[bytes, bytes] = dict(scope["headers"])
            if not hmac.compare_digest(headers.get(_SECRET.encode(), b""), self._secret):
                refusal: Any = PlainTextResponse("This is for the ingress of the cluster only.", 403)
                await refusal(scope, receive, send)
                return
            name, id = (headers.get(header.encode(), b"").decode("ascii") for header in (_NAME, _CLIENT))
            scope.setdefault("state", {})["client"] = Client(name, id)
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)
