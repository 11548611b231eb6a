"""Keyboard shortcuts on keys that napari leaves free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SHORTCUTS = {
    "new": "N",
    "undo": "U",
    "redo": "Shift-U",
    "toggle": "W",
    "box": "G",
    "propagate": "Q",
    "closer": "K",
    "reading": "H",
    "reading back": "Shift-H",
}
"""What each shortcut does -> key, as napari writes it."""


def free_shortcuts() -> dict[str, str]:
    """Those of `SHORTCUTS` that neither napari nor the user's own settings have given away."""
    from napari.settings import get_settings

    taken = {str(key).replace("+", "-") for keys in get_settings().shortcuts.shortcuts.values() for key in keys}
    return {name: key for name, key in SHORTCUTS.items() if key not in taken}


def bindings(
    actions: Mapping[str, Callable[[], None]], shortcuts: Mapping[str, str]
) -> dict[str, Callable[[Any], None]]:
    """Key -> function that takes and ignores the layer or viewer it was pressed on.

    Undo and redo also get their usual keys, which only our own layers bind: the undo of a label layer would write
    voxels behind the session's back.
    """

    def ignoring(action: Callable[[], None]) -> Callable[[Any], None]:
        return lambda _: action()

    return {key: ignoring(actions[name]) for name, key in shortcuts.items()}


LAYER_SHORTCUTS = {"undo": "Control-Z", "redo": "Control-Shift-Z"}
