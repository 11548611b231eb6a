"""Weight files for tests, good ones, broken ones and hostile ones, as bytes."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_safetensors

from napari_sammed.errors import WeightsError
from napari_sammed.models.checkpoints import read_tensors
from tests.models.cards import PUBLISHED

SENTINEL = "executed"
"""Name of the file that `Evil` writes into the current folder when it is unpickled."""


class Evil:
    """Unpickling it writes a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (SENTINEL, "w")


def safetensors_of(tensors: dict[str, torch.Tensor]) -> bytes:
    """A safetensors file."""
    return save_safetensors({key: value.contiguous() for key, value in tensors.items()})


def legacy(content: object) -> bytes:
    """What torch before 1.6 wrote."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def legacy_with(content: object) -> bytes:
    """The start of an old torch file, followed by a pickle of one's own."""
    start = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return start + pickle.dumps(content, protocol=2)


def repacked(content: bytes = PUBLISHED, method: int = zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """The members of an archive, packed anew; keywords replace members by their last name, ``_`` standing for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", method) as target:
        for member in source.infolist():
            name = member.filename.rpartition("/")[2].replace(".", "_")
            target.writestr(member.filename, replaced.get(name, source.read(member)))
    return buffer.getvalue()


def flipped(content: bytes, position: int) -> bytes:
    """`content` with one bit turned over."""
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def zipped(**members: bytes) -> bytes:
    """A zip archive; in the names of members ``__`` stands for a stroke and ``_`` for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def bomb() -> bytes:
    """An archive of 20 kB that would unpack to 20 MB."""
    return repacked(PUBLISHED, zipfile.ZIP_DEFLATED, **{"0": bytes(20_000_000)})


def refusal(path: Path) -> str:
    """The sentence with which a file is refused, after checking that it is one and that nothing was run."""
    with pytest.raises(WeightsError) as error:
        read_tensors(path)
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 700
    assert str(path) in text
    assert not Path(SENTINEL).exists()
    return text
