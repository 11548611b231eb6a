"""Archives written by ``torch.save``: their structure, what they describe, and the values of their tensors.

Such an archive is a zip file without compression: a pickle ``data.pkl``, read by `napari_sammed.models.pickles`, and
one member of raw values a storage. Nothing is loaded before it is asked for, so that a file of gigabytes is known by
its shapes in a moment, and a network is filled with one copy of its values in memory.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sammed.errors import WeightsError
from napari_sammed.models import pickles
from napari_sammed.models.pickles import StorageRecord, TensorRecord
from napari_sammed.models.storage import CHUNK

if TYPE_CHECKING:
    import torch

# What zipfile raises for damage; RuntimeError for members flagged as encrypted or of an unknown method.
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, NotImplementedError)
_WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".zip")


class TorchArchive:
    """An archive of ``torch.save``, opened and found in order; its values are still unread.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    content : Any
        What ``data.pkl`` describes, see `napari_sammed.models.pickles.read`.

    Raises
    ------
    WeightsError
        If it is damaged, is another kind of archive, or could grow when unpacked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._folder = self._check(archive)
                table = archive.getinfo(f"{self._folder}data.pkl")
                if table.file_size > pickles.SIZE_LIMIT:
                    raise WeightsError(f"{path} has a table of contents of {table.file_size:,} bytes; it is not read")
                self.content = pickles.read(archive.read(table))
        except WeightsError:  # which is a ValueError, too
            raise
        except pickles.MalformedPickle as error:
            raise WeightsError(f"{path} is damaged: {one_line(error)}; fetch it again") from error
        except _BAD_ARCHIVE as error:
            raise self._damaged(error) from error

    def read(self, records: Mapping[str, TensorRecord]) -> dict[str, torch.Tensor]:
        """The values of tensors; each storage is read once and tested against its checksum.

        Raises
        ------
        WeightsError
            If a storage is damaged, or too short for what the table of contents says of it.
        """
        by_storage: dict[StorageRecord, list[str]] = {}
        for name, record in records.items():
            by_storage.setdefault(record.storage, []).append(name)
        tensors = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                for storage, names in by_storage.items():
                    values = self._values(archive, storage)
                    for name in names:
                        tensors[name] = self._view(values, records[name], name)
        except WeightsError:
            raise
        except _BAD_ARCHIVE as error:
            raise self._damaged(error) from error
        return {name: tensors[name] for name in records}

    def test(self) -> None:
        """Compare all values with their checksums, keeping none; errors as of `read`."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"Bad CRC-32 for file {damaged!r}")
        except _BAD_ARCHIVE as error:
            raise self._damaged(error) from error

    def _check(self, archive: zipfile.ZipFile) -> str:
        """The folder inside the archive in which everything lies, with its stroke."""
        members = archive.infolist()
        tables = [member.filename for member in members if member.filename.partition("/")[2] == "data.pkl"]
        if any(member.filename.partition("/")[2] == "constants.pkl" for member in members):
            raise WeightsError(f"{self.path} is a TorchScript program, not a table of tensors; it is not run")
        if not tables:
            inside = next((member.filename for member in members if member.filename.endswith(_WEIGHT_SUFFIXES)), None)
            hint = f"; unpack it and name {inside[:80]!r} inside" if inside else ""
            raise WeightsError(f"{self.path} is a zip archive, but not one written by torch.save{hint}")
        # torch.save stores members as they are; packed or overlapping ones could grow without bound.
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > self.path.stat().st_size:
            raise WeightsError(f"{self.path} has packed members, which torch.save does not write; it is not unpacked")
        folder = tables[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise WeightsError(f"{self.path} was written on a big-endian machine; save it again on another one")
        return folder

    def _values(self, archive: zipfile.ZipFile, storage: StorageRecord) -> torch.Tensor:
        """All values of a storage as a flat tensor of its own memory."""
        import torch

        dtype = getattr(torch, storage.dtype)
        try:
            member = archive.getinfo(f"{self._folder}data/{storage.key}")
        except KeyError:
            raise WeightsError(f"{self.path} is damaged: the values {storage.key[:40]!r} are missing") from None
        if member.file_size != storage.size * dtype.itemsize:
            raise WeightsError(
                f"{self.path} is damaged: {member.file_size:,} bytes where {storage.size:,} values of {storage.dtype} "
                "should be"
            )
        values = torch.empty(storage.size, dtype=dtype)
        memory = memoryview(values.view(torch.uint8).numpy())
        done = 0
        with archive.open(member) as file:  # tests the checksum when it comes to the end
            while chunk := file.read(CHUNK):
                memory[done : done + len(chunk)] = chunk
                done += len(chunk)
        return values

    def _view(self, values: torch.Tensor, record: TensorRecord, name: str) -> torch.Tensor:
        if not record.fits():
            raise WeightsError(f"{self.path} is damaged: {name[:80]!r} reaches beyond its values")
        view = values.as_strided(record.shape, record.stride, record.offset)
        whole = view.is_contiguous() and view.numel() == values.numel()
        return view if whole else view.contiguous().clone()  # lets go of what the others do not need

    def _damaged(self, error: Exception) -> WeightsError:
        size = self.path.stat().st_size if self.path.exists() else 0
        return WeightsError(f"{self.path} is damaged or cut short ({size:,} bytes): {one_line(error)}; fetch it again")


def one_line(error: Exception) -> str:
    """What an error says, short and in one line."""
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__
