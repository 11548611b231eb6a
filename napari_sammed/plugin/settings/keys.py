"""Keyboard shortcuts: one table of all actions, with keys that napari leaves free, and what users change in it."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from napari_sammed.errors import InputError
from napari_sammed.plugin.settings.memory import Memory

logger = logging.getLogger(__name__)

_MEMORY = "shortcuts"


@dataclass(frozen=True)
class Shortcut:
    """What an action is called in the list of shortcuts, and its key until the user gives it another one."""

    title: str
    key: str = ""


SHORTCUTS = {
    "new": Shortcut("Start a new object", "N"),
    "undo": Shortcut("Undo (also Ctrl+Z)", "U"),
    "redo": Shortcut("Redo (also Ctrl+Shift+Z)", "Shift+U"),
    "toggle": Shortcut("Clicks: add or remove", "W"),
    "box": Shortcut("Draw a box", "G"),
    "brush": Shortcut("Brush, or eraser", "Shift+B"),
    "flip": Shortcut("Turn the selected prompts into the other kind", "Shift+W"),
    "propagate": Shortcut("Propagate through the volume", "Q"),
    "worst": Shortcut("Go to the worst slice of the object", "J"),
    "next": Shortcut("Where to click next", "Shift+J"),
    "closer": Shortcut("Look closer", "K"),
    "compare": Shortcut("Compare models", "Shift+C"),
    "reading": Shortcut("Next reading of an ambiguous answer", "H"),
    "reading back": Shortcut("Reading before", "Shift+H"),
    "clear": Shortcut("Clear the object"),
}
"""Every action that can have a key, in the order of the list; see `napari_sammed.plugin.coordinator`."""

LAYER_SHORTCUTS = {"undo": "Ctrl+Z", "redo": "Ctrl+Shift+Z"}
"""Further keys, which only our own layers bind: the undo of a label layer would write voxels behind the session's back.
"""


def normal(key: str) -> str:
    """A key as it is stored and shown, like ``Shift+U``.

    Raises
    ------
    InputError
        If napari cannot tell that key.
    """
    from napari.utils.key_bindings import coerce_keybinding

    try:
        found = str(coerce_keybinding(key))
    except (TypeError, ValueError):
        found = ""
    if not found or found.endswith("+") or " " in found or found in ("Shift", "Ctrl", "Alt", "Meta"):
        raise InputError(f"{key or 'This'} cannot be used: take a letter, alone or with Shift, Ctrl or Alt.")
    return found


def napari_keys() -> dict[str, str]:
    """The keys that napari, or the user's settings of it, have given away -> what they do."""
    from napari.settings import get_settings

    taken: dict[str, str] = {}
    for action, keys in get_settings().shortcuts.shortcuts.items():
        for key in keys:
            taken.setdefault(str(key), action.partition(":")[2].replace("_", " "))
    return taken


