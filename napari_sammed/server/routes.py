"""The routes of sessions, questions and jobs; those of images and of the server itself are in `app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from napari_sammed.backend.protocol import FRAMES, events, values
from napari_sammed.backend.protocol.frames import Frame, header_value
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.intensity import Window
from napari_sammed.server import schemas
from napari_sammed.server.bodies import read_frame
from napari_sammed.server.core import Core
from napari_sammed.server.hints import ready
from napari_sammed.server.keys import Client
from napari_sammed.server.refusals import not_found
from napari_sammed.server.replies import ALIVE, reply

Id = Annotated[str, Path(max_length=64)]
After = Annotated[int, Query(ge=0, le=2**31 - 1)]


def add_sessions(app: FastAPI, core: Core) -> None:
    """Routes of sessions, and of what is asked in them."""
    limits = core.settings.limits

    async def question(request: Request) -> Question:
        return Question.from_frame(await read_frame(request, limits))

    @app.post(
        "/v1/sessions",
        status_code=201,
        responses=schemas.answers(404, 415, found="Its id and revision.", status=201),
        openapi_extra=schemas.body(schemas.OPEN),
        tags=["sessions"],
    )
    async def open_session(request: Request) -> dict[str, Any]:
        """Open a session about an image; `404 no_image` if that has to be sent first."""
        image = header_value((await read_frame(request, limits)).header, "image", str)
        session = await core.open_session(_client(request), image)
        return {"session": session.id, "revision": session.revision, "image": session.image}

    @app.get("/v1/sessions/{session}", responses=schemas.answers(404, 409, found="How it stands."), tags=["sessions"])
    async def see_session(session: Id, request: Request) -> dict[str, Any]:
        """The revision of a session, its image, and the seconds after which it is put aside if nobody uses it."""
        async with core.session(_client(request), session) as found:
            about = {"session": found.id, "image": found.image, "revision": found.revision}
            return about | {"idle_seconds": limits.idle}

    @app.delete(
        "/v1/sessions/{session}",
        status_code=204,
        responses=schemas.answers(404, 409, found="It is gone, and its journal.", status=204),
        tags=["sessions"],
    )
    async def delete_session(session: Id, request: Request) -> Response:
        """End a session, and delete its journal; one that is just left is put aside by itself."""
        await core.delete_session(_client(request), session)
        return Response(status_code=204)

    @app.get(
        "/v1/sessions/{session}/journal",
        responses=schemas.answers(404, 409, found="The questions.", frames=True),
        tags=["sessions"],
    )
    async def journal(session: Id, request: Request, after: After = 0) -> StreamingResponse:
        """The questions that were answered after a revision, in order, a frame each, with the revision since then."""
        async with core.session(_client(request), session) as found:
            later = [entry for entry in found.entries.values() if entry.revision > after]

        async def frames() -> AsyncIterator[bytes]:
            for entry in later:
                frame = entry.question.to_frame()
                yield Frame(frame.header | {"revision": entry.revision}, frame.arrays).encode()

        return StreamingResponse(frames(), media_type=FRAMES)

    @app.post(
        "/v1/sessions/{session}/predict",
        responses=schemas.answers(404, 409, 415, 424, found="The answer, or a stream of events.", frames=True),
        openapi_extra=schemas.body(schemas.question("predict")),
        tags=["questions"],
    )
    async def predict(session: Id, request: Request) -> Response:
        """Segment one object from all its prompts."""
        client, asked = _client(request), await question(request)
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Frame](16)

        def tell(what: str, share: float) -> None:
            def add() -> None:
                if not told.full():
                    told.put_nowait(events.progress(what, share))

            loop.call_soon_threadsafe(add)

        async def answer() -> Frame:
            revision, found, base = await core.predict(client, session, asked, tell)
            return events.result(found, revision, base)

        task = asyncio.create_task(answer())
        core.running(client, asked.request_id, task)
        return await reply(request, task, told, core.refused)

    @app.post(
        "/v1/sessions/{session}/preview",
        responses=schemas.answers(404, 409, 415, 424, 425, found="The answer.", frames=True),
        openapi_extra=schemas.body(schemas.question("predict", "refine")),
        tags=["questions"],
    )
    async def preview(session: Id, request: Request) -> Response:
        """Ask what nobody waits for: the session stays as it is, nothing heavy is done (`425 not_ready` instead)."""
        client, asked = _client(request), await question(request)

        async def answer() -> Frame:
            return events.result(await core.preview(client, session, asked))

        task = asyncio.create_task(answer())
        core.running(client, asked.request_id, task)
        return await reply(request, task, asyncio.Queue(), core.refused)

    @app.post(
        "/v1/sessions/{session}/prefetch",
        status_code=202,
        responses={
            200: {"description": "What was waited for is encoded, or given up.", "content": schemas.FRAME_BODY},
            **schemas.answers(404, 409, 415, 424, found="The hint is taken.", status=202),
        },
        openapi_extra=schemas.body(schemas.PREFETCH),
        tags=["questions"],
    )
    async def prefetch(session: Id, request: Request) -> Response:
        """A hint that these parts of the image may be asked about soon; hints are worked off in order, when there is
        nothing better to do. With `wait` the reply comes when that is done; closing the connection takes the hint back.
        """
        header = (await read_frame(request, limits)).header
        regions = [values.box_from_json(item) for item in header_value(header, "regions", list)]
        window = Window.from_json(header_value(header, "window", dict))
        model = values.text(header.get("model"), 100)
        parts = await core.prefetch(_client(request), session, model, regions, window)
        if header.get("wait") is not True:
            return Response(status_code=202)

        async def answer() -> Frame:
            await ready(parts)
            return Frame({"event": "result"})

        return await reply(request, asyncio.create_task(answer()), asyncio.Queue(), core.refused)

    @app.post(
        "/v1/sessions/{session}/restore",
        responses=schemas.answers(404, 409, 415, found="One array.", frames=True),
        openapi_extra=schemas.body(schemas.RESTORE),
        tags=["questions"],
    )
    async def restore(session: Id, request: Request) -> Response:
        """Logits of an answer on the image grid, inside the box of its logits; positive inside the object."""
        reference = values.LogitsReference.from_json((await read_frame(request, limits)).header.get("logits"))
        client = _client(request)

        async def answer() -> Frame:
            found: np.ndarray = await core.restore(client, session, reference)
            return Frame({"event": "result"}, (found,))

        return await reply(request, asyncio.create_task(answer()), asyncio.Queue(), core.refused)

    @app.delete(
        "/v1/requests/{request_id}",
        status_code=204,
        responses=schemas.answers(404, found="It is told to end.", status=204),
        tags=["questions"],
    )
    async def cancel(request_id: Id, request: Request) -> Response:
        """Cancel a question that runs; so does closing the connection that it came by."""
        if not core.cancel(_client(request), request_id):
            raise not_found("request")
        return Response(status_code=204)


def add_jobs(app: FastAPI, core: Core) -> None:
    """Routes of what takes longer."""

    @app.post(
        "/v1/sessions/{session}/jobs",
        status_code=202,
        responses=schemas.answers(404, 409, 415, 424, found="Its id.", status=202),
        openapi_extra=schemas.body(schemas.question("predict_boxes", "propagate", "refine", "automatic")),
        tags=["jobs"],
    )
    async def start(session: Id, request: Request) -> dict[str, str]:
        """Begin what takes longer than a click. A job that nobody listens to for a minute is cancelled."""
        asked = Question.from_frame(await read_frame(request, core.settings.limits))
        return {"job": (await core.start_job(_client(request), session, asked)).id}

    @app.get(
        "/v1/jobs/{job}/events",
        responses=schemas.answers(404, found="Events to the last one.", frames=True),
        tags=["jobs"],
    )
    async def listen(job: Id, request: Request, after: After = 0) -> StreamingResponse:
        """The events of a job after a number; a stream that was cut off goes on with the number of its last event."""
        found = core.jobs.get(_client(request), job)
        return StreamingResponse(found.listen(after, ALIVE), media_type=FRAMES)

    @app.post(
        "/v1/jobs/{job}/stop",
        status_code=202,
        responses=schemas.answers(404, found="It is told to stop.", status=202),
        tags=["jobs"],
    )
    async def stop(job: Id, request: Request) -> Response:
        """Stop a propagation, and have the slices that are answered already as the result."""
        core.jobs.get(_client(request), job).stop.set()
        return Response(status_code=202)

    @app.delete(
        "/v1/jobs/{job}",
        status_code=204,
        responses=schemas.answers(404, found="It is told to end.", status=204),
        tags=["jobs"],
    )
    async def cancel(job: Id, request: Request) -> Response:
        """Cancel a job."""
        core.jobs.cancel(core.jobs.get(_client(request), job))
        return Response(status_code=204)


def _client(request: Request) -> Client:
    return request.state.client
