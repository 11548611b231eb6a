"""Opening sessions: about which nodes, and what is done for it beside the main thread."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from . import volumes
from .segments import Target

if TYPE_CHECKING:
    from napari_sammed.backend.base import Backend
    from napari_sammed.session import Session
    from napari_sammed.volume import Volume

    from .scene_session import SceneSession


@dataclass(eq=False)
class Pair:
    """A pair of nodes that is open, or about to be."""

    volume: slicer.vtkMRMLVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    target: Target
    voxels: volumes.State
    session: SceneSession | None = None
    broken: BaseException | None = None
    wanted: str = ""  # the segment to go on with
    unanswered: bool = False  # a question has no answer for reasons that lie with the backend

    @property
    def alive(self) -> bool:
        return self.volume.GetScene() is not None and self.segmentation.GetScene() is not None


@dataclass(frozen=True)
class Opened:
    """A session that was opened.

    Parameters
    ----------
    session : Session
    understood : bool
        False if it was to go on from lines of a journal that make no sense; it is empty then.
    journal : Path
        Its file.
    """

    session: Session
    understood: bool
    journal: Path


class Opener:
    """Everything that it is asked is done one after the other, on a thread of its own.

    Parameters
    ----------
    make_backend : callable
        Makes the backend when the first session is opened.
    """

    def __init__(self, make_backend: Callable[[], Backend]) -> None:
        self._make_backend = make_backend
        self._backend: Backend | None = None
        self._thread = ThreadPoolExecutor(1, "sammed")
        self._folder = tempfile.TemporaryDirectory(prefix="sammed-")
        self._files = 0

    def open(self, image: Volume, lines: list[str]) -> Future[Opened]:
        """Open a session that goes on from a journal's lines, if there are any."""
        self._files += 1
        journal = Path(self._folder.name) / f"{self._files}.jsonl"
        return self._thread.submit(self._make_session, image, journal, lines)

    def end(self, session: Session) -> None:
        """Close a session."""
        self._thread.submit(session.close)

    def exchange(self, make_backend: Callable[[], Backend]) -> None:
        """Have sessions opened at another backend from now on, after those of the old one have been ended."""
        self._thread.submit(self._exchange, make_backend)

    def close(self) -> None:
        """End the backend; sessions are ended before."""
        self.exchange(self._make_backend)
        self._thread.submit(self._folder.cleanup)
        self._thread.shutdown(wait=False)

    def _make_session(self, image: Volume, journal: Path, lines: list[str]) -> Opened:
        from napari_sammed.errors import InputError
        from napari_sammed.session import Session

        if self._backend is None:
            self._backend = self._make_backend()
        if lines:
            try:
                header = json.loads(lines[0])
                if header["shape"] == list(image.grid.shape):
                    header["image"] = image.hash  # a saved scene has other last digits in its matrices
                    text = "\n".join([json.dumps(header), *lines[1:]]) + "\n"
                    journal.write_text(text, encoding="utf-8")
                    return Opened(Session(image, self._backend, journal=journal), True, journal)
            except (InputError, KeyError, ValueError):
                journal.unlink(missing_ok=True)
        return Opened(Session(image, self._backend, journal=journal), not lines, journal)

    def _exchange(self, make_backend: Callable[[], Backend]) -> None:
        backend, self._backend = self._backend, None
        self._make_backend = make_backend
        end = getattr(backend, "shutdown", None)
        if end is not None and hasattr(backend, "host"):  # a server that hangs must not hold up what comes next
            threading.Thread(target=end, name="sammed-farewell", daemon=True).start()
        elif end is not None:
            end()


def local_backend(device: str = "auto") -> Backend:
    """The backend in this process."""
    from napari_sammed.backend.local import LocalBackend

    return LocalBackend(device)
