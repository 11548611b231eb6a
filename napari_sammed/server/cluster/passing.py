"""Which request goes to which replica: by session, by job, to all, or to any."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest

from napari_sammed.server.cluster.directory import Directory, Replica
from napari_sammed.server.cluster.forwarding import Forwarder
from napari_sammed.server.cluster.metrics import merged
from napari_sammed.server.metrics import TEXT, Metrics
from napari_sammed.server.refusals import not_found, rehydrate
from napari_sammed.server.routes import Id
from napari_sammed.server.sessions import is_id

_ANY = ("/v1/info", "/v1/models", "/v1/openapi.json")
_ASKED = ("/predict", "/preview", "/prefetch", "/restore")
_OF_SESSIONS = (("GET", ""), ("GET", "/journal"), *(("POST", what) for what in _ASKED))
_OF_JOBS = (("GET", "/events"), ("POST", "/stop"), ("DELETE", ""))


def add_passing(app: FastAPI, directory: Directory, forwarder: Forwarder, metrics: Metrics) -> None:
    """The routes of a server but those of images, answered by replicas; `metrics` are the ingress's own."""

    @app.get("/v1/health")
    async def health() -> JSONResponse:
        """Whether there is a replica; needs no key, and waits for nothing."""
        ready = any(not replica.report.leaving for replica in directory.replicas)
        return JSONResponse({"status": "ok" if ready else "starting"}, 200 if ready else 503)

    @app.get("/v1/metrics")
    async def all_metrics(request: Request) -> Response:
        """Those of the ingress and of all replicas."""
        replicas = directory.replicas
        replies = await asyncio.gather(*(forwarder.text(replica, request) for replica in replicas))
        told = {replica.id: text for replica, text in zip(replicas, replies, strict=True) if text is not None}
        own = generate_latest(metrics.registry).decode()
        return Response(await asyncio.to_thread(merged, {"ingress": own, **told}), media_type=TEXT)

    async def of_any(request: Request) -> Response:
        return await forwarder.stream(request, directory.fewest)

    for path in _ANY:
        app.add_api_route(path, of_any, methods=["GET"])

    async def of_session(session: Id, request: Request) -> Response:
        if not is_id(session):
            raise rehydrate()
        return await forwarder.stream(request, lambda: directory.of_session(session))

    for method, what in _OF_SESSIONS:
        app.add_api_route(f"/v1/sessions/{{session}}{what}", of_session, methods=[method])

    @app.post("/v1/sessions")
    async def open_session(request: Request) -> Response:
        """Open a session at the replica that has the fewest; each at exactly one, as only that one's reply names it."""
        asked: list[Replica] = []

        async def choose() -> Replica:
            asked.append(await directory.fewest())
            asked[-1].opening += 1  # without waiting in between, so that others see it
            return asked[-1]

        try:
            response, replica = await forwarder.whole(request, choose)
            if response.status_code == 201:
                directory.opened(_said(response)["session"], replica)
            return response
        finally:
            for one in asked:
                one.opening -= 1

    @app.delete("/v1/sessions/{session}")
    async def delete_session(session: Id, request: Request) -> Response:
        if not is_id(session):
            raise rehydrate()
        response, _ = await forwarder.whole(request, lambda: directory.of_session(session))
        if response.status_code == 204:
            directory.ended(session)
        return response

    @app.post("/v1/sessions/{session}/jobs")
    async def start(session: Id, request: Request) -> Response:
        if not is_id(session):
            raise rehydrate()
        response, replica = await forwarder.whole(request, lambda: directory.of_session(session))
        if response.status_code == 202:
            replica.start(_said(response)["job"])
        return response

    async def of_job(job: Id, request: Request) -> Response:
        async def choose() -> Replica:
            replica = directory.of_job(job)
            if replica is None:
                raise not_found("job")
            return replica

        return await forwarder.stream(request, choose)

    for method, what in _OF_JOBS:
        app.add_api_route(f"/v1/jobs/{{job}}{what}", of_job, methods=[method])

    @app.delete("/v1/requests/{request_id}")
    async def cancel(request_id: Id, request: Request) -> Response:
        """Whoever answers it ends it."""

        answers = await asyncio.gather(*(forwarder.text(replica, request) for replica in directory.replicas))
        if all(answer is None for answer in answers):
            raise not_found("request")
        return Response(status_code=204)


def _said(response: Response) -> dict[str, Any]:
    return json.loads(bytes(response.body))
