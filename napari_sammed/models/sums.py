"""sha256 of weight files, remembered, since a file of 2.5 GB takes many seconds at every load.

A remembered sum is used for a file of the same path, size, inode and times of change. This trusts the file system: a
file that was rewritten in place within the resolution of its clock, or whose clock was turned back, keeps its old sum
(so files younger than some seconds are not remembered), and damage to the disk itself goes unseen until the values
are read, which tests the archive's own checksums at every load. ``models verify`` never uses what is remembered.
The memory lies in the user's cache; whoever can write there can replace the weights, too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

from napari_sammed.models.storage import cache_folder, file_sha256

logger = logging.getLogger(__name__)

_FILE = ".sums.json"
_SETTLED = 5.0  # seconds; a file changed later than this ago may change again without its times telling
_MOST = 200  # files remembered


def sha256_of(path: Path, *, fresh: bool = False) -> str:
    """The sum of a file, remembered or computed.

    Parameters
    ----------
    path : Path
    fresh : bool
        Read the whole file even if its sum is remembered.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    known = "" if fresh else remembered(path)
    if known:
        return known
    before = _marks(path)
    sha256 = file_sha256(path)
    if _marks(path) == before and time.time() - path.stat().st_mtime > _SETTLED:
        name = str(path.absolute())
        others = {marks: entry for marks, entry in _recall().items() if entry[0] != name}
        _keep({**others, before: (name, sha256)})
    return sha256


def remembered(path: Path) -> str:
    """The sum of a file if it is remembered, else an empty text; never reads the file."""
    name, sha256 = _recall().get(_marks(path), ("", ""))
    return sha256 if name == str(path.absolute()) else ""


def _marks(path: Path) -> str:
    """What changes when a file is written to; the time of change of its inode cannot be set by programs."""
    status = path.stat()
    return f"{status.st_size}-{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _memory() -> Path:
    return cache_folder() / _FILE


def _recall() -> dict[str, tuple[str, str]]:
    """Path and sum by marks; empty if there is nothing, or nothing sensible."""
    try:
        stored = json.loads(_memory().read_text(encoding="utf-8"))
        return {str(marks): (str(path), str(sha256)) for marks, (path, sha256) in stored.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _keep(known: dict[str, tuple[str, str]]) -> None:
    """Write at once; two programs at a time may lose an entry, which costs the other a computation."""
    memory = _memory()
    latest = dict(list(known.items())[-_MOST:])
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_FILE, dir=memory.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(latest, file)
            os.replace(name, memory)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:  # a cache that cannot be written to costs time, not function
        logger.debug("The sums of weight files are not remembered: %s", error)
