"""One image at a server: sent once, asked about in a session that is opened anew wherever it got lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_sammed.backend.base import Partial, Prediction, Progress
from napari_sammed.backend.protocol import events, values
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.images import ImageHeader, image_frames
from napari_sammed.backend.protocol.questions import Question, new_request_id
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.backend.remote_connection import Connection, Refused
from napari_sammed.backend.remote_loop import Loop, Tell
from napari_sammed.errors import InputError, NotReady, ProtocolError, ServerError
from napari_sammed.volume import Volume

_ROUNDS = 12  # how often one question is put anew because a session was lost or is at another revision
_KEPT = 64 << 20  # bytes of masks that later answers may be told by their difference from
_GRACE = 3.0  # s that an image is still being sent for after the last one who waited for it has left


@dataclass
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
        self.users = 1
        self.volume = image
        self.header = ImageHeader.of(image)
        self._connection = connection
        self._loop = loop
        self._limits = limits
        self._largest_reply = max(64 << 20, 16 * image.array.size)
        self._session: str | None = None
        self._revision = 0
        self._turn = asyncio.Lock()  # predictions one after another, as each raises the revision
        self._asked: dict[str, _Asked] = {}
        self._kept: OrderedDict[str, Prediction] = OrderedDict()
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Listening] = []  # for the opening

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
        if self._session is None:
            raise NotReady
        found = None
        try:
            async with aclosing(self._asking(f"sessions/{self._session}/preview", question.to_frame())) as frames:
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
            session = await self._opened(listening)
            found: list[np.ndarray] = []
            async with aclosing(self._asking(f"sessions/{session}/restore", body)) as frames:
                async for frame in frames:
                    found += frame.arrays
            if len(found) != 1:
                raise ProtocolError("A reply had no logits in it.")
            return found[0].astype(np.float32)

        async with self._turn:
            for _ in range(_ROUNDS):
                try:
                    return await self._connection.again(attempt, listening.progressed)
                except Refused as refused:
                    self._mend(refused, listening)
                    await self._known(reference, listening)
        raise self._given_up()

    async def prefetch(self, header: dict[str, Any]) -> None:
        """Pass on a hint; it may get lost."""
        if self._session is not None:
            await self._connection.json("POST", f"sessions/{self._session}/prefetch", header)

    async def send_ahead(self) -> None:
        """Send the image before anybody asks; what goes wrong is told to those who ask."""
        with contextlib.suppress(Refused, InputError):
            await asyncio.shield(self._begun())

    def close(self) -> None:
        """End sending, and the session."""
        if self._opening is not None:
            self._opening.cancel()
        if self._session is not None:
            self._loop.aside(self._connection.json("DELETE", f"sessions/{self._session}"))
            self._session = None

    async def _answers(self, question: Question, listening: Listening) -> Any:
        """Put a question until it is answered, whatever has to be mended for that."""
        for count in range(_ROUNDS):
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
        raise self._given_up()

    def _mend(self, refused: Refused, listening: Listening) -> None:
        """Do what a refusal asks for before the next attempt, or raise the error that it means."""
        failure = refused.failure
        if failure.code == "stale":
            self._revision = values.whole(failure.extras.get("revision"))  # an answer of ours got lost on its way
        elif failure.code in ("rehydrate", "not_found"):
            listening.progressed(f"opening the session at {self._connection.host} anew")
            if listening.session == self._session:  # else somebody has done it meanwhile
                self._session = None
        else:
            raise self._connection.error(failure) from None

    async def _known(self, reference: LogitsReference, listening: Listening) -> bool:
        """Have a new session know an earlier answer; says whether it is the one that it was."""
        if self._session is not None:
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
        session = listening.session = await self._opened(listening)
        base = None if question.previous is None or question.previous.answer else question.previous.request
        kept = None if base is None else self._kept.get(base)
        question = question.at(self._revision, None if kept is None else base)
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
                        self._revision = max(self._revision, events.read_revision(frame) or 0)
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

    async def _opened(self, listening: Listening) -> str:
        """The session, opened if need be, for which the image is sent if need be."""
        while self._session is None:
            opening = self._begun()
            self._waiting.append(listening)
            try:
                await asyncio.shield(opening)
            finally:
                self._waiting.remove(listening)
                if not self._waiting:
                    asyncio.get_running_loop().call_later(_GRACE, self._unwanted, opening)
        return self._session

    def _begun(self) -> asyncio.Task[None]:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
        return self._opening

    def _unwanted(self, opening: asyncio.Task[None]) -> None:
        """Nobody waits any more, since a while: a newer prompt takes over what an older one began."""
        if not self._waiting:
            opening.cancel()

    async def _open(self) -> None:
        for _ in range(_ROUNDS):
            try:
                reply = await self._connection.again(
                    lambda: self._connection.json("POST", "sessions", {"image": self.header.id}), self._tell_all
                )
            except Refused as refused:
                if refused.failure.code != "no_image":
                    raise
                await self._connection.again(self._send, self._tell_all)
                continue
            self._revision = values.whole(reply.get("revision"))
            self._session = values.text(reply.get("session"), 200)
            return
        raise self._given_up()

    async def _send(self) -> None:
        host, size = self._connection.host, self.header.nbytes
        most = (await self._limits()).get("image")
        if isinstance(most, int) and size > most:
            raise InputError(
                f"{host} takes images of up to {most / 2**20:,.0f} MiB, and this one has {size / 2**20:,.0f} MiB: crop "
                "it, or use this machine."
            )
        frames = image_frames(self.volume, self.header)
        loop = asyncio.get_running_loop()

        async def body() -> AsyncGenerator[bytes, None]:
            while (item := await loop.run_in_executor(None, next, frames, None)) is not None:
                data, share = item
                done = f"{share * size / 2**20:,.0f} of {size / 2**20:,.0f} MiB"
                self._tell_all(f"sending the image to {host}, {done}", share)
                yield data

        try:
            await self._connection.send(f"images/{self.header.id}", body())
        finally:
            loop.run_in_executor(None, _closed, frames)

    def _tell_all(self, what: str, share: float | None = None) -> None:
        for listening in self._waiting:
            listening.progressed(what, share)

    def _keep(self, request_id: str, answer: Prediction) -> None:
        self._kept[request_id] = answer
        while sum(kept.mask.nbytes for kept in self._kept.values()) > _KEPT and len(self._kept) > 1:
            self._kept.popitem(last=False)

    def _given_up(self) -> ServerError:
        return ServerError(f"{self._connection.host} loses its sessions again and again: tell whoever runs it.")


def _closed(frames: Any) -> None:
    """End a generator that may still run on another thread."""
    for _ in range(100):
        try:
            frames.close()
            return
        except ValueError:
            time.sleep(0.05)
