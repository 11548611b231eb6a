"""Sessions as a whole: going on or starting afresh, sessions set aside and brought back, session files in and out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sammed import messages
from napari_sammed.errors import InputError, SessionInUseError, SessionUnwritableError
from napari_sammed.messages import counted, when
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.sessions import journals
from napari_sammed.plugin.sessions.opening import (
    Opened,
    Opener,
    open_copy,
    open_earlier,
    open_itself,
    open_session,
    start_afresh,
)
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.views.session_files import EarlierSessions
from napari_sammed.session import Session
from napari_sammed.session.journal_files import Summary, held, import_objects, summary

if TYPE_CHECKING:
    from napari_sammed.plugin.segmentation import Segmentation

_AGAIN = 2000  # ms between looks at whether another window has let go
_NAMED = 3  # objects named in a sentence

CONTINUE = Choice("continue", "Continue", "Go on with these objects; any prompt means the same")
AFRESH = Choice("afresh", "Start afresh", "Set these objects aside and begin with none; they can be brought back")
BRING = Choice("bring", "Bring its objects in", "As masks to correct, without its prompts; undo takes them back")
ADOPT = Choice("adopt", "Go on with its prompts", "Only if it is the same image: prompts and masks stay where they are")
COPY = Choice("copy", "Continue in a copy", "The file stays as it is")
ITSELF = Choice("itself", "Continue in the file", "Everything that you do is written into the file itself")
LEAVE = Choice("leave", "Leave it", "Nothing happens to it")
LOOK = Choice("look", "Only look", "Show what is there, as far as it has been written down; nothing can be changed")
RETRY = Choice("retry", "Try again", "Open the session again")


class SessionFiles:
    """What the panel's bar and its session menu do. Belongs to the GUI thread.

    Parameters
    ----------
    panel : Panel
    gui : GuiThread
    background : Background
    current : callable
        Gives what is being segmented, or None.
    reopen : callable
        Opens another session of the same image, with an opener.
    """

    def __init__(
        self,
        panel: Panel,
        gui: GuiThread,
        background: Background,
        current: Callable[[], Segmentation | None],
        reopen: Callable[[Opener], None],
    ) -> None:
        self._panel = panel
        self._gui = gui
        self._background = background
        self._current = current
        self._reopen = reopen
        self._answers: dict[str, Callable[[], None]] = {}
        self._in_use: Path | None = None
        self._shown: EarlierSessions | None = None
        self._again = QTimer(panel)
        self._again.setSingleShot(True)
        self._again.setInterval(_AGAIN)
        self._again.timeout.connect(self._look_again)
        panel.offers.answered.connect(self._on_answer)
        button = panel.session_button
        button.save_wanted.connect(self.save_as)
        button.open_wanted.connect(self.open_file)
        button.earlier_wanted.connect(self.show_earlier)
        button.afresh_wanted.connect(self.start_afresh)

    def forget(self) -> None:
        """Another image, or another session of it: what was offered no longer matters."""
        self._again.stop()
        self._in_use = None
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.close()
        self._panel.offers.withdraw()

    def show(self, outcome: Opened | BaseException) -> None:
        """Say what was found when a session was opened, or offer what can be done if it could not be."""
        if isinstance(outcome, Opened):
            self._show_opened(outcome)
        elif isinstance(outcome, SessionInUseError):
            self._in_use = outcome.path
            self._again.start()
            self._offer(
                "Another window works on this image. Close it there, and this window goes on by itself.",
                {LOOK: lambda: self._reopen(partial(open_session, read_only=True)), RETRY: self._retry},
            )
        elif isinstance(outcome, SessionUnwritableError):
            self._offer(messages.failure(outcome) or "", {RETRY: self._retry})

    def start_afresh(self) -> None:
        """Set the session aside and begin with no objects."""
        self._exchange(start_afresh)

    def save_as(self, path: Path) -> None:
        """Copy the session to a file."""
        self._do(lambda session: session.save_session(path), lambda _: self._say(f"Saved the session to {path}."))

    def open_file(self, path: Path) -> None:
        """Look into a session file, and offer to go on with it."""
        self._do(lambda _: summary(path), self._offer_file)

    def show_earlier(self) -> None:
        """List the sessions of the image that were set aside."""
        self._do(lambda session: journals.earlier(session.journal), self._list)

    # ---- what is offered -----------------------------------------------------------------------------------------

    def _show_opened(self, opened: Opened) -> None:
        session, found = opened.session, opened.found
        if opened.read_only:
            self._in_use = session.journal
            self._again.start()
            self._panel.status.warn("Only for looking: another window works on this image. Close it there to go on.")
        elif opened.damaged is not None:
            self._offer(
                f"The file of this session was damaged. {_what(found) if found else 'No object'} could be rescued, "
                f"{counted(opened.lost, 'entry').replace('entrys', 'entries')} could not. The file as it was: "
                f"{opened.damaged}",
                {CONTINUE: self._leave, AFRESH: self.start_afresh},
            )
        elif found is not None:
            self._offer(
                f"Found {_what(found)}, last changed {when(found.changed)}.",
                {CONTINUE: self._leave, AFRESH: self.start_afresh},
            )
        elif opened.changed is not None:
            self._offer_other(opened.changed, f"This file has changed since {_what(opened.changed)} were marked in it")
        session.on_change(lambda _: self._gui.post(self._on_change, session))

    def _offer_file(self, found: Summary) -> None:
        session = self._session
        name = found.path.name
        if found.image == session.image.hash:
            self._offer(
                f"{name}: {_what(found)}, last changed {when(found.changed)}.",
                {
                    COPY: lambda: self._exchange(partial(open_copy, found.path)),
                    ITSELF: lambda: self._exchange(partial(open_itself, found.path)),
                    LEAVE: self._leave,
                },
            )
        else:
            self._offer_other(found, f"{name} belongs to another image")

    def _offer_other(self, found: Summary, what: str) -> None:
        """A session of another image, or of the same one before it changed."""
        shape, own = found.shape, self._session.image.grid.shape
        if shape == own:
            answers = {
                BRING: lambda: self._bring(found.path),
                ADOPT: lambda: self._exchange(partial(open_copy, found.path)),
                LEAVE: self._leave,
            }
            self._offer(f"{what}, last changed {when(found.changed)}. Both have the same shape.", answers)
        else:
            sizes = [" x ".join(map(str, size)) for size in (shape, own)]
            where = f" ({found.source['path']})" if found.source.get("path") else ""
            text = f"{what}{where}: its shape is {sizes[0]}, and this one's {sizes[1]}. It cannot be used here."
            self._offer(text, {LEAVE: self._leave})

    def _offer(self, text: str, answers: dict[Choice, Callable[[], None]]) -> None:
        self._answers = {choice.key: do for choice, do in answers.items()}
        self._panel.offers.offer(text, list(answers))

    def _on_answer(self, key: str) -> None:
        self._answers.pop(key, lambda: None)()

    def _on_change(self, session: Session) -> None:
        """Whatever the user does means going on."""
        segmentation = self._current()
        if segmentation is not None and segmentation.session is session:
            self._panel.offers.withdraw()

    def _leave(self) -> None:
        """Nothing but the bar goes."""

    # ---- inside --------------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        return self._current().session

    def _say(self, text: str) -> None:
        self._panel.status.say(text)

    def _do(self, work: Callable[[Session], Any], then: Callable[[Any], None]) -> None:
        """Do something with the session beside the GUI thread, and go on with the result if it is still the same."""
        segmentation = self._current()
        session = None if segmentation is None else segmentation.session
        if session is None:
            return

        def done(future: Future[Any]) -> None:
            if future.exception() is not None:
                self._say(messages.failure(future.exception()) or "")
            elif self._current() is segmentation:
                then(future.result())

        self._background.run(lambda: work(session), done)

    def _exchange(self, open_: Callable[..., Opened]) -> None:
        """Another session of the image that is open, which need not be read again."""
        session = self._session
        volume, source, journal = session.image, session.source, session.journal
        self._reopen(lambda _, backend, __: open_(volume, source, backend, journal))

    def _bring(self, path: Path) -> None:
        def tell(labels: list[int]) -> None:
            self._say(f"Brought {counted(len(labels))} over: correct them with clicks; undo takes them back.")

        self._do(lambda session: import_objects(session, path), tell)

    def _list(self, found: list[Summary]) -> None:
        if not found:
            self._say("No session of this image has been set aside.")
            return
        lines = [(one.path, f"{when(one.changed)}: {_what(one)}") for one in found]
        if self._shown is not None:
            self._shown.close()
        dialog = self._shown = EarlierSessions(lines, self._panel)
        dialog.wanted.connect(lambda path: self._exchange(partial(open_earlier, path)))
        dialog.finished.connect(self._on_closed)
        dialog.open()

    def _on_closed(self) -> None:
        self._shown = None

    def _retry(self) -> None:
        self._reopen(open_session)

    def _look_again(self) -> None:
        """Go on once the other window has let go of the session."""
        path = self._in_use
        if path is None:
            return

        def free() -> bool:
            try:
                with held(path):
                    return True
            except (InputError, OSError):
                return False

        def then(future: Future[bool]) -> None:
            if self._in_use == path:
                if future.result():
                    self._retry()
                else:
                    self._again.start()

        self._background.run(free, then)


def _what(found: Summary) -> str:
    """Objects of a session: how many, and what the first ones are called."""
    names = ", ".join(found.names[:_NAMED]) + (", …" if len(found.names) > _NAMED else "")
    return f"{counted(len(found.names))} ({names})" if names else "no objects"
