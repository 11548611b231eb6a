"""Saves the objects of one image beside the GUI thread, and knows whether they have changed since."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QMessageBox, QWidget

from napari_sammed import messages
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.formats.common import put_in_place
from napari_sammed.session.separate_files import object_files, save_each, stem_and_ending

if TYPE_CHECKING:
    from napari_sammed.plugin.desk import Desk
    from napari_sammed.session import Session

_NAMED = 3  # files named in a question


class Saving:
    """Writes files as the panel says. Belongs to the GUI thread.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._cancel = threading.Event()
        self._saved: tuple[tuple[int, ...], str] | None = None  # the session as it was saved, and where
        desk.panel.saved.show_text("")

    def save(self, session: Session, path: Path) -> None:
        """Write all objects.

        Raises
        ------
        InputError
            If the image itself would be overwritten.
        """
        options = self._desk.panel.save_options
        names = {label: state.name for label, state in session.objects.items() if state.mask is not None}
        files = list(object_files(names, path).values()) if options.each else [path]
        table = path.with_name(f"{stem_and_ending(path)[0]}.csv") if options.table else None
        check_source(session.source.get("path"), files)
        asked_by_dialog = [] if options.each else [path]
        there = [
            file for file in (*files, *([table] if table else [])) if file.exists() and file not in asked_by_dialog
        ]
        if there and not may_overwrite(self._desk.panel, there):
            self._desk.say("Nothing was saved.")
            return
        text = self._desk.panel.objects.text(",") if table else ""
        revision, cancel = session.revision, threading.Event()
        self._cancel = cancel
        status = self._desk.panel.status
        status.set_busy(True)
        status.set_progress(f"Writing {path.name} …", 0)

        def tell(what: str, share: float) -> None:
            self._desk.gui.post(status.set_progress, f"{what[:1].upper()}{what[1:]} …", share)

        def work() -> str:
            if options.each:
                written = save_each(session, path, progress=tell, cancel=cancel)
                said = f"{messages.counted(len(written), 'file')} to {path.parent}"
            else:
                session.save(path)
                said = f"to {path}"
            if table is not None:
                write_table(table, text)
                said += f", the table to {table.name}"
            return said

        self._desk.background.run(work, lambda future: self._done(future, revision, session))

    def cancel(self) -> None:
        """Write no further file."""
        self._cancel.set()

    def refresh(self, session: Session) -> None:
        """Say whether the objects have been saved as they are."""
        if self._saved is None:
            text = ""
        else:
            revision, where = self._saved
            text = f"Saved {where}." if revision == session.revision else f"Changed since they were saved {where}."
        self._desk.panel.saved.show_text(text)

    def _done(self, future: Future[str], revision: tuple[int, ...], session: Session) -> None:
        if self._desk.closed:
            return
        self._desk.answers.watch()
        error = future.exception()
        if error is None:
            self._saved = revision, future.result()
            self._desk.say(f"Saved {future.result()}.")
            self.refresh(session)
        elif isinstance(error, Cancelled):
            self._desk.say("Cancelled: the files that were written already stay.")
        else:
            self._desk.say(messages.failure(error) or "")


def check_source(source: str | None, files: Sequence[Path]) -> None:
    """Refuse to write over the image that the objects are of.

    Parameters
    ----------
    source : str or None
        Where the image was read from.
    files : sequence of Path

    Raises
    ------
    InputError
    """
    for file in files:
        if source and file.exists() and Path(source).exists() and file.samefile(source):
            raise InputError(f"{file} is the image itself, which is never overwritten: choose another name.")


def may_overwrite(parent: QWidget, there: Sequence[Path]) -> bool:
    """Ask whether files that are there may be replaced."""
    names = ", ".join(file.name for file in there[:_NAMED]) + (" …" if len(there) > _NAMED else "")
    question = f"{messages.counted(len(there), 'file')} of these names will be replaced: {names}. Go on?"
    answer = QMessageBox.question(parent, "Replace files?", question)
    return answer == QMessageBox.StandardButton.Yes


def write_table(path: Path, text: str) -> None:
    """Write a table so that it appears whole or not at all; InputError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_text(text, encoding="utf-8-sig")  # the mark tells Excel that it is UTF-8
        put_in_place(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)
