"""Whether the event loop runs, and if not, what holds it up.

A timer beats in the main thread. When a beat is late, a thread takes samples of the main thread's stack until the next
one comes; the time between two samples is ours if a function of the plugin (or of what it calls) is on the stack, else
napari's: above all drawing the canvas, by software where there is no GPU. Processor time of the main thread is taken
too: on a machine that others use, a loop may be late without anybody's fault.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import numpy as np
from qtpy.QtCore import Qt, QTimer

_BEAT = 10  # ms
_SAMPLE = 0.008  # s between two samples
_LATE = 0.03  # s after which samples are taken
LIMIT = 0.1  # s that the loop may be held up
_HANGS = 90  # s after which nothing will come any more
_OURS = "napari_sammed"
_NAPARI = ("napari", "vispy", "superqt")


@dataclass
class Block:
    """A time in which the event loop did not run: seconds in all, and of ours, each also of the processor; by whom.

    Of ours, `within_processor` is what napari needed for what we called it for: a layer more or less takes it 0.1 s.
    """

    seconds: float = 0.0
    processor: float = 0.0
    ours: float = 0.0
    ours_processor: float = 0.0
    within_processor: float = 0.0
    culprits: Counter[str] = field(default_factory=Counter)
    action: str = ""


class Heartbeat:
    """Watches the main thread, on which it must be made.

    Attributes
    ----------
    blocks : list of Block
        Late beats so far.
    action : str
        What is being done, for the record.
    """

    def __init__(self, on_hang: Callable[[], None]) -> None:
        self.blocks: list[Block] = []
        self.beats = 0
        self.action = ""
        self._on_hang = on_hang
        self._main = threading.main_thread().ident
        self._clock = time.pthread_getcpuclockid(self._main)
        self._idle = False
        self._current = Block()
        self._beat_at, self._used = time.perf_counter(), self._processor()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_BEAT)
        self._timer.timeout.connect(self._beat)
        self._timer.start()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="monkey-watch", daemon=True).start()

    def stop(self) -> None:
        self._timer.stop()
        self._stopped.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The monkey itself needs the main thread for a while."""
        self._beat()
        self._idle = True
        try:
            yield
        finally:
            self._current = Block()
            self._beat_at, self._used = time.perf_counter(), self._processor()
            self._idle = False

    @property
    def over(self) -> list[Block]:
        """Blocks of ours beyond `LIMIT`."""
        return [block for block in self.blocks if block.ours > LIMIT]

    def report(self) -> str:
        """Figures, and who held the loop up for how long."""
        ours = np.array([block.ours for block in self.blocks if block.ours > 0] or [0.0])
        busy = np.array([block.ours_processor for block in self.blocks if block.ours > 0] or [0.0])
        own = np.array([block.ours_processor - block.within_processor for block in self.blocks] or [0.0])
        other = np.array([block.seconds - block.ours for block in self.blocks] or [0.0])
        lines = [
            f"event loop: {self.beats} beats; held up by us in {len(ours)}, 99th percentile of those "
            f"{1000 * np.percentile(ours, 99):.0f} ms, most {1000 * ours.max():.0f} ms, over {1000 * LIMIT:.0f} ms "
            f"{len(self.over)} times (of the processor: {1000 * np.percentile(busy, 99):.0f} ms, "
            f"{1000 * busy.max():.0f} ms, {np.count_nonzero(busy > LIMIT)} times; of it without what napari does in "
            f"calls of ours: {1000 * np.percentile(own, 99):.0f} ms, {1000 * own.max():.0f} ms, "
            f"{np.count_nonzero(own > LIMIT)} times); "
            f"by napari, Qt and drawing: 99th percentile of late beats "
            f"{1000 * np.percentile(other, 99):.0f} ms, most {1000 * other.max():.0f} ms"
        ]
        worst: dict[str, Block] = {}
        count: Counter[str] = Counter()
        for block in sorted(self.over, key=lambda block: -block.ours_processor):
            name = max(block.culprits, key=block.culprits.__getitem__)
            worst.setdefault(name, block)
            count[name] += 1
        for name, block in worst.items():
            lines.append(
                f"  {count[name]}x, worst {1000 * block.ours:.0f} ms of ours in {1000 * block.seconds:.0f} ms "
                f"(processor {1000 * block.ours_processor:.0f} of {1000 * block.processor:.0f} ms), in {block.action}:"
            )
            lines += [f"      {1000 * time_:.0f} ms {place}" for place, time_ in block.culprits.most_common(4)]
        return "\n".join(lines)

    def _processor(self) -> float:
        return time.clock_gettime(self._clock)

    def _beat(self) -> None:
        now, used = time.perf_counter(), self._processor()
        if not self._idle:
            self.beats += 1
            block, self._current = self._current, Block()
            if now - self._beat_at > _LATE:
                block.seconds, block.processor = now - self._beat_at, used - self._used
                block.action = self.action
                self.blocks.append(block)
        self._beat_at, self._used = now, used

    def _watch(self) -> None:
        before, used_before = time.perf_counter(), self._processor()
        while not self._stopped.wait(_SAMPLE):
            now, used = time.perf_counter(), self._processor()
            late = now - self._beat_at
            if not self._idle and late > _LATE:
                place, within = _culprit(sys._current_frames().get(self._main))
                if place is not None:
                    span = min(now - before, late)
                    self._current.ours += span
                    self._current.ours_processor += used - used_before
                    self._current.within_processor += (used - used_before) * within
                    self._current.culprits[place] += span
            if late > _HANGS:
                self._on_hang()
            before, used_before = now, used


def _culprit(frame: FrameType | None) -> tuple[str | None, bool]:
    """The innermost function of ours on a stack and what it called, None if there is none; whether that was napari."""
    inner, within = "", False
    while frame is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        place = f"{module}.{code.co_qualname}:{frame.f_lineno}"
        if module.split(".")[0] == _OURS:
            return (f"{place} > {inner}" if inner else place), within
        inner, within = place, within or module.split(".")[0] in _NAPARI
        frame = frame.f_back
    return None, False
