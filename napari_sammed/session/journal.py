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

from napari_sammed.errors import InputError

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
            raise InputError(
                f"The session file {self.path} is in use: close the other window that works on it."
            ) from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            if self.path.exists() and self.path.stat().st_size:
                self.header, self.entries, complete = _read(self.path)
                if self.header["image"] != header["image"]:
                    raise InputError(
                        f"The session file {self.path} belongs to another image: choose another file name."
                    )
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

    def close(self) -> None:
        """Let another process continue the journal."""
        self._file.close()
        self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and entries of a journal file, without opening it for writing; a torn last line is left out."""
    try:
        header, entries, _ = _read(Path(path))
    except OSError as error:
        raise InputError(f"The session file {path} cannot be read: {error.strerror}.") from None
    return header, entries


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"The session file {path} cannot be written: {error.strerror}.")


def _no_room(path: Path, error: OSError) -> InputError:
    return InputError(
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


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """Header, entries, and the length in bytes of the complete lines."""
    lines: list[dict[str, Any]] = []
    complete = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                break  # torn by a killed process
            try:
                line = json.loads(raw)
            except ValueError:
                raise InputError(f"Line {number} of {path} is not JSON: the session file is damaged.") from None
            if not isinstance(line, dict):
                raise InputError(f"Line {number} of {path} is not an entry of a session file.")
            lines.append(line)
            complete += len(raw)
    if not lines or "napari-sammed session" not in lines[0] or "image" not in lines[0]:
        raise InputError(f"{path} is not a session file of napari-sammed.")
    if lines[0]["napari-sammed session"] != FORMAT:
        version = lines[0]["napari-sammed session"]
        raise InputError(
            f"{path} has session format {version}; this version reads {FORMAT}. Please update napari-sammed."
        )
    return lines[0], lines[1:], complete
