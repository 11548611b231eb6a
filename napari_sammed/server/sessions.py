"""Sessions on the server: an image, whose it is, and every question that was answered, on disk before the answer goes.

``sessions/<id>.jsonl`` outlives the process and the lease. What a session remembers in memory, logits above all, can
be computed again from it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import ImageId
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.errors import ProtocolError, SessionDamagedError
from napari_sammed.geometry import Grid
from napari_sammed.server.keys import Client
from napari_sammed.server.refusals import Refusal, not_found, rehydrate
from napari_sammed.session.journal import Journal, read_journal

FORMAT = 1
_ID = re.compile(r"[0-9a-f]{48}")
_LARGEST_FRAME = 1 << 30  # of a question in a journal, which was checked when it came


@dataclass(frozen=True)
class Entry:
    """A question that was answered.

    Parameters
    ----------
    question : Question
    revision : int
        Of the session since then.
    weights : tuple of str
        The hash of the weights of each answer.
    digests : tuple of str
        Of the mask of each answer.
    """

    question: Question
    revision: int
    weights: tuple[str, ...]
    digests: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        frame = self.question.to_frame()
        asked: dict[str, Any] = {"question": frame.header}
        if frame.arrays:
            asked["frame"] = base64.b64encode(frame.encode()).decode("ascii")
        return {**asked, "revision": self.revision, "weights": list(self.weights), "digests": list(self.digests)}

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> Entry:
        """The inverse of `to_json`; SessionDamagedError for anything that is not one."""
        try:
            frame = Frame(item["question"])
            if "frame" in item:
                frame = Frame.decode(base64.b64decode(item["frame"], validate=True), _LARGEST_FRAME)
            return cls(Question.from_frame(frame), item["revision"], tuple(item["weights"]), tuple(item["digests"]))
        except (KeyError, TypeError, ValueError, ProtocolError):
            raise SessionDamagedError("A journal of the server has a line that is no answered question.") from None


class Session:
    """A session that is in use; made by `Sessions`.

    Attributes
    ----------
    id : str
    client : str
        Hash of the key that it belongs to.
    image : ImageId
    grid : Grid
        Of the image.
    revision : int
        How many questions of the kind "predict" were answered.
    entries : dict of str to Entry
        By request id, in order.
    lock : asyncio.Lock
        Held from the check of the revision to the line in the journal.
    busy : int
        How many requests use it now.
    closed : bool
        Whether it was ended meanwhile.
    """

    def __init__(
        self, id: str, client: str, image: ImageId, grid: Grid, journal: Journal, disk: ThreadPoolExecutor
    ) -> None:
        self.id = id
        self.client = client
        self.image = image
        self.grid = grid
        self.lock = asyncio.Lock()
        self.busy = 0
        self.closed = False
        self.used = time.monotonic()
        self._journal = journal
        self._disk = disk
        self.entries = {
            entry.question.request_id: entry for entry in (Entry.from_json(line) for line in journal.entries)
        }
        self.revision = max((entry.revision for entry in self.entries.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Of the journal."""
        return self._journal.path.stat().st_size

    async def record(self, entry: Entry) -> None:
        """Have an answered question on disk, then in memory; hold the lock. Not stopped by a cancelled task."""

        async def write() -> None:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._journal.append, entry.to_json())
            self.entries[entry.question.request_id] = entry
            self.revision = entry.revision

        writing = asyncio.ensure_future(write())
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    def close(self) -> None:
        self.closed = True
        self._journal.close()


def is_id(text: str) -> bool:
    """Whether a session may have this id."""
    return _ID.fullmatch(text) is not None


def sweep_journals(folder: Path, keep: float, in_use: Container[str]) -> None:
    """Delete journals that nobody wrote to for so many seconds, but those of sessions in use."""
    oldest = time.time() - keep
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest and path.stem not in in_use:
                path.unlink()


