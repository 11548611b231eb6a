"""Reading weight files that nobody vouches for: tensors only, nothing is ever executed.

A file is first recognised by its leading bytes. Archives of ``torch.save`` are read by
`napari_sammed.models.archives`, which follows their pickle as data and tests the checksums that torch itself skips;
safetensors hold nothing but tensors; files of torch before 1.6 are read with ``weights_only=True``. Anything else (a
bare pickle, a TorchScript program, an archive with packed members) never reaches a loader.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.errors import WeightsError
from napari_sammed.models.archives import TorchArchive, one_line
from napari_sammed.models.pickles import Inert, Named, TensorRecord

if TYPE_CHECKING:
    import torch

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Top-level entries under which training scripts put the state dict."""
PREFIXES = ("module.", "_orig_mod.", "model.", "sam.")
"""What training on several GPUs, compiling, and wrapping a network in another put before every name."""

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # pickled magic number of torch.save before 1.6
_HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit
_LAYERS = 2  # of wrappers
_LONGEST_NAME = 200  # characters; those of known models have 80 at most
_CURE = "save the state dict alone, torch.save(model.state_dict(), ...), best as safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A weight file whose names and shapes are known and whose values are still on the disk.

    Parameters
    ----------
    path : Path
    shapes : dict of str to tuple of int
        Of every tensor, by the name it has in the network: without wrappers and prefixes.
    wrapping : tuple of str
        The wrappers and prefixes that were taken off, outermost first.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    wrapping: tuple[str, ...]
    _read: Callable[[list[str]], dict[str, torch.Tensor]] = field(repr=False)
    _test: Callable[[], None] = field(repr=False, default=lambda: None)

    def read(self, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
        """Values of the tensors of these names (all without), on the CPU, in memory of their own.

        Raises
        ------
        WeightsError
            If the values are damaged.
        """
        return self._read(list(self.shapes if names is None else names))

    def test(self) -> None:
        """Compare the values with the file's own checksums, if it has any; the errors are those of `read`."""
        self._test()


def open_checkpoint(path: Path) -> Checkpoint:
    """Read names and shapes of a weight file, and no values.

    Parameters
    ----------
    path : Path
        A safetensors file or one written by ``torch.save``; told apart by content, not by name.

    Raises
    ------
    WeightsError
        If the file is missing, empty, damaged, of another kind, or has no table of named tensors.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    if head.startswith(_ZIP):
        return _open_archive(path)
    if head.startswith(_LEGACY):
        return _open_legacy(path)
    if _is_safetensors(head):
        return _open_safetensors(path)
    raise WeightsError(f"{path} is no weight file: {_describe(head)}")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a weight file, by name; errors as in `open_checkpoint` and `Checkpoint.read`."""
    return open_checkpoint(path).read()


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
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "it is a packed archive; unpack it and name the file inside"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "it was written neither by torch.save nor as safetensors"
    return "it is a text file"


def _open_archive(path: Path) -> Checkpoint:
    archive = TorchArchive(path)
    wrappers, table = _unwrap(archive.content)
    records = _checked(table, path, TensorRecord)
    prefixes, names = _without_prefixes(records)
    return Checkpoint(
        path,
        {name: record.shape for name, record in zip(names, records.values(), strict=True)},
        (*wrappers, *prefixes),
        _reader(names, lambda keys: archive.read({key: records[key] for key in keys})),
        archive.test,
    )


def _open_legacy(path: Path) -> Checkpoint:
    import torch

    wrappers, table = _unwrap(_load_legacy(path))
    tensors = _checked(table, path, torch.Tensor)
    prefixes, names = _without_prefixes(tensors)
    return Checkpoint(
        path,
        {name: tuple(value.shape) for name, value in zip(names, tensors.values(), strict=True)},
        (*wrappers, *prefixes),
        _reader(names, lambda keys: {key: tensors[key] for key in keys}),
    )


def _load_legacy(path: Path) -> Any:
    import torch

    try:
        return torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds Python objects besides tensors, which could run code, so it is not read; {_CURE}"
        ) from error
    except MemoryError as error:
        raise WeightsError(f"{path} does not fit into memory") from error
    except Exception as error:  # a damaged file makes torch fail in any way, from KeyError to RuntimeError
        raise WeightsError(f"{path} is damaged: {one_line(error)}") from error


def _open_safetensors(path: Path) -> Checkpoint:
    with _opened_safetensors(path) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
    _check_names(shapes, path)
    prefixes, names = _without_prefixes(shapes)

    def read(keys: list[str]) -> dict[str, torch.Tensor]:
        with _opened_safetensors(path) as file:
            return {key: file.get_tensor(key).clone() for key in keys}  # else it is a part of the mapped file

    return Checkpoint(path, dict(zip(names, shapes.values(), strict=True)), prefixes, _reader(names, read))


def _opened_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is damaged or cut short: {one_line(error)}") from error


def _reader(
    names: dict[str, str], read: Callable[[list[str]], dict[str, torch.Tensor]]
) -> Callable[[list[str]], dict[str, torch.Tensor]]:
    """`read`, which knows the names in the file, asked by the names in the network."""

    def renamed(wanted: list[str]) -> dict[str, torch.Tensor]:
        found = read([names[name] for name in wanted])
        return {name: found[names[name]] for name in wanted}

    return renamed


def _unwrap(content: Any) -> tuple[tuple[str, ...], Any]:
    """The state dict inside what a training script saved, and the entries that led to it."""
    wrappers: list[str] = []
    while isinstance(content, Mapping) and len(wrappers) < _LAYERS:
        inner = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping | Inert)), None)
        if inner is None:
            break
        wrappers.append(inner)
        content = content[inner]
    return tuple(wrappers), content


def _checked(content: Any, path: Path, kind: type) -> dict[str, Any]:
    """A state dict that is one: texts and tensors."""
    if isinstance(content, Inert | Named):
        raise WeightsError(
            f"{path} holds {_foreign(content)} instead of a table of named tensors, which could run code and was "
            f"not run; {_CURE}"
        )
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no table of named tensors but a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str):
            raise WeightsError(f"{path} names a tensor by a {type(key).__name__} instead of a text; {_CURE}")
        if not isinstance(value, kind):
            found = _foreign(value) if isinstance(value, Inert | Named) else f"a {type(value).__name__}"
            raise WeightsError(f"{path} holds {found} under {key[:80]!r} where a tensor should be; {_CURE}")
    _check_names(content, path)
    return dict(content)


def _check_names(names: Iterable[str], path: Path) -> None:
    """Refuse names that would garble every sentence they appear in."""
    odd = next((name for name in names if len(name) > _LONGEST_NAME or not name.isprintable()), None)
    if odd is not None:
        raise WeightsError(f"{path} is no weight file: it has a tensor named {odd[:40]!r}")


def _foreign(value: Inert | Named) -> str:
    name = value.kind if isinstance(value, Inert) else f"{value.module}.{value.name}"
    return f"a pickled Python object ({''.join(filter(str.isprintable, name))[:60]})"


def _without_prefixes(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The prefixes that all names share, and the names in the file by the names without them."""
    bare = {name: name for name in names}
    taken: list[str] = []
    while bare and len(taken) < len(PREFIXES):
        shared = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in bare)), None)
        if shared is None:
            break
        taken.append(shared)
        bare = {name.removeprefix(shared): original for name, original in bare.items()}
    return tuple(taken), bare
