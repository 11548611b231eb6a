"""The sessions of one viewer: the open one, and those of frames that the user has just left."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from napari_sammed.backend.base import Backend
from napari_sammed.plugin.gui_thread import Background
from napari_sammed.plugin.sessions.opening import Opened, Opener, close_session, open_session
from napari_sammed.session import Session

if TYPE_CHECKING:
    from napari_sammed.plugin.image.image_view import ImageView

MOST = 8
"""Sessions that are kept at most, those with an answer on its way not counted."""

MOST_BYTES = 1 << 30
"""Of their images together."""


class Sessions:
    """Opens and closes sessions in the background; what is kept answers what was asked, and is back at once.

    A kept session stays open in the backend, with its embeddings. It is found by what its image is, voxel for voxel, so
    that a frame that was changed meanwhile is another image, and equal frames are one.

    Parameters
    ----------
    backend : Backend
        Which may be another one later: of the sessions that are opened from then on.
    background : Background
        Its one thread alone uses what is kept.
    """

    def __init__(self, backend: Backend, background: Background) -> None:
        self.backend = backend
        self._background = background
        self._kept: dict[str, Session] = {}  # by the hash of the image, the one that was left last at the end

    def open(self, view: ImageView, then: Callable[[Future[Opened]], None], opener: Opener = open_session) -> None:
        """Open the session of an image, or take it back, and hand it over on the GUI thread."""
        self._background.run(lambda: opener(view, self.backend, self._kept), then)

    def keep(self, session: Session) -> None:
        """The user has turned to another frame."""
        self._background.run(lambda: self._keep(session))

    def kept(self, then: Callable[[Future[dict[str, Session]]], None]) -> None:
        """Hand over, on the GUI thread, those that are kept, by the hash of the image."""
        self._background.run(lambda: dict(self._kept), then)

    def close(self, session: Session) -> None:
        """Stop what a session is doing, and close it."""
        session.cancel()
        self._background.run(lambda: close_session(session))

    def clear(self) -> None:
        """Close all that are kept."""
        self._background.run(lambda: self._shrink(0, 0, lambda session: session.cancel()))

    def _keep(self, session: Session) -> None:
        self._kept[session.image.hash] = session
        self._shrink(MOST, MOST_BYTES)

    def _shrink(self, most: int, most_bytes: int, stop: Callable[[Session], None] | None = None) -> None:
        size = sum(session.image.nbytes for session in self._kept.values())
        for key, session in list(self._kept.items()):
            if len(self._kept) <= most and size <= most_bytes:
                break
            if stop is not None:
                stop(session)
            elif session.busy:
                continue
            size -= session.image.nbytes
            close_session(self._kept.pop(key))
