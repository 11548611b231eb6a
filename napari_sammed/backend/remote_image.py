"""One image at a server: sent once, asked about in a session that is opened anew wherever it got lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.protocol import events, values
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.questions import Question, new_request_id
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.backend.remote_connection import Connection, Refused
from napari_sammed.backend.remote_loop import Loop
from napari_sammed.backend.remote_session import ROUNDS, Listening, RemoteSession, lost
from napari_sammed.errors import NotReady, ProtocolError, ServerError
from napari_sammed.volume import Volume

_KEPT = 64 << 20  # bytes of masks that later answers may be told by their difference from


@dataclass
class _Asked:
    """A question of before, and the hash of the weights that answered it."""

    question: Question
    weights_hash: str


class RemoteImage:
    """Belongs to one event loop, except for its making.

    Parameters
    ----------
    connection : Connection
    loop : Loop
    image : Volume
        In memory.
    limits : callable
        Gives the limits of the server by name.
    """

    def __init__(
        self,
        connection: Connection,
        loop: Loop,
        image: Volume,
        limits: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self.volume = image
        self.session = RemoteSession(connection, image, limits)
        self._connection = connection
        self._loop = loop
        self._largest_reply = max(64 << 20, 16 * image.array.size)
        self._turn = asyncio.Lock()  # predictions one after another, as each raises the revision
        self._asked: dict[str, _Asked] = {}
        self._kept: OrderedDict[str, Prediction] = OrderedDict()

    def knows(self, request_id: str) -> bool:
        """Whether an answered question was about this image."""
        return request_id in self._asked

    async def predict(self, question: Question, listening: Listening) -> Prediction:
        """The answer to a question of the kind "predict"."""
        async with self._turn:
            return (await self._answers(question, listening))[0]

    async def job(self, question: Question, listening: Listening) -> Any:
        """The answers, or the label map, to a question of another kind."""
        return await self._answers(question, listening)

    async def preview(self, question: Question) -> Prediction:
        """The answer to an idle question; NotReady wherever it would take more than the server has at hand."""
        if self.session.id is None:
            raise NotReady
        found = None
        try:
            async with aclosing(self._asking(f"sessions/{self.session.id}/preview", question.to_frame())) as frames:
                async for frame in frames:
                    if frame.header.get("event") == "result":
                        found = events.read_answers(frame, question.request_id)
        except Refused as refused:
            if refused.failure.code in ("invalid", "weights"):
                raise self._connection.error(refused.failure) from None
        if not found:
            raise NotReady
        return found[0]

    async def restore(self, model: str, reference: LogitsReference, listening: Listening) -> np.ndarray:
        """Logits on the image grid, float32."""
        body = Frame({"model": model, "logits": reference.to_json()})

        async def attempt() -> np.ndarray:
            session = await self.session.opened(listening)
            found: list[np.ndarray] = []
            async with aclosing(self._asking(f"sessions/{session}/restore", body)) as frames:
                async for frame in frames:
                    found += frame.arrays
            if len(found) != 1:
                raise ProtocolError("A reply had no logits in it.")
            return found[0].astype(np.float32)

        async with self._turn:
            for _ in range(ROUNDS):
                try:
                    return await self._connection.again(attempt, listening.progressed)
                except Refused as refused:
                    self._mend(refused, listening)
                    await self._known(reference, listening)
        raise lost(self._connection.host)

    async def prefetch(self, header: dict[str, Any]) -> None:
        """Pass on a hint, and wait until it is worked off; it may get lost. Cancel this to take it back."""
        session = await self.session.opened(Listening(lambda callback: None))
        body = Frame(header | {"wait": True})
        async with aclosing(self._asking(f"sessions/{session}/prefetch", body)) as frames:
            async for _ in frames:
                pass

    def close(self) -> None:
        """End sending, and the session."""
        self.session.stop()
        if self.session.id is not None:
            self._loop.aside(self._connection.json("DELETE", f"sessions/{self.session.id}"))
            self.session.id = None

    async def _answers(self, question: Question, listening: Listening) -> Any:
        """Put a question until it is answered, whatever has to be mended for that."""
        for count in range(ROUNDS):
            try:
                found = await self._connection.again(
                    lambda asked=question: self._once(asked, listening), listening.progressed
                )
            except Refused as refused:
                if refused.failure.code == "cancelled":  # not by us: the server is stopped, or lost us for a while
                    question = replace(question, request_id=new_request_id())
                    await asyncio.sleep(0.2 * count)
                    continue
                self._mend(refused, listening)
                if question.previous is not None and not await self._known(question.previous, listening):
                    question = replace(question, previous=None)  # those logits were of other weights than now
                continue
            if isinstance(found, list):
                self._asked[question.request_id] = _Asked(question, found[0].weights_hash)
                self._keep(question.request_id, found[0])
            return found
        raise lost(self._connection.host)

    def _mend(self, refused: Refused, listening: Listening) -> None:
        """Do what a refusal asks for before the next attempt, or raise the error that it means."""
        failure = refused.failure
        if failure.code == "stale":
            self.session.revision = values.whole(failure.extras.get("revision"))  # an answer got lost on its way
        elif failure.code in ("rehydrate", "not_found"):
            listening.progressed(f"opening the session at {self._connection.host} anew")
            if listening.session == self.session.id:  # else somebody has done it meanwhile
                self.session.id = None
        else:
            raise self._connection.error(failure) from None

    async def _known(self, reference: LogitsReference, listening: Listening) -> bool:
        """Have a new session know an earlier answer; says whether it is the one that it was."""
        if self.session.id is not None:
            return True
        asked = self._asked.get(reference.request)
        if asked is None:
            raise ServerError(
                f"{self._connection.host} has lost an earlier answer: undo the last prompt and repeat it."
            )
        before = asked.weights_hash
        found = await self._answers(asked.question, Listening(listening.tell))
        return found[0].weights_hash == before

    async def _once(self, question: Question, listening: Listening) -> Any:
        session = listening.session = await self.session.opened(listening)
        base = None if question.previous is None or question.previous.answer else question.previous.request
        kept = None if base is None else self._kept.get(base)
        question = question.at(self.session.revision, None if kept is None else base)
        stream = self._prediction if question.kind == "predict" else self._job
        found: Any = None
        async with aclosing(stream(session, question, listening)) as frames:
            async for frame in frames:
                match frame.header.get("event"):
                    case "progress":
                        listening.progressed(*events.read_progress(frame))
                    case "partial":
                        listening.came(events.read_partial(frame))
                    case "result" if question.kind == "automatic":
                        found = events.read_labels(frame)
                    case "result":
                        found = events.read_answers(frame, question.request_id, kept)
                        self.session.revision = max(self.session.revision, events.read_revision(frame) or 0)
        expected = len(question.arguments["boxes"]) if question.kind == "predict_boxes" else 1
        if found is None or (isinstance(found, list) and len(found) != expected):
            raise ProtocolError(f"{self._connection.host} did not answer all that it was asked.")
        return found

    async def _prediction(self, session: str, question: Question, listening: Listening) -> AsyncGenerator[Frame, None]:
        try:
            async with aclosing(self._asking(f"sessions/{session}/predict", question.to_frame())) as frames:
                async for frame in frames:
                    yield frame
        except asyncio.CancelledError:
            self._loop.aside(self._connection.json("DELETE", f"requests/{question.request_id}"))
            raise

    async def _job(self, session: str, question: Question, listening: Listening) -> AsyncGenerator[Frame, None]:
        """The events of a job; after a broken connection those that have not come yet."""
        reply = await self._connection.json("POST", f"sessions/{session}/jobs", question.to_frame())
        job = values.text(reply.get("job"), 100)
        if job != listening.job:
            listening.job, listening.last = job, 0
        with self._stopping(job, listening.stop):
            try:
                path = f"jobs/{job}/events?after={listening.last}"
                async with aclosing(self._asking(path, None, "GET")) as frames:
                    async for frame in frames:
                        if frame.header.get("event") != "result":  # which has to come again if its end gets lost
                            listening.last = max(listening.last, frame.header.get("number") or 0)
                        yield frame
            except asyncio.CancelledError:
                self._loop.aside(self._connection.json("DELETE", f"jobs/{job}"))
                raise

    @contextlib.contextmanager
    def _stopping(self, job: str, stop: asyncio.Event | None) -> Iterator[None]:
        """Tell the server when whoever waits wants what is there."""

        async def pass_on(wanted: asyncio.Event) -> None:
            await wanted.wait()
            await self._connection.json("POST", f"jobs/{job}/stop")

        task = None if stop is None else asyncio.ensure_future(pass_on(stop))
        try:
            yield
        finally:
            if task is not None:
                task.cancel()

    async def _asking(self, path: str, body: Frame | None, method: str = "POST") -> AsyncGenerator[Frame, None]:
        """The frames of a reply; an error among them is raised as Refused."""
        async with aclosing(self._connection.frames(method, path, body, self._largest_reply)) as frames:
            async for frame in frames:
                if frame.header.get("event") == "error":
                    raise Refused(events.Failure.from_json(frame.header.get("error")))
                yield frame

    def _keep(self, request_id: str, answer: Prediction) -> None:
        self._kept[request_id] = answer
        while sum(kept.mask.nbytes for kept in self._kept.values()) > _KEPT and len(self._kept) > 1:
            self._kept.popitem(last=False)


@dataclass
class OpenedImage:
    """An image, how many opened it, and what it is at the server, if it is known there."""

    volume: Volume
    users: int = 0
    remote: RemoteImage | None = None
