"""What the plugin remembers from one start to the next, in one small file of the user's."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from napari_sammed.formats.common import put_in_place
from napari_sammed.models.storage import CONFIG_VARIABLE as FOLDER_VARIABLE
from napari_sammed.models.storage import config_folder as folder

__all__ = ["FOLDER_VARIABLE", "Memory", "folder"]

logger = logging.getLogger(__name__)


class Memory:
    """Names and what is remembered under them: anything that JSON knows.

    Several windows may use the file at a time: each look reads it again, each note changes one name only. A file that
    cannot be read or written loses nothing but the memory: it is put aside, a warning goes to the log, and the plugin
    works as on the first day.

    Parameters
    ----------
    path : Path, optional
        Default: ``memory.json`` in `folder`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or folder() / "memory.json"

    def get(self, name: str, default: Any = None) -> Any:
        """What is remembered under a name."""
        return self._read().get(name, default)

    def note(self, name: str, value: Any) -> None:
        """Remember a value; None forgets the name."""
        kept = self._read()
        if kept.get(name) == value:
            return
        kept[name] = value
        if value is None:
            del kept[name]
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            put_in_place(temporary, self.path)
        except OSError as error:
            logger.warning("%s cannot be written (%s): settings are lost when the program ends.", self.path, error)

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read (%s): starting with the usual settings.", self.path, error)
            self._put_aside()
            return {}
        if isinstance(kept, dict):
            return kept
        logger.warning("%s holds no settings: starting with the usual ones.", self.path)
        self._put_aside()
        return {}

    def _put_aside(self) -> None:
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path.with_suffix(".broken"))
