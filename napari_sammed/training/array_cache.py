"""Decoded arrays in a folder, so that later epochs and runs that go on read them as they are, without decoding.

Each entry is a few ``.npy`` files, mapped into memory when asked for, and a ``.json`` that is written last and says
what they were made of. An entry that is damaged, half-written or made of other files counts as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from napari_sammed.backend.base import Cancel
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.formats.common import put_in_place

_FORMAT = 1
_PART = ".part"
_PIECE = 1 << 24  # bytes
_POLL = 0.2  # seconds between two looks whether another process has finished
_TOGETHER = {".mhd": ".*", ".nhdr": ".*", ".hdr": ".*"}  # headers whose voxels lie beside them


@dataclass(frozen=True)
class Kept:
    """What is in an entry.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Read from their files as they are needed; not to be changed.
    about : mapping
        What was noted of them.
    """

    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any]


class ArrayCache:
    """Arrays by name.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    InputError
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The cache {self.folder} cannot be made: {error.strerror or error}.") from None

    @contextmanager
    def alone(self, cancel: Cancel | None = None) -> Iterator[None]:
        """Keep other processes from writing meanwhile, and throw away what a killed one had not finished.

        Raises
        ------
        InputError
            If the folder cannot be written to.
        Cancelled
            While waiting for another process.
        """
        lock = FileLock(str(self.folder / ".lock"))
        while True:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            try:
                lock.acquire(timeout=_POLL)
                break
            except Timeout:
                continue
            except OSError as error:
                raise InputError(f"The cache {self.folder} cannot be written to: {error.strerror or error}.") from None
        try:
            for path in self.folder.glob(f"*{_PART}"):
                path.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def find(self, name: str, made_of: str) -> Kept | None:
        """An entry that was made of this; None if there is none, or it is not whole.

        Parameters
        ----------
        name : str
        made_of : str
            As it was given to `keep`.
        """
        note = self._path(name, "json")
        try:
            read = json.loads(note.read_text(encoding="utf-8"))
            if read["format"] != _FORMAT or read["made of"] != made_of:
                return None
            arrays = {key: self._load(self._path(name, f"{key}.npy"), said) for key, said in read["arrays"].items()}
            return Kept(arrays, read["about"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            return None

    def keep(self, name: str, made_of: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Kept:
        """Write an entry, in place of one that may be there.

        Raises
        ------
        InputError
            If there is no room, or it cannot be written; nothing half-written stays.
        """
        note = self._path(name, "json")
        try:
            said = {}
            for key, array in arrays.items():
                path = self._path(name, f"{key}.npy")
                with _whole(path) as part, part.open("wb") as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
                status = path.stat()
                said[key] = {"size": status.st_size, "changed": status.st_mtime_ns, "hash": _hash(path)}
            content = {"format": _FORMAT, "made of": made_of, "arrays": said, "about": about}
            with _whole(note) as part:
                part.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            size = sum(array.nbytes for array in arrays.values()) / 2**20
            raise InputError(
                f"The cache {self.folder} cannot be written ({error.strerror or error}): the next image needs "
                f"{size:,.0f} MiB. Make room, or choose another folder, and run the same again."
            ) from None
        kept = self.find(name, made_of)
        if kept is None:
            raise InputError(f"The cache {self.folder} does not give back what was written: is the disk damaged?")
        return kept

    def _path(self, name: str, ending: str) -> Path:
        """Names of cases may be of any length and any signs, and names of patients."""
        return self.folder / f"{hashlib.blake2b(name.encode(), digest_size=10).hexdigest()}.{ending}"

    @staticmethod
    def _load(path: Path, said: Mapping[str, Any]) -> np.ndarray:
        """An array as it was written; ValueError if it is not."""
        status = path.stat()
        same = status.st_size == said["size"]
        if not same or (status.st_mtime_ns != said["changed"] and _hash(path) != said["hash"]):
            raise ValueError
        return _mapped(path, said["size"])


def state_of(paths: Iterable[Path], options: Any) -> str:
    """What a cache entry is made of: names, sizes and times of files, those in folders too, and options.

    Parameters
    ----------
    paths : iterable of Path
    options : JSON

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    found = []
    for path in paths:
        for file in _files(path):
            status = file.stat()
            found.append([str(file.relative_to(path.parent)), status.st_size, status.st_mtime_ns])
    text = json.dumps([found, options], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def _files(path: Path) -> list[Path]:
    """The files that are read for one: all of a folder, a DICOM file's whole series, and voxels beside a header."""
    ending = path.suffix.lower()
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if ending in (".dcm", ".ima", ""):
        return sorted(file for file in path.parent.iterdir() if file.is_file())
    if ending in _TOGETHER:
        return sorted(path.parent.glob(path.stem + _TOGETHER[ending]))
    return [path]


def _mapped(path: Path, size: int) -> np.ndarray:
    """The array in a ``.npy`` file, mapped into memory; ValueError if it is none.

    By torch, since NumPy's maps keep their files open, of which a process may have about a thousand.
    """
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    array = content[start:].view(dtype).reshape(shape)
    array.flags.writeable = False
    return array


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file to be written that gets its name when all of it is on the disk, or is gone."""
    part = path.with_name(path.name + _PART)
    try:
        yield part
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def _hash(path: Path) -> str:
    result = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            result.update(piece)
    return result.hexdigest()
