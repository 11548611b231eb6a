"""Requests to a server over HTTP: who asks, what comes back, and trying again where the network fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import httpx

from napari_sammed.backend.protocol import FRAMES, VERSION
from napari_sammed.backend.protocol.events import Failure
from napari_sammed.backend.protocol.frames import Frame, read_frames_async
from napari_sammed.backend.remote_keys import host_of, is_loopback
from napari_sammed.errors import Cancelled, InputError, NotReady, ProtocolError, ServerError, WeightsError

T = TypeVar("T")
Key: TypeAlias = Callable[[], str | None]

PATIENCE = 120.0
"""Seconds without a sign of life after which we give up on a server that answered before."""

_FIRST_PATIENCE = 10.0  # where nobody has ever answered, the address is wrong more often than not
_DELAY, _LONGEST_DELAY = 0.2, 5.0
_FRESH_STARTS = 10  # how often patience begins anew because something came through
_TIMEOUT = httpx.Timeout(connect=10, read=30, write=30, pool=None)  # servers say every few seconds that they are alive
_MOST_JSON = 16 << 20
_AGAIN = ("busy", "unavailable")
_WITHOUT_WORDS = {401: "unauthorized", 403: "forbidden_origin", 413: "too_large", 429: "busy"}
_WITHOUT_WORDS |= dict.fromkeys((502, 503, 504), "unavailable")


class Refused(Exception):
    """The server's no, as it says it.

    Parameters
    ----------
    failure : Failure
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Connection:
    """To one server; all but the constructor on one event loop.

    Parameters
    ----------
    url : str
        Checked (`napari_sammed.backend.remote_keys.checked_url`).
    key : str, callable or None
        A callable is asked for it at the first request, on another thread, since keyrings may wait for the user.
    certificate : str or None
        File with certificates to trust, beside the usual ones: of a server that made its own.
    patience : float
        See `PATIENCE`.
    """

    def __init__(
        self, url: str, key: str | Key | None, *, certificate: str | None = None, patience: float = PATIENCE
    ) -> None:
        self.url = url
        self.host = host_of(url)
        self._key = key
        self._certificate = certificate
        self._patience = patience
        self._reached = False
        self._heard = 0  # how often the server did what it was asked
        self._client: httpx.AsyncClient | None = None

    async def json(self, method: str, path: str, body: Frame | dict[str, Any] | None = None) -> dict[str, Any]:
        """A request whose reply is a JSON object, or nothing.

        Raises
        ------
        Refused, httpx.TransportError, ProtocolError
        """
        async with self._sent(method, path, *_encoded(body)) as response:
            data = await _read(response)
        return _object(data) if data else {}

    async def send(self, path: str, content: AsyncIterable[bytes]) -> None:
        """A PUT of frames as they are made; errors as of `json`."""
        async with self._sent("PUT", path, content, FRAMES):
            pass

    async def frames(self, method: str, path: str, body: Frame | None, limit: int) -> AsyncGenerator[Frame, None]:
        """A request whose reply is frames, each as soon as it is there; the body as a frame, or JSON.

        Errors as of `json`.
        """
        async with self._sent(method, path, *_encoded(body)) as response:
            async for frame in read_frames_async(response.aiter_raw(), limit):
                yield frame

    async def again(self, attempt: Callable[[], Awaitable[T]], tell: Callable[[str], None]) -> T:
        """Do something until the network lets it happen; waits longer and longer between the attempts.

        Parameters
        ----------
        attempt : callable
            Makes no difference if it is done twice.
        tell : callable
            Is told what we wait for, a phrase for users.

        Raises
        ------
        ServerError
            If nothing works for a while, or cannot work.
        Refused
        """
        delay, since, left = _DELAY, time.monotonic(), _FRESH_STARTS
        while True:
            heard = self._heard
            try:
                return await attempt()
            except httpx.TransportError as error:
                reason, pause = self.why(error), delay
            except Refused as refused:
                if refused.failure.code not in _AGAIN:
                    raise
                reason = refused.failure.message.rstrip(".")
                pause = max(delay, min(_seconds(refused.failure.extras.get("retry_after")), 30.0))
            if self._heard > heard and left:  # the server works, but may fail at this, again and again
                delay, since, left = _DELAY, time.monotonic(), left - 1
            if time.monotonic() + pause - since > (self._patience if self._reached else _FIRST_PATIENCE):
                raise ServerError(
                    f"{self.host} cannot be used: {reason}. Nothing that you did is lost: check the address, the "
                    "network and the server, then ask again."
                )
            tell(f"waiting for {self.host} ({reason}), trying again in {pause:.1f} s")
            await asyncio.sleep(pause)
            delay = min(2 * delay, _LONGEST_DELAY)

    def error(self, failure: Failure) -> Exception:
        """What a failure means to whoever uses a backend."""
        match failure.code:
            case "not_ready":
                return NotReady()
            case "cancelled":
                return Cancelled()
            case "weights":
                return WeightsError(failure.message)
            case "invalid":
                return InputError(failure.message)
            case "bad_request" | "unsupported_media":
                return ProtocolError(f"{self.host} does not understand what it is asked: {failure.message}")
            case "unauthorized" if self._key is None:
                return ServerError(f"{self.host} wants a key: ask whoever runs it for one.")
            case "unauthorized":
                return ServerError(f"{self.host} does not accept the key: ask whoever runs it for a new one.")
        return ServerError(f"{self.host}: {failure.message}")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, content: bytes | AsyncIterable[bytes], kind: str
    ) -> AsyncIterator[httpx.Response]:
        """A request under way; Refused unless its status is a good one."""
        headers = {"accept-encoding": "identity", **({"content-type": kind} if content else {})}
        if callable(self._key):
            self._key = await asyncio.get_running_loop().run_in_executor(None, self._key)
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        address = f"{self.url}/v{VERSION}/{path}"
        async with self._http().stream(method, address, content=content, headers=headers) as response:
            self._reached = True
            if response.status_code >= 300:
                raise Refused(await self._failure(response))
            self._heard += 1
            yield response

    async def _failure(self, response: httpx.Response) -> Failure:
        status = response.status_code
        try:
            return Failure.from_json(_object(await _read(response)).get("error"))
        except ProtocolError:
            code = _WITHOUT_WORDS.get(status, "internal")
            what = "leads elsewhere" if status < 400 else "is no server of napari-sammed, or cannot answer"
            return Failure(code, f"The address {what} (HTTP status {status}).")

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            here = is_loopback(httpx.URL(self.url).host)
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=10),
                verify=self._trusted(),
                trust_env=not here,  # proxies do not lead to this machine
            )
        return self._client

    def _trusted(self) -> Any:
        if self._certificate is None:
            return True
        import ssl

        context = ssl.create_default_context()
        try:
            context.load_verify_locations(self._certificate)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{self._certificate} has no certificates that can be read: {error}.") from None
        return context

    def why(self, error: httpx.TransportError) -> str:
        """Why a request failed, a phrase; ServerError where trying again is of no use."""
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise ServerError(
                f"{self.host} shows a certificate that is not trusted here: check the address, or give the file with "
                "the certificate of the server."
            ) from None
        if "WRONG_VERSION_NUMBER" in text:
            raise ServerError(f"{self.host} does not speak https: check the address, it may be one of http.") from None
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            raise ServerError(f"{self.host} cannot be asked: {text}.") from None
        if isinstance(error, httpx.TimeoutException):
            return "no answer"
        return "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke off"


def _encoded(body: Frame | dict[str, Any] | None) -> tuple[bytes, str]:
    """A body and its media type."""
    if isinstance(body, Frame):
        return body.encode(), FRAMES
    return (b"", "") if body is None else (json.dumps(body).encode(), "application/json")


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProtocolError(f"A JSON object was expected, not {data[:40]!r}.")
    return found


async def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > _MOST_JSON:
            raise ProtocolError(f"A reply is longer than {_MOST_JSON} bytes.")
    return bytes(data)


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value == value else 0.0
