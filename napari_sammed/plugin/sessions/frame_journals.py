"""The objects of all frames of a layer: those of sessions that are open, and those of journals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError, SessionDamagedError
from napari_sammed.plugin.image.images import spatial_shape, volume_of
from napari_sammed.plugin.sessions.journals import folder, journal_of
from napari_sammed.session import Session
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.frames import Frame, kept_objects
from napari_sammed.session.journal_files import read_header

if TYPE_CHECKING:
    from napari_sammed.plugin.image.image_view import ImageView


def frames_with_objects(
    views: Sequence[ImageView],
    tags: Sequence[str],
    here: tuple[ImageView, Session],
    kept: Mapping[str, Session],
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> list[Frame]:
    """The frames that have objects; each frame is read, for it is known by its voxels. Not for the GUI thread.

    Nothing is read where no session of an image of this shape is kept at all.

    Parameters
    ----------
    views : sequence of ImageView
        The frames; the index of a `Frame` is its place among them.
    tags : sequence of str
        See `Frame`.
    here : ImageView, Session
        The frame that is being segmented.
    kept : mapping of str to Session
        Others that are open, by the hash of the image.
    progress, cancel : optional

    Raises
    ------
    InputError
        If a journal is damaged, or the layer has other axes by now.
    Cancelled
    """
    shape = spatial_shape(views[0])
    known = {*_images_of(shape), *kept}
    found: list[Frame] = []
    for index, (view, tag) in enumerate(zip(views, tags, strict=True)):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(f"looking for the objects of {view.frame} ({index + 1} of {len(views)})", index / len(views))
        frame = None
        if view.same(here[0]):
            frame = Frame.of(index, tag, _held(here[1]))
        elif known:
            frame = _frame(view, index, tag, shape, kept)
        if frame is not None:
            found.append(frame)
    return found


def frames_worked_on(source: Mapping[str, Any]) -> set[int]:
    """Which frames of the file that an image was read from have a journal, as far as journals say so.

    Parameters
    ----------
    source : mapping
        See `napari_sammed.plugin.image.images.source_of`.
    """
    if not source.get("path"):
        return set()
    headers = (header.get("source") or {} for header in _headers())
    return {other["frame"] for other in headers if other.get("path") == source["path"] and "frame" in other}


def _frame(view: ImageView, index: int, tag: str, shape: tuple[int, ...], kept: Mapping[str, Session]) -> Frame | None:
    try:
        if spatial_shape(view) != shape:
            raise IndexError
        key = volume_of(view).hash
    except IndexError:
        raise InputError(f"{view.name} has other frames than when saving began: save again.") from None
    if key in kept:
        return Frame.of(index, tag, _held(kept[key]))
    journal = journal_of(key)
    try:
        return Frame.of(index, tag, partial(kept_objects, journal)) if journal.exists() else None
    except SessionDamagedError as error:
        raise InputError(f"{error} Go to {view.frame} once, where what is sound of it is brought back.") from None


def _held(session: Session) -> Callable[[], Sequence[ObjectState]]:
    """The objects of a session as they are now, whatever happens to them later."""
    with session.reading:
        stack = session.history.stack
    return lambda: stack


def _images_of(shape: tuple[int, ...]) -> set[str]:
    """Hashes of the images of a shape that have a journal."""
    return {str(header["image"]) for header in _headers() if tuple(header.get("shape", ())) == shape}


def _headers() -> list[dict[str, Any]]:
    headers: list[dict[str, Any]] = []
    for path in sorted(Path(folder()).glob("*.jsonl")):
        try:
            headers.append(read_header(path))
        except InputError:  # not one of ours
            continue
    return headers
