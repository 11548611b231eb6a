"""Reading weight files that nobody vouches for: tensors only, nothing is ever executed.

A file is first recognised by its leading bytes. Archives written by ``torch.save`` are tested against their
own checksums, which torch itself skips, and read with ``weights_only=True``; safetensors hold nothing but
tensors. Anything else (a bare pickle, a TorchScript program, an archive with packed members) never reaches a
loader.
"""

from __future__ import annotations

import json
import logging
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.errors import WeightsError
from napari_sammed.models.storage import CHUNK

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Top-level entries under which training scripts put the state dict."""

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # pickled magic number of torch.save before 1.6
# What zipfile raises for damage; RuntimeError for members flagged as encrypted or of an unknown method.
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit
_MAPPED_FROM = 1 << 28  # bytes; larger archives are mapped instead of being read into memory a second time


def read_tensors(path: Path, *, trusted: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a weight file, by name, on the CPU.

    Parameters
    ----------
    path : Path
        A safetensors file or one written by ``torch.save``; told apart by content, not by name.
    trusted : bool
        True if the file's sha256 has been found right, so that its inner checksums need no test.

    Returns
    -------
    dict of str to Tensor
        Unwrapped (see `WRAPPERS`), without a leading ``module.``. Large files are mapped: copy the tensors
        before the file may change.

    Raises
    ------
    WeightsError
        If the file is missing, empty, damaged, of another kind, or holds anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    if head.startswith(_ZIP):
        if not trusted:
            _check_archive(path)
        content = _read_torch(path, mapped=path.stat().st_size >= _MAPPED_FROM)
    elif head.startswith(_LEGACY):
        content = _read_torch(path, mapped=False)
    elif _is_safetensors(head):
        content = _read_safetensors(path)
    else:
        raise WeightsError(f"{path} is no weight file: {_describe(head)}")
    return _without_prefix(_tensors(_unwrap(content), path))


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT


def _describe(head: bytes) -> str:
    """What a file is instead, for people who downloaded the wrong thing."""
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is the placeholder of a file kept in Git LFS; fetch the file itself"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, probably the one that asks to confirm the download"
    if head.startswith(b"\x80"):
        return "it is a bare Python pickle, which could run code"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "it was written neither by torch.save nor as safetensors"
    return "it is a text file"


def _check_archive(path: Path) -> None:
    """Test the archive's structure and checksums; one changed byte of data is found."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {member.filename.partition("/")[2] for member in members}
            if "constants.pkl" in names:
                raise WeightsError(f"{path} is a TorchScript program, not a table of tensors; it is not run")
            if "data.pkl" not in names:
                raise WeightsError(f"{path} is a zip archive, but not one written by torch.save")
            # torch.save stores members as they are; packed or overlapping ones could grow without bound.
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > size:
                raise WeightsError(f"{path} has packed members, which torch.save does not write")
            for member in members:
                with archive.open(member) as data:
                    while data.read(CHUNK):
                        pass
    except _BAD_ARCHIVE as error:
        raise WeightsError(
            f"{path} is damaged or cut short ({size:,} bytes): {_one_line(error)}; fetch it again"
        ) from error


def _read_torch(path: Path, *, mapped: bool) -> Any:
    import torch

    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds Python objects besides tensors, which could run code, so it is not read; "
            "save the state dict alone, best as safetensors"
        ) from error
    except MemoryError as error:
        raise WeightsError(f"{path} does not fit into memory") from error
    except Exception as error:  # a damaged file makes torch fail in any way, from KeyError to RuntimeError
        raise WeightsError(f"{path} is damaged: {_one_line(error)}") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is damaged or cut short: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


def _unwrap(content: Any) -> Any:
    """The state dict inside what a training script saved; at most two layers deep."""
    for _ in range(2):
        if isinstance(content, Mapping):
            inner = (content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))
            content = next(inner, content)
    return content


def _tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no table of named tensors but a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise WeightsError(f"{path} holds a {kind} under {str(key)[:80]!r} where a tensor should be")
    return dict(content)


def _without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the ``module.`` that training on several GPUs puts before every name."""
    if all(key.startswith("module.") for key in tensors):
        return {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors
