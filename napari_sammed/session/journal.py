"""The journal of a session on disk: append-only JSON Lines, flushed before anything is shown.

The first line says which image and grid; every further line is one thing that the user did, or the answer to it. A
killed process leaves at most a torn last line, which is dropped on reading and cut off before the next line is
appended.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_sammed.errors import (
    InputError,
    OtherImageError,
    SessionDamagedError,
    SessionInUseError,
    SessionUnwritableError,
)

FORMAT = 1


class Journal:
    """An open journal file; one writer at a time, which a lock beside the file sees to (a killed process frees it).

    Parameters
    ----------
    path : Path
        Created with `header` as its first line if absent or empty; else read, and appended to.
    header : dict
        What the journal is about ("image" hash, "grid", ...). For an existing file its "image" must be the same.

    Attributes
    ----------
    header : dict
        The first line.
    entries : list of dict
        The complete lines that were there when the file was opened.

    Raises
    ------
    InputError
        Not a journal, a journal of another image or in use, a format of the future, a folder that cannot be written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = Path(path)
        self.entries: list[dict[str, Any]] = []
        self._lock = FileLock(f"{self.path}.lock", timeout=0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise in_use(self.path) from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            if self.path.exists() and self.path.stat().st_size:
                self.header, self.entries, complete = _read(self.path)
                check_image(self.path, self.header, header["image"])
                self._file = self.path.open("r+b")
                self._file.truncate(complete)  # a torn last line would swallow the next one
                self._file.seek(complete)
            else:
                self.header = {"napari-sammed session": FORMAT, **header}
                _create(self.path, _line(self.header))
                self._file = self.path.open("r+b")
                self._file.seek(0, os.SEEK_END)
        except InputError:
            self._unlock()
            raise
        except OSError as error:
            self._unlock()
            raise _unwritable(self.path, error) from None

    def append(self, entry: dict[str, Any], *, wait: bool = True) -> None:
        """Write one line and wait until it is on disk; InputError (file unharmed) if it cannot be.

        Without ``wait`` the line is handed to the operating system, which writes it even if this process is killed;
        `sync`, from any thread, waits for the disk.
        """
        line = _line(entry)
        position = self._file.tell()
        try:
            self._file.write(line)
            self._file.flush()
            if wait:
                os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # else the torn line is cut off at the next opening
                self._file.seek(position)
                self._file.truncate(position)
            raise _no_room(self.path, error) from None

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _no_room(self.path, error) from None

    def copy(self, path: Path) -> None:
        """Write all lines so far to another file, which appears whole or not at all; the journal goes on.

        Raises
        ------
        InputError
            If the file cannot be written, or is the journal itself.
        """
        complete = self._file.tell()
        copy_lines(self.path, Path(path), complete)

    def close(self) -> None:
        """Let another process continue the journal."""
        self._file.close()
        self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()


class ReadOnlyJournal:
    """A journal that is only looked at, while another program may be writing to it: whatever is done is refused.

    Parameters and attributes are those of `Journal`.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = Path(path)
        self.header, self.entries = read_journal(self.path)
        check_image(self.path, self.header, header["image"])

    def append(self, entry: dict[str, Any], *, wait: bool = True) -> None:
        """InputError, always."""
        raise InputError(
            "This session is open for looking only, so nothing can be changed in it: close the other window that works "
            "on it, then open the image again."
        )

    def sync(self) -> None:
        """Nothing: nothing is ever written."""

    def copy(self, path: Path) -> None:
        """As `Journal.copy`."""
        copy_lines(self.path, Path(path))

    def close(self) -> None:
        """Nothing: nobody is kept waiting."""


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and entries of a journal file, without opening it for writing; a torn last line is left out."""
    try:
        header, entries, _ = _read(Path(path))
    except OSError as error:
        raise InputError(f"The session file {path} cannot be read: {error.strerror}.") from None
    return header, entries


def check_image(path: Path, header: dict[str, Any], image: str) -> None:
    """Refuse a journal of another image than the one with this hash.

    Raises
    ------
    OtherImageError
    """
    if header["image"] != image:
        raise OtherImageError(f"The session file {path} belongs to another image: choose another file name.")


def copy_lines(source: Path, path: Path, complete: int | None = None, image: str | None = None) -> None:
    """Copy a journal to another file, which appears whole or not at all.

    Parameters
    ----------
    source, path : Path
        From where to where.
    complete : int, optional
        Bytes to copy; default: all whole lines.
    image : str, optional
        Hash of the image that the copy is about; default: the same one.

    Raises
    ------
    InputError
    """
    if path.exists() and path.samefile(source):
        raise InputError(f"{path} is the file that this session is kept in already: choose another name.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        content = source.read_bytes()[:complete]
        if image is not None:
            first, _, rest = content.partition(b"\n")
            content = _line({**parse_header(source, first + b"\n"), "image": image}) + rest
        with temporary.open("wb") as file:
            file.write(content[: content.rfind(b"\n") + 1])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _no_room(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def in_use(path: Path) -> SessionInUseError:
    """What to say of a journal that is locked."""
    return SessionInUseError(f"The session file {path} is in use: close the other window that works on it.", path)


def _unwritable(path: Path, error: OSError) -> InputError:
    return SessionUnwritableError(f"The session file {path} cannot be written: {error.strerror}.")


def _no_room(path: Path, error: OSError) -> InputError:
    return SessionUnwritableError(
        f"The session file {path} cannot be written ({error.strerror}): free some space or choose another place."
    )


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _create(path: Path, first_line: bytes) -> None:
    """Put a file with its first line in place at once, so that no journal ever lacks its header."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(first_line)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def parse_header(path: Path, raw: bytes) -> dict[str, Any]:
    """The first line of a session file.

    Raises
    ------
    InputError
        If it is none, or of a format of the future.
    """
    try:
        header = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        raise SessionDamagedError(f"Line 1 of {path} is not JSON: the session file is damaged.") from None
    if header is not None and not isinstance(header, dict):
        raise SessionDamagedError(f"Line 1 of {path} is not an entry of a session file.")
    if header is None or "napari-sammed session" not in header or "image" not in header:
        raise SessionDamagedError(f"{path} is not a session file of napari-sammed.")
    if header["napari-sammed session"] != FORMAT:
        version = header["napari-sammed session"]
        raise InputError(
            f"{path} has session format {version}; this version reads {FORMAT}. Please update napari-sammed."
        )
    return header


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """Header, entries, and the length in bytes of the complete lines."""
    entries: list[dict[str, Any]] = []
    with path.open("rb") as file:
        first = file.readline()
        header = parse_header(path, first)
        complete = len(first)
        for number, raw in enumerate(file, 2):
            if not raw.endswith(b"\n"):
                break  # torn by a killed process
            try:
                entry = json.loads(raw)
            except ValueError:
                raise SessionDamagedError(
                    f"Line {number} of {path} is not JSON: the session file is damaged."
                ) from None
            if not isinstance(entry, dict):
                raise SessionDamagedError(f"Line {number} of {path} is not an entry of a session file.")
            entries.append(entry)
            complete += len(raw)
    return header, entries, complete
