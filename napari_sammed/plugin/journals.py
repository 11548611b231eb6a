"""Where the plugin keeps the journals of sessions: one file for each image, found again by the image's hash."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sammed.plugin.preferences import Preferences

FOLDER_VARIABLE = "NAPARI_SAMMED_SESSIONS"


def folder() -> Path:
    """Where sessions are kept.

    The folder named by the environment variable ``NAPARI_SAMMED_SESSIONS``, else that of the user's preferences, else
    one in the user's data folder.
    """
    chosen = os.environ.get(FOLDER_VARIABLE) or Preferences()["sessions"]
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-sammed", appauthor=False)) / "sessions"


def journal_of(image_hash: str) -> Path:
    """The journal of an image."""
    return folder() / f"{image_hash}.jsonl"


def remove_if_empty(path: Path) -> None:
    """Remove a journal in which nothing was ever done: an image was only looked at."""
    with path.open("rb") as file:
        file.readline()
        untouched = not file.read(1)
    if untouched:
        path.unlink()
