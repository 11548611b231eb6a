"""What users prefer, from one start to the next: declared in the manifest, kept by napari where it can.

Since napari 0.9 the values are those of napari's own preferences dialog, where they have a page. Before, and where the
environment variable ``NAPARI_SAMMED_CONFIG`` names a folder, they are in the plugin's memory.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari_sammed
from napari_sammed.errors import InputError
from napari_sammed.plugin.settings.memory import FOLDER_VARIABLE, Memory

logger = logging.getLogger(__name__)

_PLUGIN = "napari-sammed"
_MEMORY = "preferences"
_TYPES = {"string": str, "boolean": bool, "integer": int, "number": float}


@dataclass(frozen=True)
class Preference:
    """A value that users may choose.

    Parameters
    ----------
    section, section_title : str
        Where it is on the page.
    title, description : str
        The description says from when on a change counts.
    kind : type
        str, bool, int or float.
    default : str, bool, int or float
    choices : tuple of str
        The only values; empty if any will do.
    minimum, maximum : float, optional
    """

    section: str
    section_title: str
    title: str
    description: str
    kind: type
    default: Any
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: Any) -> Any:
        """A value as its type; InputError if it is none that can be chosen."""
        if self.kind is float and type(value) is int:
            value = float(value)
        fits = type(value) is self.kind and (not self.choices or value in self.choices)
        if fits and self.minimum is not None:
            fits = self.minimum <= value <= self.maximum
        if not fits:
            between = "" if self.minimum is None else f", {self.minimum:g} to {self.maximum:g}"
            wanted = f"one of {', '.join(self.choices)}" if self.choices else f"a {self.kind.__name__}{between}"
            raise InputError(f"“{self.title}” cannot be {value!r}: it takes {wanted}.")
        return value


@functools.cache
def declared() -> dict[str, Preference]:
    """All preferences by name, in the order of the page."""
    import yaml

    manifest = Path(napari_sammed.__file__).with_name("napari.yaml").read_text(encoding="utf-8")
    found: dict[str, Preference] = {}
    for section, page in yaml.safe_load(manifest)["contributions"]["configurations"].items():
        for name, values in page["properties"].items():
            found[name] = Preference(
                section,
                page["title"],
                values["title"],
                values["description"],
                _TYPES[values["type"]],
                values["default"],
                tuple(values.get("enum", ())),
                values.get("minimum"),
                values.get("maximum"),
            )
    return found


class Preferences:
    """The values, wherever they are kept.

    Parameters
    ----------
    memory : Memory
        For napari that keeps no preferences of plugins.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._settings = _napari_settings()
        self._listeners: list[Callable[[str], None]] = []

    def __getitem__(self, name: str) -> Any:
        """What the user prefers; the usual value where nothing, or nothing sensible, was chosen."""
        preference = declared()[name]
        if self._settings is not None:
            value = getattr(getattr(self._settings, preference.section, None), name, preference.default)
        else:
            kept = self._memory.get(_MEMORY, {})
            value = kept.get(name, preference.default) if isinstance(kept, dict) else preference.default
        try:
            return preference.check(value)
        except InputError as error:
            logger.warning("%s The usual value is used: %r.", error, preference.default)
            return preference.default

    def set(self, name: str, value: Any) -> None:
        """Prefer another value from now on.

        Raises
        ------
        InputError
            For a value that cannot be chosen.
        """
        preference = declared()[name]
        value = preference.check(value)
        if value == self[name]:
            return
        place = getattr(self._settings, preference.section, None)
        if place is not None and hasattr(place, name):
            setattr(place, name, value)  # napari tells us, as if it came from its own page
            return
        kept = self._memory.get(_MEMORY, {})
        self._memory.note(_MEMORY, {**(kept if isinstance(kept, dict) else {}), name: value})
        self._tell(name)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the name of each preference that changes."""
        for event in () if self._listeners else self._events():
            event.connect(self._on_event)
        self._listeners.append(listener)

    def close(self) -> None:
        """Tell nobody any more."""
        for event in self._events() if self._listeners else ():
            event.disconnect(self._on_event)
        self._listeners.clear()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _events(self) -> list[Any]:
        """What napari tells of changes on its own page."""
        pages = {name: getattr(self._settings, preference.section, None) for name, preference in declared().items()}
        return [getattr(page.events, name) for name, page in pages.items() if hasattr(page, name)]

    def _on_event(self, event: Any) -> None:
        self._tell(event.type)

    def _tell(self, name: str) -> None:
        for listener in self._listeners:
            listener(name)


def _napari_settings() -> Any:
    """What napari keeps for this plugin; None if it keeps nothing."""
    if os.environ.get(FOLDER_VARIABLE):
        return None
    try:
        from napari.settings import get_plugin_settings
    except ImportError:  # before 0.9
        return None
    try:
        return get_plugin_settings(_PLUGIN)
    except KeyError:  # the widget was opened without the plugin being installed, or it is switched off
        return None
