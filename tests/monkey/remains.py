"""What is left of the plugin when its dock has been closed and all layers deleted: nothing may be."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from types import ModuleType

import psutil
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_sammed import strokes

_OURS = "napari_sammed"
_KEPT = "napari_sammed.plugin.settings.preferences.Preference"  # read once for all windows


def threads() -> list[str]:
    """Names of the threads that are ours."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("napari-sammed"))


def objects(before: Counter[str]) -> Counter[str]:
    """Living instances of our classes, beyond those that there were before."""
    strokes._swept.cache_clear()  # of the latest strokes, of any image; a limited number
    sys.last_value = sys.last_traceback = None  # of an exception, with all that was known where it was raised
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    gc.collect()
    left = living() - before
    del left[_KEPT]
    return left


def living() -> Counter[str]:
    """Instances of our classes by name, without classes and functions themselves."""
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if str(getattr(kind, "__module__", "")).split(".")[0] == _OURS and not isinstance(thing, type):
            found[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return found


def holder(name: str) -> str:
    """The shortest way to a living instance of a class from something that nothing holds, as far as Python knows."""
    things = gc.get_objects()
    holders: defaultdict[int, list[int]] = defaultdict(list)
    for place, thing in enumerate(things):
        for held in gc.get_referents(thing):
            holders[id(held)].append(place)
    start = next(i for i, thing in enumerate(things) if f"{type(thing).__module__}.{type(thing).__qualname__}" == name)
    before, waiting = {start: start}, deque([start])
    while waiting:
        place = waiting.popleft()
        outer = holders[id(things[place])]
        if not outer or isinstance(things[place], ModuleType):
            way = [place]
            while way[-1] != start:
                way.append(before[way[-1]])
            return "\n".join(f"    {type(things[i]).__qualname__} {str(things[i])[:120]!r}" for i in way)
        for other in outer:
            if other not in before:
                before[other] = place
                waiting.append(other)
    return "nothing but themselves"


def widgets() -> int:
    """All widgets of the application."""
    return len(QApplication.allWidgets())


class Memory:
    """Memory over time, taken at moments that are alike.

    The C library keeps what is freed for later, in an arena for each thread: of a network some hundred MiB, more or
    less by chance, which says nothing of what is left. So free pages go back to the system first; what lies between
    used ones, or at the end of an arena, stays. `in_use`, what malloc has given out and not got back, is without it.

    Attributes
    ----------
    points : list of tuple of float
        Seconds, and MiB of resident memory.
    in_use : list of float
        MiB at the same moments, without the objects that Python allocates by itself; empty without the GNU C library.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._start = time.perf_counter()
        self._library = ctypes.CDLL(None) if sys.platform == "linux" else None
        if not hasattr(self._library, "mallinfo2"):
            self._library = None
        self.points: list[tuple[float, float]] = []
        self.in_use: list[float] = []

    def note(self) -> float:
        """Take the memory now; returns MiB of resident memory."""
        gc.collect()
        if self._library is not None:
            self._library.malloc_trim(0)
            self._library.mallinfo2.restype = _MallInfo
            info = self._library.mallinfo2()
            self.in_use.append((info.uordblks + info.hblkhd) / 2**20)
        used = self._process.memory_info().rss / 2**20
        self.points.append((time.perf_counter() - self._start, used))
        return used

    def slopes(self) -> tuple[float, ...] | None:
        """MiB a minute over the latter two thirds, resident and in use; None for too few moments."""
        import numpy as np

        first = len(self.points) // 3
        if len(self.points) - first < 4:
            return None
        times, used = np.array(self.points[first:]).T
        kinds = [used, self.in_use[first:]] if self.in_use else [used]
        return tuple(float(np.polyfit(times / 60, kind, 1)[0]) for kind in kinds)


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]