class Sessions:
    """All sessions in a folder; belongs to one event loop.

    Parameters
    ----------
    folder : Path
        Made if absent.
    open_image, close_image : callable
        Make an image known to the backend, by its id, which also gives its grid, and forget it; on any thread.
    most : int
        Sessions of one client in use; for a further one the longest unused is put aside.
    """

    def __init__(
        self,
        folder: Path,
        open_image: Callable[[str], tuple[ImageId, Grid]],
        close_image: Callable[[ImageId], None],
        most: int,
    ) -> None:
        self._folder = folder
        self._open_image = open_image
        self._close_image = close_image
        self._most = most
        self._open: dict[str, Session] = {}
        self._gate = asyncio.Lock()  # one journal is never opened twice, nor opened while it is closed
        self._disk = ThreadPoolExecutor(4, "napari-sammed-journals")  # which never waits for images that come in
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of those in use."""
        return tuple(self._open)

    async def create(self, client: Client, image: str) -> Session:
        """A new session; Refusal "no_image" if the image has to be sent first."""
        id = secrets.token_hex(24)
        header = {"server": FORMAT, "image": image, "client": client.id}
        session = await self._start(id, lambda: Journal(self._path(id), header), new=True)
        async with self._gate:
            await self._make_room(client.id)
        return session

    async def get(self, client: Client, id: str) -> Session:
        """A client's session, read from its journal if it was put aside or the server was restarted.

        Raises
        ------
        Refusal
            "rehydrate" if nothing is known of it (any more), "not_found" if it is somebody else's.
        """
        if not is_id(id):
            raise rehydrate()
        session = self._open.get(id)
        if session is None:
            session = await self._revived(id)
        if not hmac.compare_digest(session.client, client.id):
            raise not_found("session")
        session.used = time.monotonic()
        return session

    async def _revived(self, id: str) -> Session:
        async with self._gate:
            try:
                session = self._open.get(id) or await self._start(id, lambda: self._read(id))
            except Refusal as refusal:
                raise rehydrate() if refusal.failure.code == "no_image" else refusal from None
            session.busy += 1  # it is not the one that makes room
            await self._make_room(session.client)
            session.busy -= 1
            return session

    async def delete(self, session: Session) -> None:
        """End a session and its journal."""
        async with session.lock, self._gate:
            await self._put_aside(session)
            await asyncio.to_thread(self._path(session.id).unlink, missing_ok=True)

    async def put_aside(self, since: float) -> list[str]:
        """Free what sessions take in memory that nobody used for so many seconds; their journals stay."""
        oldest = time.monotonic() - since
        async with self._gate:
            unused = [s for s in self._open.values() if s.used <= oldest and not s.busy]
            for session in unused:
                await self._put_aside(session)
        return [session.id for session in unused]

    async def _put_aside(self, session: Session) -> None:
        if self._open.pop(session.id, None) is not None:
            await asyncio.to_thread(session.close)
            await asyncio.to_thread(self._close_image, session.image)

    async def close(self) -> None:
        """Close all journals; call it when nothing runs any more."""
        async with self._gate:
            for session in list(self._open.values()):
                await self._put_aside(session)
        self._disk.shutdown(wait=False)

    def sweep(self, keep: float) -> None:
        """Delete journals that nobody wrote to for so many seconds; on any thread."""
        sweep_journals(self._folder, keep, self._open)

    async def _start(self, id: str, open_journal: Callable[[], Journal], *, new: bool = False) -> Session:
        def start() -> tuple[Journal, ImageId, Grid]:
            journal = open_journal()
            try:
                return journal, *self._open_image(journal.header["image"])
            except BaseException:
                journal.close()
                if new:
                    journal.path.unlink(missing_ok=True)
                raise

        journal, image, grid = await asyncio.get_running_loop().run_in_executor(self._disk, start)
        try:
            session = Session(id, journal.header["client"], image, grid, journal, self._disk)
        except BaseException:
            journal.close()
            await asyncio.to_thread(self._close_image, image)
            raise
        self._open[id] = session
        return session

    async def _make_room(self, client: str) -> None:
        """Put the longest unused sessions of a client aside where it has too many; with the gate closed."""
        own = [session for session in self._open.values() if session.client == client and not session.busy]
        for session in sorted(own, key=lambda session: session.used)[: max(0, len(own) - self._most)]:
            await self._put_aside(session)

    def _read(self, id: str) -> Journal:
        path = self._path(id)
        if not path.exists():
            raise rehydrate()
        header, _ = read_journal(path)
        if header.get("server") != FORMAT or not isinstance(header.get("client"), str):
            raise rehydrate()
        return Journal(path, {"image": header["image"]})

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.jsonl"
