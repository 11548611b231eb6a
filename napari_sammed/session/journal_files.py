"""Journals as files: what is in one, what can be rescued of a damaged one, and objects of one session for another."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from napari_sammed.errors import InputError, SessionDamagedError, SessionUnwritableError
from napari_sammed.geometry import Box
from napari_sammed.session.history import History
from napari_sammed.session.journal import in_use, parse_header, read_journal
from napari_sammed.session.records import overlap_of, refill, retrace
from napari_sammed.session.roster import Entry, roster

if TYPE_CHECKING:
    from napari_sammed.session.session import Session


@dataclass(frozen=True)
class Summary:
    """What a session file is about.

    Parameters
    ----------
    path : Path
    image : str
        Hash of the image's voxels and grid.
    shape : tuple of int
        Of the image.
    source : dict
        How the image was read; empty if the file does not say.
    names : tuple of str
        Of the objects that stand.
    changed : datetime
        When the file was written to last, local time.
    """

    path: Path
    image: str
    shape: tuple[int, ...]
    source: dict[str, Any]
    names: tuple[str, ...]
    changed: datetime


def read_header(path: Path) -> dict[str, Any]:
    """The first line of a session file, without reading the rest.

    Raises
    ------
    InputError
        If there is no such file, or it is no session file.
    """
    try:
        with Path(path).open("rb") as file:
            return parse_header(Path(path), file.readline())
    except OSError as error:
        raise InputError(f"The session file {path} cannot be read: {error.strerror}.") from None


def summary(path: Path) -> Summary:
    """What a session file is about; a torn last line does not count.

    Raises
    ------
    InputError
        If it cannot be read, or makes no sense.
    """
    path = Path(path)
    header, standing = objects_in(path)
    names = tuple(entry.name for entry in standing)
    changed = datetime.fromtimestamp(path.stat().st_mtime)
    return Summary(path, header["image"], tuple(header.get("shape", ())), header.get("source") or {}, names, changed)


def objects_in(path: Path) -> tuple[dict[str, Any], list[Entry]]:
    """The first line of a session file, and the objects that stand at its end, without their masks.

    Raises
    ------
    InputError
        If it cannot be read, or makes no sense.
    """
    header, entries = read_journal(path)
    try:
        history = History(Box.of_shape(header["shape"]))
        for entry in entries:
            retrace(history, entry)  # answers are left out, which are most of the file
        return header, list(roster(history.done).values())
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SessionDamagedError(f"The session file {path} makes no sense: {error!r}.") from None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep others from opening a session file for writing while the file itself is moved or exchanged.

    Raises
    ------
    SessionInUseError
    """
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise in_use(path) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def rescue(path: Path, damaged: Path) -> int:
    """Keep what stands before the damage in a session file, and move the file as it was aside.

    Parameters
    ----------
    path : Path
        The damaged session file; afterwards it has the lines before the first that makes no sense. If not even its
        first line does, it is gone.
    damaged : Path
        Where the file goes as it was; must not be there yet.

    Returns
    -------
    int
        Lines that were left out.

    Raises
    ------
    InputError
        If the file is in use, or the files cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with held(path):
        try:
            lines = path.read_bytes().splitlines(keepends=True)
            good = _sound(path, lines)
            damaged.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, damaged)  # a copy first, so that there is no moment without the file
            if good:
                with temporary.open("wb") as file:
                    file.writelines(lines[:good])
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            else:
                path.unlink()
        except OSError as error:
            raise SessionUnwritableError(
                f"The session file {path} is damaged, and what can be rescued of it cannot be written "
                f"({error.strerror}): free some space."
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
    return len(lines) - good


def import_objects(session: Session, path: Path) -> list[int]:
    """Bring the objects of another session's file into a session, as masks to go on from; their labels there.

    Names, classes and colours come along; prompts do not, since they were answered on another image. Each step can be
    undone.

    Raises
    ------
    InputError
        If the file cannot be read, if the images have different shapes, or if there is no mask in it.
    """
    header, entries = read_journal(path)
    shape, own = tuple(header.get("shape", ())), session.image.grid.shape
    if shape != own:
        raise InputError(
            f"The objects of {path} lie on an image of {_size(shape)} voxels, and this one has {_size(own)}: they "
            "cannot be brought over."
        )
    history = History(Box.of_shape(shape), overlap_of(header))
    refill(history, entries)
    states = [state for state in history.objects.values() if state.mask is not None]
    if not states:
        raise InputError(f"No object in {path} has a mask, so there is nothing to bring over.")
    labels = []
    for state in states:
        label = session.take(state.mask, state.name)
        session.classify(label, state.kind)
        session.recolour(label, state.colour)
        labels.append(label)
    return labels


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "an unknown number of"


def _sound(path: Path, lines: list[bytes]) -> int:
    """How many lines from the first one on make sense together."""
    try:
        header = parse_header(path, lines[0] if lines else b"")
        history = History(Box.of_shape(header["shape"]))
    except (SessionDamagedError, KeyError, TypeError):
        return 0
    good = 1
    for raw in lines[1:]:
        try:
            entry = json.loads(raw)
            if not raw.endswith(b"\n") or not isinstance(entry, dict):
                return good
            refill(history, [entry])
        except Exception:  # whatever is wrong with the line: it was not written like that
            return good
        good += 1
    return good
