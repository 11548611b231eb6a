"""The user's folders of fetched files and settings, and writing into them so that no half-written file is ever seen.

Whatever is fetched is written under a temporary name in the folder it will live in, flushed to the disk, and
renamed. Processes that want the same file wait for each other.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import BinaryIO, TypeAlias

from napari_sammed.errors import Cancelled, FetchError

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "NAPARI_SAMMED_CACHE"
CONFIG_VARIABLE = "NAPARI_SAMMED_CONFIG"
CHUNK = 1 << 20
_SCRATCH_PREFIX = ".fetch-"
_SCRATCH_LIFE = 24 * 3600.0  # seconds after which a killed process's temporary folder is swept up

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all (None while unknown)."""


def cache_folder(kind: str = "weights") -> Path:
    """Folder in which fetched files of a kind are kept; it need not exist yet.

    Parameters
    ----------
    kind : str
        Name of the subfolder: ``weights``, ``samples``.

    Returns
    -------
    Path
        ``kind`` below the folder named by the environment variable ``NAPARI_SAMMED_CACHE``, or below the
        user's cache folder for this program.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute() / kind
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-sammed", appauthor=False)) / kind


def config_folder() -> Path:
    """The user's folder of settings, or the one named by the environment variable ``NAPARI_SAMMED_CONFIG``.

    It need not exist yet.
    """
    chosen = os.environ.get(CONFIG_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_config_dir("napari-sammed", appauthor=False))


def megabytes(count: int) -> str:
    """``39370479`` as ``39.4 MB (39,370,479 bytes)``."""
    return f"{count / 1e6:.1f} MB ({count:,} bytes)"


def check_cancelled(cancel: Event | None) -> None:
    """Raise `Cancelled` if the user asked to stop."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("the download was cancelled")


def pause(seconds: float, cancel: Event | None) -> None:
    """Sleep, but wake up and raise `Cancelled` as soon as the user asks to stop."""
    if cancel is None:
        time.sleep(seconds)
    else:
        cancel.wait(seconds)
        check_cancelled(cancel)


def file_sha256(path: Path, cancel: Event | None = None) -> str:
    """sha256 of a file's bytes, as lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            check_cancelled(cancel)
    return digest.hexdigest()


def holds(path: Path, sha256: str | None) -> bool:
    """Whether a file is there and has this sum; any file will do where no sum is known."""
    return path.is_file() and (sha256 is None or file_sha256(path) == sha256)


class StorageError(FetchError):
    """A fetched file has no place: full disk, read-only folder, something in the way."""


@contextlib.contextmanager
def storing(folder: Path, needed: int | None = None) -> Iterator[None]:
    """Make `folder` ready for `needed` more bytes, and put what the system says about it into a sentence.

    Raises
    ------
    StorageError
        If the folder cannot be made or written to, or the disk has or gets too little room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if needed is not None and shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except OSError as error:
        raise StorageError(_storage_complaint(folder, needed, error)) from error


def _storage_complaint(folder: Path, needed: int | None, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = "the disk is full"
        with contextlib.suppress(OSError):
            reason += f", {megabytes(shutil.disk_usage(folder).free)} are free"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "it is not writable"
    elif isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        reason = f"{error.filename or folder} is in the way"
    else:
        reason = error.strerror or str(error)
    amount = "files" if needed is None else megabytes(needed)
    cure = f"change that, or set {CACHE_VARIABLE} to a folder on a disk with room"
    return f"cannot store {amount} in {folder}: {reason}; {cure}"


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, so that renaming out of it is atomic; removed afterwards."""
    for left in folder.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _SCRATCH_LIFE:
                shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def one_at_a_time(folder: Path, name: str, cancel: Event | None = None) -> Iterator[None]:
    """Wait until nobody else fetches `name` into `folder`; a killed process frees its place."""
    import filelock

    lock = filelock.FileLock(folder / f".{name}.lock")
    waiting = False
    while True:
        check_cancelled(cancel)
        try:
            lock.acquire(timeout=0.2)
            break
        except filelock.Timeout:
            if not waiting:
                logger.info("Waiting for another process that fetches %s", name)
            waiting = True
    try:
        yield
    finally:
        lock.release()


def flush_to_disk(file: BinaryIO) -> None:
    """Make sure that what was written survives a power cut."""
    file.flush()
    os.fsync(file.fileno())


def put_in_place(finished: Path, target: Path) -> None:
    """Rename a finished, flushed file at once; a reader sees the old file or the new one, never a part."""
    os.replace(finished, target)
    if os.name == "posix":  # the rename itself reaches the disk only with its folder
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
