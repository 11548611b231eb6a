"""The door of the server: who may come in, how large and how slow requests may be, and the one line that is logged.

An ASGI application around another one, because it has to see requests before their bodies are read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from napari_sammed.server.keys import LOCAL, Client, Doorkeeper, KeyRing
from napari_sammed.server.refusals import Refusal
from napari_sammed.server.settings import Settings, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_access = logging.getLogger("napari_sammed.server.access")
_OPEN = {"/v1/health"}  # to be asked without a key
_SAFE = [  # for browsers that end up here: nothing of this is a page
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """Lets requests through to an application, or refuses them.

    Parameters
    ----------
    app : callable
        ASGI application; finds the client in ``scope["state"]["client"]``.
    settings : Settings
    keys : KeyRing or None
        None lets everybody in, as `napari_sammed.server.keys.LOCAL`.
    refused : callable
        Makes a refusal of an exception.
    served : callable, optional
        Is told of every request: method, route, status, bytes in and out.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        settings: Settings,
        keys: KeyRing | None,
        refused: Callable[[BaseException], Refusal],
        served: Callable[[str, str, int, int, int], None] = lambda *_: None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._refused = refused
        self._served = served
        self._limits = settings.limits
        self._doorkeeper = Doorkeeper(self._limits.wrong_keys, self._limits.wrong_keys_within)
        own = ("localhost", settings.host.strip("[]"), *settings.names)
        self._names = {name.lower().rstrip(".") for name in own}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        body = _Body(receive, self._largest(scope), self._limits.silence, self._limits.rate)
        client: Client | None = None
        start = time.monotonic()
        try:
            self._check_head(scope)
            self._check_sender(scope)
            client = self._check_key(scope)
            scope.setdefault("state", {})["client"] = client
            body.check(_headers(scope, b"content-length"))
            await self._app(scope, body.receive, answer.send)
        except Exception as error:
            if not answer.status:  # else it has been told, and noted, already
                await answer.refuse(self._refused(error))
        finally:
            route = getattr(scope.get("route"), "path", "(no route)")
            self._served(scope["method"], route, answer.status, body.nbytes, answer.nbytes)
            _access.info(
                "%s %s %d %d ms in %d out %d key %s",
                scope["method"] if scope["method"].isalpha() and len(scope["method"]) < 10 else "?",
                route,
                answer.status,
                (time.monotonic() - start) * 1000,
                body.nbytes,
                answer.nbytes,
                "-" if client is None else client.short,
            )

    def _largest(self, scope: Message) -> int:
        if scope["method"] == "PUT" and scope["path"].startswith("/v1/images/"):
            return self._limits.image + self._limits.image // 100 + (1 << 20)
        return self._limits.request

    def _check_head(self, scope: Message) -> None:
        size = len(scope["path"]) + len(scope["query_string"])
        if size + sum(len(name) + len(value) for name, value in scope["headers"]) > self._limits.headers:
            raise Refusal("headers_too_large", f"The head of a request has at most {self._limits.headers} bytes.")

    def _check_sender(self, scope: Message) -> None:
        """Refuse what a web page sends: under a name of its own, or from an origin of its own."""
        hosts = _headers(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise Refusal(
                "forbidden_origin",
                "The server is not known under this name: whoever runs it can add the name with --name.",
            )
        for origin in _headers(scope, b"origin"):
            parts = urlsplit(origin)
            if (parts.scheme, parts.netloc) != (scope["scheme"], hosts[0]):
                raise Refusal("forbidden_origin", "Web pages may not use this server.")
        if any(site not in ("none", "same-origin") for site in _headers(scope, b"sec-fetch-site")):
            raise Refusal("forbidden_origin", "Web pages may not use this server.")

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        if is_loopback(name) and name != "localhost":
            return True
        return not self._settings.loopback and _is_address(name)  # a page can only come under a name

    def _check_key(self, scope: Message) -> Client | None:
        """The client whose key the request brings."""
        if scope["path"] in _OPEN:
            return None
        if self._keys is None:
            return LOCAL
        given = _headers(scope, b"authorization")
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        client = self._keys.owner(key.strip()) if scheme.lower() == "bearer" else None
        wait = self._doorkeeper.wait(_network((scope.get("client") or ("",))[0]), client)
        if wait:
            raise Refusal("busy", "There were too many wrong keys: try again later.", retry_after=round(wait))
        if client is None:
            raise Refusal("unauthorized", "The server needs a key.")
        return client


class _Body:
    """Counts what comes in, and does not wait for it for ever."""

    def __init__(self, receive: Receive, most: int, silence: float, rate: float) -> None:
        self._receive = receive
        self._most = most
        self._silence = silence
        self._rate = rate
        self._start = time.monotonic()
        self._complete = False
        self.nbytes = 0

    def check(self, lengths: list[str]) -> None:
        """Refuse what is announced to be too large."""
        for length in lengths:
            if not (length.isascii() and length.isdigit()):
                raise Refusal("bad_request", "The length of the request is no number.")
            if int(length) > self._most:
                raise self._too_large()

    async def receive(self) -> Message:
        if self._complete:  # what comes next is that the client has left
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._silence)
        except TimeoutError:
            raise self._too_slow() from None
        if message["type"] == "http.request":
            self.nbytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self.nbytes > self._most:
                raise self._too_large()
            late = time.monotonic() - self._start - self._silence
            if not self._complete and self.nbytes < late * self._rate:
                raise self._too_slow()
        return message

    def _too_large(self) -> Refusal:
        return Refusal("too_large", f"The request has more than the {self._most} bytes that this server takes.")

    def _too_slow(self) -> Refusal:
        return Refusal("too_slow", "The request came too slowly: try again over a better connection.")


class _Answer:
    """Notes what goes out."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.nbytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *_SAFE]}
        else:
            self.nbytes += len(message.get("body", b""))
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal; no answer may have begun."""
        body = json.dumps(refusal.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        if refusal.failure.code == "unauthorized":
            headers["www-authenticate"] = "Bearer"
        if refusal.failure.code == "too_slow":
            headers["connection"] = "close"
        await self.send(
            {
                "type": "http.response.start",
                "status": refusal.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})


def _headers(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _network(address: str) -> str:
    """What stands for whoever has an address: of IPv6, where everybody has billions, the first half."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
