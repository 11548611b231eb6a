"""Requests on their way from the ingress to a replica and back, also where the replica ends in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from napari_sammed.server.cluster.directory import Directory, Replica
from napari_sammed.server.cluster.door import headers_for
from napari_sammed.server.lanes import outcome
from napari_sammed.server.refusals import Refusal
from napari_sammed.server.replies import has_left

_TRIES = 4
_TIMEOUT = httpx.Timeout(60, connect=5, pool=None)  # a replica says "alive" every 5 s
_PROBE = 2.0  # seconds
_GIVEN_UP = 15.0  # seconds without a report after which a machine that does not answer is gone
_BACK = ("content-type", "content-length", "retry-after")

Choose = Callable[[], Awaitable[Replica]]
"""Says to which replica a request goes, also when it has to be put again."""


class Forwarder:
    """Passes requests on; belongs to one event loop.

    Parameters
    ----------
    directory : Directory
    secret : str
        See `napari_sammed.server.cluster.share`.
    """

    def __init__(self, directory: Directory, secret: str) -> None:
        self._directory = directory
        self._secret = secret
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=600)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def stream(self, request: Request, choose: Choose) -> Response:
        """The reply of a replica, passed on as it comes; the request to it ends when the client leaves."""
        response, _ = await self._asked(request, choose)

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in response.aiter_raw():
                    yield piece
            finally:
                await response.aclose()

        return StreamingResponse(pieces(), response.status_code, _back(response))

    async def whole(self, request: Request, choose: Choose) -> tuple[Response, Replica]:
        """A small reply, and whose it is."""
        response, replica = await self._asked(request, choose)
        try:
            content = await response.aread()
        except httpx.TransportError:
            raise _unavailable() from None
        finally:
            await response.aclose()
        return Response(content, response.status_code, _back(response)), replica

    async def _asked(self, request: Request, choose: Choose) -> tuple[httpx.Response, Replica]:
        body = await request.body()  # so that it can be sent again; the guard has limited it
        asking = asyncio.ensure_future(self._ask(request, body, choose))
        left = asyncio.create_task(has_left(request))
        try:
            await asyncio.wait({asking, left}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                asking.cancel()
        except asyncio.CancelledError:
            asking.cancel()
            raise
        finally:
            left.cancel()
        return await outcome(asking)

    async def _ask(self, request: Request, body: bytes, choose: Choose) -> tuple[httpx.Response, Replica]:
        """What is asked again is counted once, by its request id; so it may be."""
        for _ in range(_TRIES):
            replica = await choose()
            try:
                return await self.send(replica, request, body), replica
            except httpx.TransportError as error:
                if not await self.is_gone(replica, error):
                    break
                self._directory.lost(replica)
        raise _unavailable()

    async def text(self, replica: Replica, request: Request) -> str | None:
        """What one replica says to a request without a body; None if it refuses, or is not there."""
        try:
            response = await self.send(replica, request, b"")
            try:
                return (await response.aread()).decode() if response.is_success else None
            finally:
                await response.aclose()
        except httpx.TransportError:
            return None

    async def send(self, replica: Replica, request: Request, body: bytes) -> httpx.Response:
        """Put a request to one replica; its reply has to be closed.

        Raises
        ------
        httpx.TransportError
        """
        headers = headers_for(request.state.client, self._secret) | {"accept-encoding": "identity"}
        if kind := request.headers.get("content-type"):
            headers["content-type"] = kind
        path, query = request.scope["raw_path"], request.scope["query_string"]
        url = httpx.URL(replica.url, raw_path=path + (b"?" + query if query else b""))
        return await self._http.send(
            self._http.build_request(request.method, url, content=body, headers=headers), stream=True
        )

    async def is_gone(self, replica: Replica, error: Exception | None = None) -> bool:
        """Whether nobody listens where a replica did; a silent machine is gone if it has not been heard for a while."""
        if isinstance(error, httpx.ConnectError) and not isinstance(error, httpx.ConnectTimeout):
            return True
        report = replica.report
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(report.host, report.port), _PROBE)
        except TimeoutError:
            return replica.quiet > _GIVEN_UP
        except OSError:
            return True
        writer.close()
        return False


def _back(response: httpx.Response) -> dict[str, str]:
    return {name: response.headers[name] for name in _BACK if name in response.headers}


def _unavailable() -> Refusal:
    return Refusal(
        "unavailable", "The GPU of this session has just failed: another one goes on with it.", retry_after=1
    )
