"""What takes long around a session, so that it is not for the GUI thread: opening, closing, getting a model ready."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from napari_sammed.backend.base import Backend
from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.plugin.images import volume_of
from napari_sammed.plugin.journals import journal_of, remove_if_empty
from napari_sammed.plugin.preferences import Preferences
from napari_sammed.session import Session

if TYPE_CHECKING:
    from napari_sammed.plugin.image_view import ImageView


def open_session(image: ImageView, backend: Backend, kept: MutableMapping[str, Session]) -> Session:
    """The session of an image; continues what was done to the same image before.

    Parameters
    ----------
    image : ImageView
    backend : Backend
    kept : mutable mapping of str to Session
        Sessions that are still open, by the hash of their image; the one that is wanted is taken out.

    Raises
    ------
    InputError
        If the image cannot be segmented, or its journal cannot be read or written.
    """
    volume = volume_of(image)
    if volume.hash in kept:
        return kept.pop(volume.hash)
    source = {} if image.source.path is None else {"path": str(image.source.path)}
    if source and len(image.at) == 1:
        source["frame"] = image.at[0]
    overlap = Preferences()["overlap"]
    return Session(volume, backend, journal=journal_of(volume.hash), source=source, overlap=overlap)


def close_session(session: Session) -> None:
    """Close a session; leaves no journal behind in which nothing was done."""
    session.close()
    if session.journal is not None:
        remove_if_empty(session.journal)


def get_ready(session: Session, model: str, region: Box, window: Window) -> None:
    """Load a model and let it see what will probably be asked about, so that the first prompt is answered sooner.

    Does nothing where weights would have to be fetched: that waits until the user really asks for something. Errors
    are left to that moment too.
    """
    backend = session.backend
    if isinstance(backend, LocalBackend) and registry.row(model).status != "absent":
        backend.load(model)
        backend.prefetch(session.image_id, model, [region], window)
