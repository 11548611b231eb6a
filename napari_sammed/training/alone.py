"""One run at a time in a folder, seen by other programs as well; a killed process leaves nothing that is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from napari_sammed.errors import InputError

LOCK = "run.lock"
"""In the folder of a run."""

_PATIENCE = 3.0  # seconds, since others may be looking


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Work on a run while nobody else does.

    Raises
    ------
    InputError
        If somebody does, or the folder cannot be written to.
    """
    lock = FileLock(out / LOCK, timeout=_PATIENCE)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"Another run is at work in {out}: wait for it, stop it, or choose another folder.") from None
    except OSError as error:
        raise InputError(f"The folder {out} cannot be used: {error.strerror}.") from None
    try:
        yield
    finally:
        lock.release()


def at_work(out: Path) -> bool:
    """Whether a process works on the run of a folder now."""
    if not (out / LOCK).exists():
        return False
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False
