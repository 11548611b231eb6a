"""What a run has said so far: its events, a JSON object a line, read on as the file grows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTED, PROCESS = "started", "process"
"""Events of whoever starts a run: written first, and then with the process's number as "pid"."""

_MOST = 1 << 18  # bytes at a time, so that the window stays alive
_LEARNING = "step "  # what the progress of learning itself begins with
_ENOUGH = 5.0  # seconds after which there is something to say about the time


@dataclass(frozen=True)
class Trouble:
    """A problem of the data: the file, what is wrong with it, and whether it is left out."""

    file: str
    text: str
    fatal: bool


@dataclass
class RunLog:
    """The events of a run, those of earlier starts among them.

    Parameters
    ----------
    path : Path
        Of the events; need not be there yet.
    clock : callable
        Seconds.

    Attributes
    ----------
    text, share : str, float
        What is being done, and how far that is, 0 to 1.
    learning : bool
        Whether it is the learning itself.
    curve : dict of int to dict
        Step to what was measured: "loss" (NaN if there is none), "score" and structures.
    troubles, remarks : list
        Of the data, since the last start.
    data : mapping
        Counts of the data.
    steps : int
        Of the whole run; 0 until that is known.
    done : mapping or None
        The last event of a run that has ended well.
    pid : int or None
        Of the process that was started last.
    """

    path: Path
    clock: Callable[[], float] = time.monotonic
    text: str = ""
    share: float = 0.0
    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    done: Mapping[str, Any] | None = None
    pid: int | None = None
    _place: int = 0
    _rest: bytes = b""
    _begun: tuple[float, float] | None = None  # when the learning was first seen, and how far it was

    def read(self) -> bool:
        """Take in what has come since; whether there may be more already."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._place)
                new = file.read(_MOST)
        except OSError:
            return False
        self._place += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            self._take(line)
        return len(new) == _MOST

    @property
    def learning(self) -> bool:
        return self.text.startswith(_LEARNING)

    @property
    def seconds_left(self) -> float | None:
        """Of the learning, as fast as it has been since it was first seen; None while nothing can be said."""
        if not self.learning or self._begun is None:
            return None
        since, share = self._begun
        passed, done = self.clock() - since, self.share - share
        return passed * (1 - self.share) / done if passed > _ENOUGH and done > 0 else None

    def rows(self) -> list[dict[str, float]]:
        """The curve by step."""
        return [{"step": step, **values} for step, values in sorted(self.curve.items())]

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):  # torn by a kill, or somebody's print
            return
        match kind:
            case "started":
                self.text, self.share, self._begun, self.done = "", 0.0, None, None
                self.troubles, self.remarks, self.pid = [], [], None
            case "process":
                self.pid = event.get("pid")
            case "progress":
                self.text, self.share = str(event.get("text", "")), _number(event.get("share"), 0.0)
                if self.learning and self._begun is None:
                    self._begun = self.clock(), self.share
            case "measure":
                values = {key: _number(value) for key, value in event.items() if key not in ("event", "step")}
                self.curve[int(_number(event.get("step"), 0.0))] = values
            case "problem":
                said = str(event.get("file", "")), str(event.get("text", "")), bool(event.get("fatal"))
                self.troubles.append(Trouble(*said))
            case "remark":
                self.remarks.append(str(event.get("text", "")))
            case "data":
                self.data = event
            case "settings":
                self.steps = int(_number(event.get("steps"), 0.0))
            case "done":
                self.done = event


def _number(value: Any, otherwise: float = math.nan) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
