"""The routes: what comes over HTTP is handed to the core, and what it says goes back. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from napari_sammed import __version__
from napari_sammed.backend.protocol import FRAMES, VERSION
from napari_sammed.backend.protocol.cards import card_to_json
from napari_sammed.errors import Cancelled, InputError, NotReady
from napari_sammed.server import schemas
from napari_sammed.server.bodies import read_image
from napari_sammed.server.core import Core
from napari_sammed.server.guard import Guard
from napari_sammed.server.images import ImageStore
from napari_sammed.server.keys import Client, KeyRing
from napari_sammed.server.lanes import Places
from napari_sammed.server.metrics import TEXT, Standing
from napari_sammed.server.refusals import Refusal
from napari_sammed.server.routes import Id, add_jobs, add_sessions

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_MOST_UPLOADS, _MOST_UPLOADS_EACH = 8, 2  # at once, of all clients and of one
_MOST_UPLOADS_WAITING = 64  # of one client
_WAIT_FOR_UPLOAD = 10.0  # seconds, less than the patience of clients whose bytes nobody takes


def create_app(core: Core, keys: KeyRing | None) -> Guard:
    """The server as an ASGI application.

    Parameters
    ----------
    core : Core
        Started and closed with the application.
    keys : KeyRing or None
        None lets everybody in: for this machine's own programs only.
    """

    return Guard(routes(core), core.settings, keys, core.refused, core.metrics.served)


def routes(core: Core) -> FastAPI:
    """All that a core answers, for whoever has been let in; it is started and closed with the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await core.start()
        yield
        await core.close()

    app = new_app(lifespan, core.refused, "/v1/openapi.json")
    _describe(app)
    _about(app, core)
    add_images(app, core.images)
    add_sessions(app, core)
    add_jobs(app, core)
    return app


def new_app(lifespan: Lifespan, refused: Callable[[BaseException], Refusal], openapi_url: str | None) -> FastAPI:
    """An application without routes that tells errors as the protocol says.

    Parameters
    ----------
    lifespan : callable
        What begins and ends with it.
    refused : callable
        Makes a refusal of an exception.
    openapi_url : str or None
        Where it describes itself.
    """
    app = FastAPI(
        title="napari-sammed server",
        version=str(VERSION),
        description=schemas.DESCRIPTION,
        lifespan=lifespan,
        openapi_url=openapi_url,
        docs_url=None,  # pages that fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    _refuse(app, refused)
    return app


def _about(app: FastAPI, core: Core) -> None:
    limits = core.settings.limits

    @app.get(
        "/v1/health", responses=schemas.answers(found="It works."), tags=["server"], openapi_extra={"security": []}
    )
    async def health() -> JSONResponse:
        """Whether the server works; needs no key, and waits for nothing."""
        status = "failing" if core.failed.is_set() else "stopping" if core.stopping.is_set() else "ok"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @app.get("/v1/info", responses=schemas.answers(found="What clients should know."), tags=["server"])
    async def info() -> dict[str, Any]:
        """Versions and limits: bytes of an image and of a request, seconds until a session is put aside or deleted."""
        return {
            "protocols": [VERSION],
            "version": __version__,
            "device": await asyncio.to_thread(_device, core.settings.device),
            "limits": {
                "image": limits.image,
                "request": limits.request,
                "idle_seconds": limits.idle,
                "keep_seconds": limits.keep,
                "unheard_seconds": limits.unheard,
            },
        }

    standing = Standing(core)

    @app.get(
        "/v1/metrics",
        response_class=PlainTextResponse,
        responses=schemas.answers(found="In the text format of Prometheus."),
        tags=["server"],
    )
    async def metrics() -> Response:
        """What the server has counted since its start, and how it stands, for Prometheus; nothing of who asked."""
        return Response(await standing.text(), media_type=TEXT)

    @app.get("/v1/models", responses=schemas.answers(found="Their cards."), tags=["server"])
    async def models() -> dict[str, Any]:
        """The models that can answer here; nothing is fetched because a client asks for it."""
        cards = await core.models()
        return {
            "models": [card_to_json(card) | {"name": name} for name, card in cards.items()],
            "installed": [name for name, card in cards.items() if card.prompts],
        }


def _device(wanted: str) -> str:
    """Where models compute; torch is imported here, as it takes seconds at the first time."""
    from napari_sammed.backend.devices import choose

    return choose(wanted)


def add_images(app: FastAPI, images: ImageStore) -> None:
    """Routes of images."""
    uploads = Places(_MOST_UPLOADS, _MOST_UPLOADS_WAITING, _MOST_UPLOADS_EACH)

    @app.head("/v1/images/{image}", responses=schemas.answers(404, found="It is here."), tags=["images"])
    async def has_image(image: Id) -> Response:
        """Whether an image is here."""
        return Response(status_code=200 if await asyncio.to_thread(images.__contains__, image) else 404)

    @app.put(
        "/v1/images/{image}",
        status_code=201,
        responses={
            200: {"description": "It was here."},
            **schemas.answers(404, 415, found="It is here now.", status=201),
        },
        openapi_extra={"requestBody": {"required": True, "content": schemas.FRAME_BODY}},
        tags=["images"],
    )
    async def put_image(image: Id, request: Request) -> Response:
        """Send an image: a frame `{"image": {version, id, dtype, channels, shape, spacing, origin, direction}}`, then
        its voxels in C order, in frames `{"slab": n}` of 4 MiB (as many whole voxels as fit, the last one shorter)."""
        if await asyncio.to_thread(images.__contains__, image):
            return Response(status_code=200)
        if request.headers.get("content-type", "").partition(";")[0].strip() != FRAMES:
            raise Refusal("unsupported_media", f"Send {FRAMES}.")
        client: Client = request.state.client
        try:
            await asyncio.wait_for(uploads.take(client.id, image), _WAIT_FOR_UPLOAD)
        except TimeoutError:
            raise Refusal("busy", "Too many images are coming in: try again soon.", retry_after=2) from None
        try:
            await read_image(request, image, images)
        finally:
            uploads.leave(client.id)
        return Response(status_code=201)


def _refuse(app: FastAPI, refused: Callable[[BaseException], Refusal]) -> None:
    """Have errors told as the protocol says."""

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, RequestValidationError):
            error = Refusal("bad_request", "The address of the request has a part that cannot be.")
        elif isinstance(error, HTTPException):
            codes = {404: "not_found", 405: "method_not_allowed"}
            error = Refusal(codes.get(error.status_code, "bad_request"), "There is no such address or method.")
        refusal = refused(error)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    for kind in (Refusal, InputError, NotReady, Cancelled, OSError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)


def _describe(app: FastAPI) -> None:
    """Add what the routes do not say of themselves to the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas.SCHEMAS)
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
