"""Runs in their folders: started in a process of their own that outlives napari, followed, stopped, gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from napari_sammed.errors import InputError
from napari_sammed.formats.common import put_in_place
from napari_sammed.plugin.learning.log import PROCESS, STARTED, RunLog
from napari_sammed.plugin.learning.wish import Wish
from napari_sammed.plugin.sessions import journals
from napari_sammed.training.alone import at_work

ASKED, EVENTS, MESSAGES = "asked.json", "events.jsonl", "messages.txt"
"""In the folder of a run: what the dock asked for, what the run says to programs, and to people."""

PROGRAM = (sys.executable, "-m", "napari_sammed.cli")
"""What is run, with the arguments of a `Wish`."""

_NICE = 10  # so that windows come first
_STOPPED = (130, -signal.SIGTERM, -signal.SIGINT)
_LAST = 4000  # bytes of messages that may hold the reason


def runs_folder() -> Path:
    """Where runs go unless the user names another place: beside the sessions."""
    return journals.folder() / "training"


def earlier(folder: Path) -> list[Path]:
    """Runs that were asked for in a folder, the latest first."""
    with contextlib.suppress(OSError):
        found = [path.parent for path in folder.glob(f"*/{ASKED}")]
        return sorted(found, key=lambda path: (path / ASKED).stat().st_mtime, reverse=True)
    return []


class LearningRun:
    """A run in its folder, whether this napari has started it or another program.

    Parameters
    ----------
    out : Path
    program : sequence of str

    Attributes
    ----------
    log : RunLog
        What it has said so far.
    stopping : bool
        It was told to stop.
    """

    def __init__(self, out: Path, program: tuple[str, ...] = PROGRAM) -> None:
        self.out = Path(out)
        self.log = RunLog(self.out / EVENTS)
        self.stopping = False
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def wish(self) -> Wish:
        """What was asked for; InputError if that cannot be read."""
        try:
            return Wish.from_json((self.out / ASKED).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{self.out / ASKED} cannot be read: {error.strerror}.") from None

    def start(self, wish: Wish, *, check_only: bool = False) -> None:
        """Begin, or go on. Not for the GUI thread.

        Raises
        ------
        InputError
            If somebody is at work there already, or the process cannot be started.
        """
        if self.alive:
            raise InputError(f"A run is at work in {self.out} already.")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            part = self.out / f"{ASKED}.part"
            part.write_text(wish.to_json(), encoding="utf-8")
            put_in_place(part, self.out / ASKED)
            with (self.out / EVENTS).open("ab") as events, (self.out / MESSAGES).open("wb") as messages:
                events.write(f"\n{json.dumps({'event': STARTED})}\n".encode())
                events.flush()
                self._process = subprocess.Popen(
                    [*self._program, *wish.arguments(check_only=check_only)],
                    stdin=subprocess.DEVNULL,
                    stdout=events,
                    stderr=messages,
                    start_new_session=True,  # Ctrl-C in napari's terminal is not meant for it
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
                    | getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
                )
                events.write(f"\n{json.dumps({'event': PROCESS, 'pid': self._process.pid})}\n".encode())
        except OSError as error:
            raise InputError(f"The run in {self.out} cannot be started: {error.strerror or error}.") from None
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)
        self.stopping = False

    @property
    def alive(self) -> bool:
        """Whether it is at work."""
        if self._process is not None and self._process.poll() is None:
            return True
        return at_work(self.out)

    def stop(self) -> None:
        """Have it keep its state and end; told again, it ends at once, with the state that it kept last."""
        sign = signal.SIGTERM if not self.stopping else getattr(signal, "SIGKILL", signal.SIGTERM)
        pid = self.log.pid if self._process is None else self._process.pid
        if pid and self.alive:
            with contextlib.suppress(OSError):
                os.kill(pid, sign)
        self.stopping = True

    def complaint(self) -> str:
        """Why it has ended without a result, in its own words; empty if it was stopped."""
        if self.stopping or (self._process is not None and self._process.poll() in _STOPPED):
            return ""
        try:
            said = (self.out / MESSAGES).read_bytes()[-_LAST:].decode(errors="replace").strip()
        except OSError:
            said = ""
        lines = [line for line in said.splitlines() if line.strip()]
        if not lines or lines[-1].endswith("interrupted"):
            return ""
        return lines[-1].removeprefix("napari-sammed: ")
