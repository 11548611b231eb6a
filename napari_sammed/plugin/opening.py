"""Opening the session of an image layer, and closing it; both take long for large images, so not on the GUI thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sammed.backend.base import Backend
from napari_sammed.plugin.images import volume_of
from napari_sammed.plugin.journals import journal_of, remove_if_empty
from napari_sammed.session import Session

if TYPE_CHECKING:
    from napari.layers import Image


def open_session(layer: Image, backend: Backend) -> Session:
    """The session of an image layer; continues what was done to the same image before.

    Raises
    ------
    InputError
        If the image cannot be segmented, or its journal cannot be read or written.
    """
    volume = volume_of(layer)
    path = layer.source.path
    return Session(volume, backend, journal=journal_of(volume.hash), source={"path": str(path)} if path else {})


def close_session(session: Session) -> None:
    """Close a session; leaves no journal behind in which nothing was done."""
    session.close()
    remove_if_empty(journal_of(session.image.hash))
