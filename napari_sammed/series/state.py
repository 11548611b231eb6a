"""How far a series is: one small file in the folder of the results, with paths that hold on other computers too."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from napari_sammed.errors import InputError
from napari_sammed.formats.common import put_in_place
from napari_sammed.series.classes import ClassLabel, to_json
from napari_sammed.series.finding import RESULT, find_images, stem
from napari_sammed.session.separate_files import safe_name

FORMAT = 1
NAME = "series.json"
FOLDER = "sammed_results"
"""Of the results, in the folder of the images, unless the user names another."""

State = Literal["open", "done", "skipped"]


@dataclass
class Entry:
    """One image of a series.

    Parameters
    ----------
    path : str
        Relative to the folder of the images, with forward slashes.
    series : str or None
        Which one of a DICOM folder with several.
    result : str
        Its files in the folder of the results, without their endings.
    state : str
        "open", "done" or "skipped".
    seconds : float
        Worked on it.
    objects : int
        That have a mask.
    opened : str
        When it was opened last, local time; empty if never.
    error : str
        Why it could not be opened or saved; empty if it could.
    """

    path: str
    series: str | None
    result: str
    state: State = "open"
    seconds: float = 0.0
    objects: int = 0
    opened: str = ""
    error: str = ""


class Series:
    """The images of a folder and what has become of them.

    Parameters
    ----------
    folder : Path
        Of the images.
    results : Path, optional
        Default: `FOLDER` in there. Made when something is written.
    classes : sequence of ClassLabel, optional
        Default: those of the day before.
    subfolders : bool
        Whether images in folders inside belong to it.

    Attributes
    ----------
    entries : list of Entry
        Images that are gone since are left out, but stay in the file.

    Raises
    ------
    InputError
        If the folder cannot be read, holds no image, or its state makes no sense.
    """

    def __init__(
        self,
        folder: Path,
        results: Path | None = None,
        classes: list[ClassLabel] | None = None,
        *,
        subfolders: bool = True,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.results = Path(results).absolute() if results is not None else self.folder / FOLDER
        without = None if self.results == self.folder else self.results
        images = find_images(self.folder, subfolders=subfolders, without=without)
        if not images:
            raise InputError(f"There is no image in {self.folder}.")
        kept = _read(self.results / NAME)
        self.classes = classes or [ClassLabel(**one) for one in kept.get("classes", ())]
        known = {(entry.path, entry.series): entry for entry in (_entry(one) for one in kept.get("images", ()))}
        taken = {entry.result.casefold() for entry in known.values()}
        self.entries = [known.pop(image, None) or _new(*image, taken) for image in images]
        self._gone = list(known.values())

    def image(self, entry: Entry) -> Path:
        """Where the image of an entry is."""
        return self.folder / entry.path

    def session_file(self, entry: Entry) -> Path:
        """Where its session is kept."""
        return self.results / f"{entry.result}.sammed.jsonl"

    def label_file(self, entry: Entry, ending: str) -> Path:
        """Where its label image goes."""
        return self.results / f"{entry.result}{RESULT}{ending}"

    def count(self, state: State) -> int:
        """Images in a state."""
        return sum(entry.state == state for entry in self.entries)

    @property
    def seconds_left(self) -> float | None:
        """What the open ones will take if they are like the ones that are done; None while none is."""
        done = [entry.seconds for entry in self.entries if entry.state == "done"]
        return None if not done else self.count("open") * sum(done) / len(done)

    def beside(self, entry: Entry | None, step: int, *, all_: bool = False) -> Entry | None:
        """The next entry, or with -1 the one before; by default only open ones. None if there is none."""
        place = -1 if entry is None else self.entries.index(entry)
        if entry is None and step < 0:
            place = len(self.entries)
        rest = self.entries[place + 1 :] if step > 0 else self.entries[:place][::-1]
        return next((other for other in rest if all_ or other.state == "open"), None)

    def note_opened(self, entry: Entry) -> None:
        """The user sees it now."""
        entry.opened = datetime.now().isoformat(timespec="seconds")
        entry.error = ""

    def save(self) -> None:
        """Write the state file, at once.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        path = self.results / NAME
        content = {
            "napari-sammed series": FORMAT,
            "folder": _relative(self.folder, self.results),
            "classes": to_json(self.classes),
            "images": [asdict(entry) for entry in (*self.entries, *self._gone)],
        }
        temporary = path.with_name(f".{NAME}.{os.getpid()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
            put_in_place(temporary, path)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}.") from None


def recorded(results: Path) -> tuple[Path, list[ClassLabel], list[Entry]]:
    """What the state file in a folder of results says, whether or not the images are still there.

    Returns
    -------
    folder : Path
        Of the images.
    classes : list of ClassLabel
    entries : list of Entry

    Raises
    ------
    InputError
        If it makes no sense. Without a state file there are no entries.
    """
    kept = _read(results / NAME)
    folder = Path(os.path.normpath(results / str(kept.get("folder", "."))))
    entries = [_entry(one) for one in kept.get("images", ())]
    return folder, [ClassLabel(**one) for one in kept.get("classes", ())], entries


def _new(path: str, series: str | None, taken: set[str]) -> Entry:
    """An entry whose results have names of their own, which stay the same from now on."""
    base = stem(path) if path != "." else "dicom"
    result = f"{base}_{safe_name(series)[-12:]}" if series else base
    if result.casefold() in taken:
        result = f"{result}_{safe_name(path[len(base) :]) or '2'}"
    while result.casefold() in taken:
        result += "_"
    taken.add(result.casefold())
    return Entry(path, series, result)


def _entry(content: dict[str, Any]) -> Entry:
    return Entry(**{field.name: content[field.name] for field in fields(Entry) if field.name in content})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"How far the series is cannot be read from {path} ({error}): move that file away.") from None
    if not isinstance(content, dict) or content.get("napari-sammed series") != FORMAT:
        raise InputError(f"{path} is no series of this version of napari-sammed: move it away, or update.")
    try:
        for one in content["images"]:
            _entry(one)
        [ClassLabel(**one) for one in content["classes"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} makes no sense ({error!r}): move it away.") from None
    return content


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
