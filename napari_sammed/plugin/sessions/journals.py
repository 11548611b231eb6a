"""Where the plugin keeps the journals of sessions: one file for each image, found again by the image's hash.

Nothing is ever deleted but journals in which nothing was done: what the user no longer wants goes to an archive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from napari_sammed.errors import InputError, SessionUnwritableError
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.session.journal_files import Summary, held, read_header, summary

FOLDER_VARIABLE = "NAPARI_SAMMED_SESSIONS"
_CHOICES = ("frame", "series")  # of a file with several images
_AGAIN = re.compile(r" \[\d+\]$")  # napari's numbers for layers of the same name


def folder() -> Path:
    """Where sessions are kept.

    The folder named by the environment variable ``NAPARI_SAMMED_SESSIONS``, else that of the user's preferences, else
    one in the user's data folder.
    """
    chosen = os.environ.get(FOLDER_VARIABLE) or Preferences()["sessions"]
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-sammed", appauthor=False)) / "sessions"


def journal_of(image_hash: str) -> Path:
    """The journal of an image."""
    return folder() / f"{image_hash}.jsonl"


def remove_if_empty(path: Path) -> None:
    """Remove a journal in which nothing was ever done: an image was only looked at."""
    with path.open("rb") as file:
        file.readline()
        untouched = not file.read(1)
    if untouched:
        path.unlink()


def place_aside(path: Path, why: str = "set aside") -> Path:
    """A file name in the archive that is free, for a journal as it is now."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while True:
        again = "" if number == 1 else f"-{number}"
        chosen = path.parent / "archive" / f"{path.stem}.{stamp}{again}.{why.replace(' ', '-')}.jsonl"
        if not chosen.exists():
            return chosen
        number += 1


def set_aside(path: Path) -> Path | None:
    """Move a journal to the archive, and say where it is; None if there is none.

    Raises
    ------
    InputError
        If another window works on it, or the archive cannot be written to.
    """
    if not path.exists():
        return None
    chosen = place_aside(path)
    _move(path, chosen, held_path=path)
    return chosen


def bring_back(archived: Path, path: Path) -> None:
    """Put an archived journal in the place of another one, which goes to the archive.

    Raises
    ------
    InputError
        As for `set_aside`.
    """
    set_aside(path)
    _move(archived, path, held_path=path)


def earlier(path: Path) -> list[Summary]:
    """The archived ones of a journal, the one that was worked on last first; unreadable ones are left out."""
    files = (path.parent / "archive").glob(f"{escape(path.stem)}.*.jsonl")
    return sorted(_summaries(files), key=lambda found: found.changed, reverse=True)


def before_change(source: Mapping[str, Any], image_hash: str) -> Summary | None:
    """The latest journal with objects about the same file when it had other voxels or another grid; None if none.

    Parameters
    ----------
    source : mapping
        How the image was read: path, name of the layer, and which frame or series.
    image_hash : str
        Of the image as it is now.
    """
    if not source.get("path"):
        return None
    wanted = _identity(source)
    fitting = []
    for path in folder().glob("*.jsonl"):
        try:
            header = read_header(path)
        except InputError:
            continue
        if header["image"] != image_hash and _identity(header.get("source") or {}) == wanted:
            fitting.append(path)
    found = [one for one in _summaries(iter(fitting)) if one.names]
    return max(found, key=lambda one: one.changed, default=None)


def _identity(source: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for two images that are the same one of the same file, though maybe not the same voxels."""
    path = source.get("path")
    place = None if not path else str(Path(path).expanduser().absolute())
    return place, _AGAIN.sub("", source.get("name") or ""), *(source.get(key) for key in _CHOICES)


def _summaries(paths: Iterator[Path]) -> list[Summary]:
    found = []
    for path in paths:
        try:
            found.append(summary(path))
        except (InputError, OSError):  # damaged; its sound part has a file of its own
            continue
    return found


def _move(path: Path, to: Path, held_path: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with held(held_path):
            os.replace(path, to)
    except OSError as error:
        raise SessionUnwritableError(f"{path} cannot be moved to {to}: {error.strerror}.") from None
