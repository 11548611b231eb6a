"""What one server process does: images, sessions, questions and jobs. Knows nothing of HTTP.

A question is answered in this order: it finds its session; waits until nobody else writes to it; is compared with the
session's revision; waits for its turn among the clients; is computed; is written to the journal, on the disk; only then
the answer goes out. A question that is in the journal already is answered again and counted once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from napari_sammed.backend.base import Backend, ClassMap, ImageId, Prediction, Progress
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol import events
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.errors import InputError, NotReady
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.models.base import ModelCard
from napari_sammed.server import asking
from napari_sammed.server.answers import Answers, logits_of
from napari_sammed.server.hints import MOST, Hints
from napari_sammed.server.images import ImageStore
from napari_sammed.server.jobs import Job, Jobs
from napari_sammed.server.keys import Client
from napari_sammed.server.lanes import Allowances, Lane, outcome
from napari_sammed.server.metrics import Metrics
from napari_sammed.server.refusals import Refusal, noted, rehydrate
from napari_sammed.server.sessions import Session, Sessions
from napari_sammed.server.settings import Settings

_log = logging.getLogger(__name__)
_MODELS_KNOWN = 10.0  # seconds for which the disk is not asked again which models are there
_ROUND = 5.0  # seconds between two looks at what nobody uses
_SWEEP = 3600.0  # seconds between two looks at old images and journals
_POISONED = "CUDA error"  # after one of these (but for lack of memory), nothing works on the GPU in this process


class Core:
    """A running server; belongs to one event loop.

    Parameters
    ----------
    settings : Settings
    backend : Backend, optional
        Default: one of this machine, as the settings say.
    shared : bool
        Whether others use the data folder, too: who shares it with them deletes nothing that is old.

    Attributes
    ----------
    images : ImageStore
    jobs : Jobs
    stopping : asyncio.Event
        Nothing new is begun any more.
    metrics : Metrics
    lanes : tuple of Lane
    answers : Answers
    failed : asyncio.Event
        The process has to be started anew: its GPU does not answer any more.
    """

    def __init__(self, settings: Settings, backend: Backend | None = None, *, shared: bool = False) -> None:
        limits = settings.limits
        self.settings = settings
        self.backend = backend or LocalBackend(
            settings.device,
            precision=settings.precision,
            weights=settings.weights,
            cache_bytes=limits.embeddings,
        )
        self._shared = shared
        self.images = ImageStore(settings.data / "images", limits.image, limits.disk, limits.keep, shared=shared)
        self.sessions = Sessions(settings.data / "sessions", self._open, self._close, limits.sessions)
        self.jobs = Jobs(limits.unheard, limits.job_events, self.refused)
        self.stopping = asyncio.Event()
        self.failed = asyncio.Event()
        self.metrics = Metrics()
        self._clicks = Lane("clicks", 1, limits.waiting, self.metrics, Allowances())
        self._long = Lane("jobs", limits.jobs, limits.waiting, self.metrics)
        self._aside = Lane("aside", 1, limits.waiting, self.metrics)
        self.lanes = (self._clicks, self._long, self._aside)
        self.answers = Answers(self.backend, self._clicks, limits.answers)
        self._running: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._previews: dict[str, asyncio.Task[Any]] = {}
        self._hints = Hints()
        self._cards: tuple[float, dict[str, ModelCard]] = (-_MODELS_KNOWN, {})
        self._rounds: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look after what nobody uses."""
        self._rounds = asyncio.create_task(self._look_after())

    async def close(self) -> None:
        """End everything that runs, and leave the journals as they are."""
        self.stopping.set()
        if self._rounds is not None:
            self._rounds.cancel()
        running = [*self._running.values(), *self._previews.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(self.jobs.close(), *running, return_exceptions=True)
        for lane in self.lanes:
            lane.close()
        await self.sessions.close()
        if isinstance(self.backend, LocalBackend):
            await asyncio.to_thread(self.backend.shutdown)

    async def models(self) -> dict[str, ModelCard]:
        """Cards, by name, of the models that can answer here."""
        when, cards = self._cards
        if time.monotonic() - when > _MODELS_KNOWN:
            cards = await asyncio.to_thread(asking.available, self.backend)
            self._cards = (time.monotonic(), cards)
        return cards

    async def open_session(self, client: Client, image: str) -> Session:
        """A new session of a client; Refusal "no_image" if the image has to be sent first."""
        self._check_open()
        return await self.sessions.create(client, image)

    @contextlib.asynccontextmanager
    async def session(self, client: Client, id: str) -> AsyncIterator[Session]:
        """A client's session, which is not put aside meanwhile; refusals as of `Sessions.get`."""
        self._check_open()
        session = await self.sessions.get(client, id)
        session.busy += 1
        try:
            yield session
        finally:
            session.busy -= 1
            session.used = time.monotonic()

    async def delete_session(self, client: Client, id: str) -> None:
        """End a session and its journal."""
        async with self.session(client, id) as session:
            await self.sessions.delete(session)
            self._forget(id)

    async def predict(
        self, client: Client, id: str, question: Question, progress: Progress | None = None
    ) -> tuple[int, Prediction, Prediction | None]:
        """Answer prompts: the revision since, the answer, and the earlier one that the client has, if it is known.

        Raises
        ------
        Refusal
            "stale", "rehydrate", "not_found", "busy", "cancelled".
        InputError, WeightsError
        """
        _check_kind(question, "predict")
        if question.revision is None:
            raise Refusal("bad_request", "A question of the kind predict says at which revision it is put.")
        async with self.session(client, id) as session, session.lock:
            if session.closed:
                raise rehydrate()
            entry = session.entries.get(question.request_id)
            if entry is not None:
                answers = await self.answers.again(client, session, entry, question)
            else:
                if question.revision != session.revision:
                    raise Refusal(
                        "stale",
                        f"The session is at revision {session.revision}, not {question.revision}.",
                        revision=session.revision,
                    )
                await self._check(session, question)
                answers = await self.answers.first(client, session, question, progress)
                entry = session.entries[question.request_id]
            base = None if question.base is None else self.answers.kept(session, question.base)
            return entry.revision, answers[0], None if base is None else base.answers[0]

    async def preview(self, client: Client, id: str, question: Question) -> Prediction:
        """Answer prompts while nobody waits and nothing changes; a newer preview of the session ends an older one.

        Raises
        ------
        Refusal
        InputError
        NotReady
        """
        if question.kind not in ("predict", "refine"):
            raise Refusal("bad_request", f"There are no previews of the kind {question.kind}.")
        async with self.session(client, id) as session:
            await self._check(session, question)
            reference, previous = question.previous, None
            if reference is not None:
                kept = self.answers.kept(session, reference.request)
                if kept is None:
                    raise NotReady
                previous = logits_of(kept, reference)
            cancel = threading.Event()

            def work() -> Any:
                return asking.put(
                    self.backend, session.image, question, previous, idle=True, cancel=cancel, progress=None
                )

            earlier = self._previews.get(session.id)
            if earlier is not None:
                earlier.cancel()
            task = asyncio.ensure_future(self._aside.run(client.id, session.id, work, cancel, "preview"))
            self._previews[session.id] = task
            try:
                return (await outcome(task))[0]
            finally:
                if self._previews.get(session.id) is task:
                    del self._previews[session.id]

    async def start_job(self, client: Client, id: str, question: Question) -> Job:
        """Begin what takes longer; refusals of what cannot be asked come at once, all others as the last event."""
        if question.kind == "predict":
            raise Refusal("bad_request", "Questions of the kind predict are no jobs.")
        async with self.session(client, id) as session:
            await self._check(session, question)

        async def work(job: Job) -> Frame:
            async with self.session(client, id) as session:
                entry = session.entries.get(question.request_id)
                if entry is not None and question.kind == "predict_boxes":
                    return events.result(await self.answers.again(client, session, entry, question), session.revision)
                return events.result(await self._run_job(client, session, question, job), session.revision)

        return self.jobs.start(client, id, question.request_id, work)

    async def prefetch(
        self, client: Client, id: str, model: str, regions: list[Box], window: Window
    ) -> list[Future[None]]:
        """Take a hint that parts of the image may be asked about soon; each is done when it is encoded."""
        if not 1 <= len(regions) <= MOST:
            raise Refusal("bad_request", f"A hint names 1 to {MOST} regions, not {len(regions)}.")
        async with self.session(client, id) as session:
            for region in regions:
                asking.check_region(region, session.grid)
            await self._check_model(model)
            parts = await asyncio.to_thread(self.backend.prefetch, session.image, model, regions, window)
            self._hints.add(session.id, parts)
            return parts

    async def restore(self, client: Client, id: str, reference: LogitsReference) -> np.ndarray:
        """Logits of an answer on the image grid, float32; see `napari_sammed.backend.base.Backend.restore`."""
        async with self.session(client, id) as session:
            kept = await self.answers.recall(client, session, reference.request)
            logits, model = logits_of(kept, reference), session.entries[reference.request].question.model
            if logits is None:
                raise Refusal("bad_request", "This answer has no logits.")
            cancel = threading.Event()
            return await self._aside.run(
                client.id,
                session.id,
                lambda: np.asarray(self.backend.restore(model, logits), np.float32),
                cancel,
                "restore",
            )

    def running(self, client: Client, request_id: str, task: asyncio.Task[Any]) -> None:
        """Have `cancel` reach a task under the id of a request, as long as it runs."""
        key = (client.id, request_id)
        self._running[key] = task

        def ended(_: object) -> None:
            if self._running.get(key) is task:
                del self._running[key]

        task.add_done_callback(ended)

    def cancel(self, client: Client, request_id: str) -> bool:
        """End a running question of a client; says whether there was one."""
        task = self._running.get((client.id, request_id))
        return task is not None and task.cancel()

    def refused(self, error: BaseException) -> Refusal:
        """What to tell a client of an exception; a defect is written to the log, without the values it speaks of."""
        refusal = noted(error)
        self.metrics.refused(refusal.failure.code)
        if refusal.failure.code == "internal" and _POISONED in str(error):
            _log.critical("The GPU does not answer any more: the server ends, to be started anew.")
            self.failed.set()
        return refusal

    async def _run_job(
        self, client: Client, session: Session, question: Question, job: Job
    ) -> tuple[Prediction, ...] | ClassMap:
        how: dict[str, Any] = {}
        if question.kind == "propagate":
            how = {"stop": job.stop, "partial": lambda part: job.tell(events.partial(part))}
        found = await self.answers.compute(
            client,
            session,
            question,
            None,
            lambda what, share: job.tell(events.progress(what, share)),
            job.cancel,
            self._long,
            **how,
        )
        async with session.lock:
            if session.closed:
                raise rehydrate()
            if question.request_id not in session.entries:
                await self.answers.keep(session, question, found, session.revision)
        return found

    async def _check(self, session: Session, question: Question) -> None:
        """Refuse what the image does not have, and models that are not here."""
        asking.check(question, session.grid)
        await self._check_model(question.model)

    async def _check_model(self, name: str) -> None:
        asking.check_available(self.backend, name, await self.models())

    def _forget(self, id: str) -> None:
        self.answers.forget(id)
        self._hints.forget(id)

    def _open(self, image: str) -> tuple[ImageId, Grid]:
        volume = self.images.open(image)
        try:
            return self.backend.open(volume), volume.grid
        except InputError:
            self.images.release(image)
            raise

    def _close(self, image: ImageId) -> None:
        self.backend.close(image)
        self.images.release(image)

    def _check_open(self) -> None:
        if self.stopping.is_set():
            raise Refusal("unavailable", "The server is being stopped: try again in a while.", retry_after=5)

    async def _look_after(self) -> None:
        limits, swept = self.settings.limits, -_SWEEP
        while True:
            try:
                self.jobs.sweep()
                for id in await self.sessions.put_aside(limits.idle):
                    self._forget(id)
                if self._shared:
                    await asyncio.to_thread(self.images.touch)
                elif time.monotonic() - swept > _SWEEP:
                    swept = time.monotonic()
                    await asyncio.to_thread(self.images.sweep)
                    await asyncio.to_thread(self.sessions.sweep, limits.keep)
            except Exception as error:
                self.refused(error)
            await asyncio.sleep(_ROUND)


def _check_kind(question: Question, kind: str) -> None:
    if question.kind != kind:
        raise Refusal("bad_request", f"This is for questions of the kind {kind}, not {question.kind}.")
