"""Images on the server's disk, by the hash of their voxels and grid; nothing else is known of them.

``images/<hash>/`` has ``header.json`` and ``voxels``, and appears whole or not at all: uploads are written into a
folder of another name, checked, flushed and renamed. Voxels are mapped into memory when they are used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.images import ImageHeader, volume_of
from napari_sammed.errors import InputError, ProtocolError
from napari_sammed.server.refusals import Refusal
from napari_sammed.volume import Volume

_ID = re.compile(r"[0-9a-f]{64}")
_NEW = ".new-"
LATELY = 60.0
"""Seconds for which others who share a folder take an image to be in use."""


class ImageStore:
    """A folder of images with a budget; any thread may call.

    Parameters
    ----------
    folder : Path
        Made if absent.
    largest, budget : int
        Bytes of one image, of all.
    keep : float
        Seconds after which an unused image is deleted.
    shared : bool
        Whether other processes use the folder, too: what was used within `LATELY` then is in use, and an upload that
        was written to within that time is under way.
    """

    def __init__(self, folder: Path, largest: int, budget: int, keep: float, *, shared: bool = False) -> None:
        self._folder = folder
        self._largest = largest
        self._budget = budget
        self._keep = keep
        self._lately = LATELY if shared else 0.0
        self._lock = threading.Lock()
        self._pinned: Counter[str] = Counter()
        self._reserved = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob(f"{_NEW}*"):  # of a server that was killed
            if not self._is_written_to(left):
                shutil.rmtree(left, ignore_errors=True)

    def __contains__(self, image: str) -> bool:
        """Whether an image is here; it then counts as just used."""
        if _ID.fullmatch(image) is None:
            return False
        with contextlib.suppress(OSError):
            os.utime(self._folder / image / "header.json")
            return True
        return False

    @contextlib.contextmanager
    def receive(self, header: ImageHeader) -> Iterator[Upload]:
        """Take an image in; it is there once `Upload.finish` was called, else nothing is left of it.

        Raises
        ------
        Refusal
            "too_large" before anything is written; "no_room".
        """
        if header.nbytes > self._largest:
            raise Refusal(
                "too_large",
                f"The image takes {header.nbytes} bytes, more than the {self._largest} that this server takes: crop "
                "it, or ask whoever runs the server for more.",
            )
        self._reserve(header.nbytes)
        scratch = None
        try:
            scratch = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._folder))
            with (scratch / "voxels").open("xb") as file:
                yield Upload(self, header, scratch, file)
        finally:
            with self._lock:
                self._reserved -= header.nbytes
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)

    def open(self, image: str) -> Volume:
        """An image, mapped into memory, and kept until `release`.

        Raises
        ------
        Refusal
            "no_image" if it is not here.
        """
        if _ID.fullmatch(image) is None:
            raise _no_image()
        with self._lock:
            self._pinned[image] += 1
        folder = self._folder / image
        try:
            stored = json.loads((folder / "header.json").read_text(encoding="utf-8"))
            header = ImageHeader.from_frame(Frame(stored))
            voxels = np.memmap(folder / "voxels", header.dtype, "r", shape=header.shape)
            os.utime(folder / "header.json")
        except (OSError, ValueError, InputError):
            self.release(image)
            raise _no_image() from None
        volume = Volume(voxels, header.grid)
        # Known since the image came: reading all of a large one for them each time would take seconds.
        vars(volume).update(hash=image, extremes=tuple(stored["extremes"]))
        return volume

    def kept(self) -> tuple[int, int]:
        """How many images are here, and the bytes of their voxels; reads the disk."""
        sizes = [size for _, size, _ in self._images()]
        return len(sizes), sum(sizes)

    def release(self, image: str) -> None:
        """The inverse of `open`."""
        with self._lock:
            self._pinned[image] -= 1
            if self._pinned[image] <= 0:
                del self._pinned[image]

    def touch(self) -> None:
        """Have open images count as just used, for those who share the folder; call it every few seconds."""
        with self._lock:
            pinned = list(self._pinned)
        for image in pinned:
            with contextlib.suppress(OSError):
                os.utime(self._folder / image / "header.json")

    def sweep(self) -> None:
        """Delete what nobody used for long."""
        oldest = time.time() - self._keep
        with self._lock:
            for used, _, path in self._images():
                if used < oldest and path.name not in self._pinned:
                    shutil.rmtree(path, ignore_errors=True)

    def place(self, scratch: Path, image: str) -> None:
        """Rename the folder of a finished upload, unless another one of the same image was faster."""
        target = self._folder / image
        with self._lock:
            if not (target / "header.json").exists():
                shutil.rmtree(target, ignore_errors=True)
                os.replace(scratch, target)
        _sync(self._folder)

    def _reserve(self, size: int) -> None:
        """Make room for an image, if need be by deleting what nobody has open, longest unused first."""
        with self._lock:
            images = self._images()
            missing = sum(known for _, known, _ in images) + self._reserved + size - self._budget
            missing = max(missing, size + self._reserved - shutil.disk_usage(self._folder).free)
            latest = time.time() - self._lately
            unused = [
                (known, path)
                for used, known, path in sorted(images)
                if path.name not in self._pinned and (used < latest or not self._lately)
            ]
            if missing > sum(known for known, _ in unused):
                raise Refusal(
                    "no_room", "The server has no room for another image now: try later, or tell whoever runs it."
                )
            for known, path in unused:
                if missing <= 0:
                    break
                shutil.rmtree(path, ignore_errors=True)
                missing -= known
            self._reserved += size

    def _is_written_to(self, scratch: Path) -> bool:
        """Whether the folder of an upload is of another process, which is at it."""
        if not self._lately:
            return False
        try:
            return (scratch / "voxels").stat().st_mtime > time.time() - self._lately
        except OSError:  # empty yet, or finished meanwhile
            return True

    def _images(self) -> list[tuple[float, int, Path]]:
        """When each was used last, its size and its folder."""
        found = []
        for path in self._folder.iterdir():
            if _ID.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    used = (path / "header.json").stat().st_mtime
                    found.append((used, (path / "voxels").stat().st_size, path))
        return found


class Upload:
    """An image on its way in; made by `ImageStore.receive`.

    Written with ordinary calls, not through a map of the file: on a full disk those fail, a map kills the process.
    """

    def __init__(self, store: ImageStore, header: ImageHeader, scratch: Path, file: BinaryIO) -> None:
        self._store = store
        self._header = header
        self._slabs = header.slabs
        self._scratch = scratch
        self._file = file
        self._next = 0

    def add(self, frame: Frame) -> None:
        """Write the next slab.

        Raises
        ------
        ProtocolError
            If it is another one, or of another size or dtype.
        """
        number, count = self._next, len(self._slabs)
        if number >= count or frame.header != {"slab": number} or len(frame.arrays) != 1:
            raise ProtocolError(f"Slab {number} of {count} was expected, not {str(frame.header)[:80]}.")
        start, end = self._slabs[number]
        (voxels,) = frame.arrays
        if voxels.dtype != self._header.dtype or voxels.shape != (end - start,):
            raise ProtocolError(
                f"Slab {number} has {end - start} voxels of {self._header.dtype}, not {voxels.shape} of {voxels.dtype}."
            )
        self._file.write(np.ascontiguousarray(voxels).view(np.uint8).data)
        self._next += 1

    def finish(self) -> None:
        """Check the image, and put it in its place.

        Raises
        ------
        ProtocolError
            If voxels are missing, or they are not those that the id says.
        InputError
            If no model can use it.
        """
        if self._next < len(self._slabs):
            raise ProtocolError(f"The image ends after {self._next} of {len(self._slabs)} slabs.")
        self._file.flush()
        os.fsync(self._file.fileno())
        voxels = np.memmap(self._scratch / "voxels", self._header.dtype, "r", shape=self._header.shape)
        volume = volume_of(self._header, voxels)
        volume.check_usable()
        stored = self._header.to_frame().header | {"extremes": list(volume.extremes)}
        with (self._scratch / "header.json").open("x", encoding="utf-8") as file:
            json.dump(stored, file)
            file.flush()
            os.fsync(file.fileno())
        _sync(self._scratch)
        self._store.place(self._scratch, self._header.id)


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _no_image() -> Refusal:
    return Refusal("no_image", "The image is not on the server (any more): send it first.")
