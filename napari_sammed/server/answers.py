"""The answers of sessions: new ones, and ones of before, computed again where nothing of them is in memory."""

from __future__ import annotations

import logging
import threading
from typing import Any

from napari_sammed.backend.base import Backend, Cancel, ClassMap, Prediction, Progress
from napari_sammed.backend.cache import ByteCache
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.models.base import Logits
from napari_sammed.server import asking
from napari_sammed.server.asking import Kept
from napari_sammed.server.keys import Client
from napari_sammed.server.lanes import Lane
from napari_sammed.server.refusals import Refusal, rehydrate
from napari_sammed.server.sessions import Entry, Session

_log = logging.getLogger(__name__)
_LARGEST_JOURNAL = 256 << 20
_STARTS = ("predict", "predict_boxes")  # kinds with logits that further questions start from


class Answers:
    """Computes answers and keeps them; belongs to one event loop.

    Parameters
    ----------
    backend : Backend
    lane : Lane
        Of clicks.
    limit : int
        Bytes of answers, logits above all, that are kept in memory.

    Attributes
    ----------
    cache : ByteCache
    """

    def __init__(self, backend: Backend, lane: Lane, limit: int) -> None:
        self._backend = backend
        self._lane = lane
        self.cache: ByteCache[Kept] = ByteCache(limit)

    def kept(self, session: Session, request_id: str) -> Kept | None:
        """The answers to an earlier question, if they are in memory."""
        return self.cache.get((session.id, request_id))

    def forget(self, session_id: str) -> None:
        """Free the memory that the answers of a session take."""
        self.cache.discard(session_id)

    async def first(
        self, client: Client, session: Session, question: Question, progress: Progress | None
    ) -> tuple[Prediction, ...]:
        """The answer to a question that is new, on disk."""
        if session.nbytes > _LARGEST_JOURNAL:
            raise Refusal("no_room", "The session has grown too long: open a new one.")
        previous = None
        if question.previous is not None:
            previous = logits_of(await self.recall(client, session, question.previous.request), question.previous)
        answers = await self.compute(client, session, question, previous, progress)
        await self.keep(session, question, answers, session.revision + 1)
        return answers

    async def again(self, client: Client, session: Session, entry: Entry, question: Question) -> tuple[Prediction, ...]:
        """The answer to a question that was answered before."""
        if not asking.same(entry.question, question):
            raise Refusal("bad_request", f"Another question has the request id {question.request_id} already.")
        return (await self.recall(client, session, question.request_id)).answers

    async def recall(self, client: Client, session: Session, request_id: str) -> Kept:
        """The answers to an earlier question with their logits; computed again if need be.

        Raises
        ------
        Refusal
            "rehydrate" if the journal does not know the question, or other weights than now have answered then.
        """
        chain: list[Entry] = []
        kept = self.cache.get((session.id, request_id))
        while kept is None:
            entry = session.entries.get(request_id)
            if entry is None:
                raise rehydrate()
            chain.append(entry)
            if entry.question.previous is None:
                break
            request_id = entry.question.previous.request
            kept = self.cache.get((session.id, request_id))
        for entry in reversed(chain):
            reference = entry.question.previous
            previous = None if reference is None or kept is None else logits_of(kept, reference)
            answers = await self.compute(client, session, entry.question, previous)
            if tuple(answer.weights_hash for answer in answers) != entry.weights:
                raise rehydrate()
            if tuple(map(asking.digest, answers)) != entry.digests:
                _log.warning("An answer came out differently when it was computed again.")
            kept = Kept(answers)
            self.cache.put((session.id, entry.question.request_id), kept)
        assert kept is not None
        return kept

    async def compute(
        self,
        client: Client,
        session: Session,
        question: Question,
        previous: Logits | None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        lane: Lane | None = None,
        **how: Any,
    ) -> Any:
        """What the backend says, after waiting for a place in a lane (that of clicks by default)."""
        cancel = cancel or threading.Event()

        def work() -> Any:
            return asking.put(self._backend, session.image, question, previous, cancel=cancel, progress=progress, **how)

        return await (lane or self._lane).run(client.id, session.id, work, cancel, question.kind)

    async def keep(
        self, session: Session, question: Question, answers: tuple[Prediction, ...] | ClassMap, revision: int
    ) -> None:
        """Have answers on disk and in memory; hold the session's lock."""
        found = (answers,) if isinstance(answers, ClassMap) else answers
        digests = tuple(map(asking.digest, found))
        await session.record(Entry(question, revision, tuple(answer.weights_hash for answer in found), digests))
        if not isinstance(answers, ClassMap) and question.kind in _STARTS:
            self.cache.put((session.id, question.request_id), Kept(answers))


def logits_of(kept: Kept, reference: LogitsReference) -> Logits | None:
    """What a reference means; Refusal "bad_request" if there is no such answer or reading."""
    try:
        return kept.answers[reference.answer].readings[reference.reading].logits
    except IndexError:
        raise Refusal("bad_request", "An earlier question has fewer answers than that.") from None
