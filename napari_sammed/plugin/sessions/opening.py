"""What takes long around a session, so that it is not for the GUI thread: opening, closing, getting a model ready."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_sammed.backend.base import Backend
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import SessionDamagedError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.plugin.image.images import journal_path, source_of, volume_of
from napari_sammed.plugin.layers.warming import warm_up
from napari_sammed.plugin.sessions.journals import (
    before_change,
    bring_back,
    journal_of,
    place_aside,
    remove_if_empty,
    set_aside,
)
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.session import Session
from napari_sammed.session.journal import copy_lines
from napari_sammed.session.journal_files import Summary, rescue, summary
from napari_sammed.volume import Volume

if TYPE_CHECKING:
    from napari_sammed.plugin.image.image_view import ImageView


@dataclass(frozen=True)
class Opened:
    """A session, and what was found when it was opened.

    Parameters
    ----------
    session : Session
    found : Summary, optional
        Of the journal that it goes on with, if that has objects.
    damaged : Path, optional
        Where the journal was moved that turned out to be damaged; the session has what could be rescued.
    lost : int
        Lines of it that could not.
    changed : Summary, optional
        Of the journal about the same file when it had other voxels; only where nothing was done yet as it is now.
    read_only : bool
    """

    session: Session
    found: Summary | None = None
    damaged: Path | None = None
    lost: int = 0
    changed: Summary | None = None
    read_only: bool = False


Opener: TypeAlias = Callable[["ImageView", Backend, MutableMapping[str, Session]], Opened]
"""Opens a session for an image; runs beside the GUI thread, and is given those that are still open."""


def open_session(
    image: ImageView, backend: Backend, kept: MutableMapping[str, Session], *, read_only: bool = False
) -> Opened:
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
    warm_up()

    volume = volume_of(image)
    if volume.hash in kept:
        return Opened(kept.pop(volume.hash))
    return open_volume(volume, source_of(image), backend, journal=journal_path(image), read_only=read_only)


def open_volume(
    volume: Volume, source: dict[str, Any], backend: Backend, *, journal: Path | None = None, read_only: bool = False
) -> Opened:
    """The session of an image; `journal` is another file than the image's own one.

    Raises
    ------
    InputError
        As for `open_session`.
    """
    path = journal or journal_of(volume.hash)
    given = {"journal": path, "source": source, "overlap": Preferences()["overlap"]}
    damaged, lost = None, 0
    try:
        found = summary(path) if path.exists() else None
    except SessionDamagedError:
        if read_only:
            raise
        found = None
    try:
        session = Session(volume, backend, **given, read_only=read_only)
    except SessionDamagedError:
        if read_only:
            raise
        damaged = place_aside(path, "damaged")
        lost = rescue(path, damaged)
        session = Session(volume, backend, **given)
        found = summary(path)
    changed = None if session.objects else before_change(source, volume.hash)
    return Opened(session, found if found and found.names else None, damaged, lost, changed, read_only)


def start_afresh(volume: Volume, source: dict[str, Any], backend: Backend, journal: Path) -> Opened:
    """An empty session; the journal that there was goes to the archive."""
    set_aside(journal)
    return open_volume(volume, source, backend, journal=journal)


def open_earlier(archived: Path, volume: Volume, source: dict[str, Any], backend: Backend, journal: Path) -> Opened:
    """A session of the archive; the journal that there was goes there."""
    bring_back(archived, journal)
    return open_volume(volume, source, backend, journal=journal)


def open_copy(path: Path, volume: Volume, source: dict[str, Any], backend: Backend, journal: Path) -> Opened:
    """Go on in a copy of a session file, which takes the place of the journal; that one is archived.

    The file may be about another image of the same shape, if the user says that it is the same: 3D Slicer gives the
    places of voxels with other last digits.
    """
    if not journal.exists() or not journal.samefile(path):
        set_aside(journal)
        journal.parent.mkdir(parents=True, exist_ok=True)
        copy_lines(path, journal, image=volume.hash)
    return open_volume(volume, source, backend, journal=journal)


def open_itself(path: Path, volume: Volume, source: dict[str, Any], backend: Backend, journal: Path) -> Opened:
    """Go on in a session file, instead of the journal, which stays where it is."""
    return open_volume(volume, source, backend, journal=path)


def move_over(session: Session) -> Opener:
    """Opens a session that is about to be closed again, with the backend that is used by then."""
    volume, source, path, read_only = session.image, session.source, session.journal, session.read_only

    def open_(_: ImageView, backend: Backend, __: MutableMapping[str, Session]) -> Opened:
        opened = open_volume(volume, source, backend, journal=path, read_only=read_only)
        return Opened(opened.session, read_only=read_only)  # nothing in it is news to the user

    return open_


def close_session(session: Session) -> None:
    """Close a session; leaves no journal behind in which nothing was done."""
    session.close()
    if session.journal is not None and not session.read_only:
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
