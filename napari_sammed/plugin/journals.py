"""Where the plugin keeps the journals of sessions: one file for each image, found again by the image's hash."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_VARIABLE = "NAPARI_SAMMED_SESSIONS"


def folder() -> Path:
    """The user's folder of sessions, or the one named by the environment variable ``NAPARI_SAMMED_SESSIONS``."""
    chosen = os.environ.get(FOLDER_VARIABLE)
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
