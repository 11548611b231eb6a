"""Weight files that the user has chosen for models, remembered with their sums and checked again at every start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_sammed.models import sums
from napari_sammed.plugin.settings.memory import Memory

_MEMORY = "weights"


def remember(memory: Memory, model: str, files: Sequence[Path]) -> None:
    """Note files and their sums; reads them, so not for the GUI thread."""
    kept = _kept(memory)
    kept[model] = [[str(file.absolute()), sums.sha256_of(file)] for file in files]
    memory.note(_MEMORY, kept)


def forget(memory: Memory, model: str) -> None:
    """No longer remember the files of a model."""
    kept = _kept(memory)
    kept.pop(model, None)
    memory.note(_MEMORY, kept or None)


def remembered(memory: Memory) -> dict[str, tuple[Path, ...]]:
    """The files by model; reads none of them."""
    return {model: tuple(Path(path) for path, _ in files) for model, files in _kept(memory).items()}


def complaint(memory: Memory, model: str) -> str:
    """What is wrong with the remembered files of a model, as a sentence; empty if they are as they were.

    Reads them unless their sums are known, so not for the GUI thread.
    """
    for path, sha256 in _kept(memory).get(model, ()):
        cure = "choose it again (Weights file…), or have it forgotten (Preferences…)"
        try:
            found = sums.sha256_of(Path(path))
        except FileNotFoundError:
            return f"The weight file {path} is no longer there: {cure}."
        except OSError as error:
            return f"The weight file {path} cannot be read ({error.strerror}): {cure}."
        if found != sha256:
            return f"The weight file {path} is another one than you chose: {cure}."
    return ""


def _kept(memory: Memory) -> dict[str, list[tuple[str, str]]]:
    """What is noted, as far as it makes sense."""
    kept = memory.get(_MEMORY, {})
    found: dict[str, list[tuple[str, str]]] = {}
    for model, files in kept.items() if isinstance(kept, dict) else ():
        try:
            found[str(model)] = [(str(path), str(sha256)) for path, sha256 in files]
        except (TypeError, ValueError):
            continue
    return found