class Keyboard(Mapping[str, Callable[[Any], None]]):
    """The keys of all actions, and everything they are bound on: the viewer, and our layers, whose keys go first.

    As a mapping it is key -> what it does on a layer, told of (and ignoring) what it was pressed on.

    Parameters
    ----------
    actions : mapping of str to callable
        Name in `SHORTCUTS` -> what it does.
    memory : Memory
        Keeps what the user has changed.
    on_change : callable
        Called after each change.
    """

    def __init__(
        self, actions: Mapping[str, Callable[[], None]], memory: Memory, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._actions = {name: actions[name] for name in SHORTCUTS if name in actions}
        self._memory = memory
        self._on_change = on_change
        self._targets: list[tuple[weakref.ref[Any], bool]] = []
        self._own = self._remembered()
        self._shortcuts = self._current()

    def __getitem__(self, key: str) -> Callable[[Any], None]:
        return self._bindings(True)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bindings(True))

    def __len__(self) -> int:
        return len(self._bindings(True))

    def bind(self, target: Any, *, layer: bool = True) -> None:
        """Bind all keys on a layer, or on the viewer, from now on."""
        self._targets.append((weakref.ref(target), layer))
        for key, function in self._bindings(layer).items():
            target.bind_key(key, function, overwrite=True)

    def release(self, target: Any) -> None:
        """Take all keys off again."""
        for known, layer in self._targets:
            if known() is target:
                for key in self._bindings(layer):
                    target.bind_key(key, None)
        self._targets = [(known, layer) for known, layer in self._targets if known() not in (target, None)]

    @property
    def shortcuts(self) -> dict[str, str]:
        """Name of each action in `SHORTCUTS` -> its key; empty if it has none."""
        return dict(self._shortcuts)

    def set(self, name: str, key: str, others: Mapping[str, str] | None = None) -> str | None:
        """Give an action a key, or none; an action that has the key already takes this one's in exchange.

        Parameters
        ----------
        name : str
        key : str
        others : mapping of str to str, optional
            Keys that the window itself has taken -> what they do there.

        Returns
        -------
        str or None
            The other action, if there is one.

        Raises
        ------
        InputError
            For a key that cannot be used, or is napari's.
        """
        key = normal(key) if key else ""
        taken = {**(others or {}), **napari_keys()}
        if key in taken:
            raise InputError(f"{key} is napari's key for “{taken[key]}”: choose another one.")
        for action, fixed in LAYER_SHORTCUTS.items():
            if key == fixed:
                raise InputError(f"{key} always means “{SHORTCUTS[action].title}”: choose another one.")
        other = next((a for a, its in self._shortcuts.items() if key and its == key and a != name), None)
        changed = {name: key} if other is None else {name: key, other: self._shortcuts[name]}
        own = {**self._own, **changed}
        self._change({action: its for action, its in own.items() if its != SHORTCUTS[action].key})
        return other

    def reset(self) -> None:
        """Give all actions their first keys again."""
        self._change({})

    # ---- inside --------------------------------------------------------------------------------------------------

    def _remembered(self) -> dict[str, str]:
        """The user's own keys; what makes no sense, or is taken by now, is left out with a warning."""
        found: dict[str, str] = {}
        kept = self._memory.get(_MEMORY, {})
        taken = napari_keys()
        for name, wanted in kept.items() if isinstance(kept, dict) else ():
            if name not in self._actions:
                continue
            try:
                key = normal(str(wanted)) if wanted else ""
                if key in taken or key in LAYER_SHORTCUTS.values() or (key and key in found.values()):
                    raise InputError(f"{key} is taken.")
                found[name] = key
            except InputError as error:
                logger.warning("The shortcut of “%s” that you chose is left out: %s", SHORTCUTS[name].title, error)
        return found

    def _current(self) -> dict[str, str]:
        """Key of every action: the user's, else the first one, unless that is taken."""
        taken = {*napari_keys(), *self._own.values()}
        free = {name: "" if SHORTCUTS[name].key in taken else SHORTCUTS[name].key for name in self._actions}
        return {**free, **self._own}

    def _change(self, own: dict[str, str]) -> None:
        targets = [(target, layer) for known, layer in self._targets if (target := known()) is not None]
        for target, _ in targets:
            self.release(target)
        self._own = own
        self._shortcuts = self._current()
        for target, layer in targets:
            self.bind(target, layer=layer)
        kept = self._memory.get(_MEMORY, {})
        foreign = {name: key for name, key in kept.items() if name not in SHORTCUTS} if isinstance(kept, dict) else {}
        self._memory.note(_MEMORY, {**foreign, **own} or None)  # those of another version stay
        self._on_change()

    def _bindings(self, layer: bool) -> dict[str, Callable[[Any], None]]:
        def ignoring(action: Callable[[], None]) -> Callable[[Any], None]:
            return lambda _: action()

        found = {key: ignoring(self._actions[name]) for name, key in self._shortcuts.items() if key}
        more = LAYER_SHORTCUTS if layer else {}
        return found | {key: ignoring(self._actions[name]) for name, key in more.items() if name in self._actions}
