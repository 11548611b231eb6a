"""A hint for the first prompt, in the first sessions of a user."""

from __future__ import annotations

from napari_sammed.plugin.desk import Desk
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.session import Session

SESSIONS = 3
"""In how many sessions without objects it is shown."""

_MEMORY = "hints"
_TEXT = "Point +: click inside of the object. Box: draw a rectangle around it. Point - takes away what is too much."


class FirstHint:
    """The hint of one image. All methods belong to the GUI thread.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._memory = Memory()
        self._wanted: bool | None = None  # until the session is there
        desk.panel.hint.dismissed.connect(self._dismiss)

    def refresh(self, session: Session) -> None:
        """Show it as long as nothing has been prompted."""
        untouched = not session.objects
        if self._wanted is None:
            self._wanted = untouched and self._desk.preferences["hints"] and self._count() < SESSIONS
            if self._wanted:
                self._memory.note(_MEMORY, self._count() + 1)
        self._wanted = self._wanted and untouched
        self._desk.panel.hint.show_text(_TEXT if self._wanted else "")

    def close(self) -> None:
        """Take it away."""
        self._desk.panel.hint.dismissed.disconnect(self._dismiss)
        self._desk.panel.hint.show_text("")

    def _count(self) -> int:
        """Sessions in which it was shown."""
        count = self._memory.get(_MEMORY, 0)
        return count if isinstance(count, int) else SESSIONS

    def _dismiss(self) -> None:
        self._wanted = False
        self._memory.note(_MEMORY, SESSIONS)
        self._desk.panel.hint.show_text("")
