"""The victim of `tests.test_kill_at_writes`: does a piece of work, and is killed at the so-many-th call that writes.

An order is a line ``WORK FOLDER NUMBER`` on stdin; this process forks a worker for it. The answers on stdout: what the
worker says to have done, a line each, and ``killed`` or ``finished`` when it is dead.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box, Grid
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.prompts import MaskPrompt
from napari_sammed.series.state import Series
from napari_sammed.server.keys import add_key
from napari_sammed.session import Session
from napari_sammed.session.journal import copy_lines
from napari_sammed.session.journal_files import rescue
from napari_sammed.session.records import action_to_json
from napari_sammed.volume import Volume

SHAPE = (4, 12, 14)
_FILES = {"open", "write", "writelines", "flush", "fsync", "truncate", "ftruncate", "close"}
_FOLDERS = {"replace", "rename", "unlink", "remove", "rmdir", "mkdir", "link"}
_CALLS = _FILES | _FOLDERS


def image() -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.uint8), Grid.plain(SHAPE))


def say(line: str) -> None:
    os.write(1, (line + "\n").encode())


def work_in_a_session(folder: Path) -> None:
    with Session(image(), LocalBackend("cpu", models={}), journal=folder / "session.jsonl") as session:
        acts: list[Callable[[], Any]] = [
            lambda: session.take(MaskPrompt(np.ones((2, 3, 4), bool), (1, 2, 3)), "liver"),
            lambda: session.edit(np.ones((1, 2, 2), bool), Box((3, 4, 5), (4, 6, 7))),
            lambda: session.rename(session.current, "Leber"),
            lambda: session.take(MaskPrompt(np.ones((1, 3, 4), bool), (0, 5, 3)), "spleen"),
            session.clear,
        ]
        for act in acts:
            act()
            say(json.dumps(action_to_json(session.history.done[-1])))


def save(folder: Path, name: str) -> None:
    with Session(image(), LocalBackend("cpu", models={})) as session:
        session.take(MaskPrompt(np.ones((2, 3, 4), bool), (1, 2, 3)), "liver")
        session.save(folder / name)
    say("saved")


def copy(folder: Path) -> None:
    copy_lines(folder / "session.jsonl", folder / "copy.jsonl")
    say("copied")


def mend(folder: Path) -> None:
    rescue(folder / "session.jsonl", folder / "damaged" / "session.jsonl")


def go_on_with_a_series(folder: Path) -> None:
    series = Series(folder)
    series.entries[0].state = "done"
    series.save()
    say("saved")


def remember(folder: Path) -> None:
    Memory(folder / "memory.json").note("model", "new")
    say("noted")


def make_a_key(folder: Path) -> None:
    add_key(folder / "keys", "second")
    say("made")


WORK: dict[str, Callable[[Path], None]] = {
    "session": work_in_a_session,
    **{name: lambda folder, name=name: save(folder, name) for name in ("a.nii.gz", "a.nrrd", "a.seg.nrrd", "a.tif")},
    "a.ome.zarr": lambda folder: save(folder, "a.ome.zarr"),
    "copy": copy,
    "rescue": mend,
    "series": go_on_with_a_series,
    "memory": remember,
    "keys": make_a_key,
}


def killing(number: int) -> Callable[[FrameType, str, Any], None]:
    """A profiler that ends this process before or after the so-many-th call into the system."""
    left = [number]

    def look(frame: FrameType, event: str, called: Any) -> None:
        if event not in ("c_call", "c_return") or getattr(called, "__name__", "") not in _CALLS:
            return
        owner = getattr(called, "__self__", None)
        if called.__module__ not in ("posix", "nt", "io", "_io") and not isinstance(owner, io.IOBase):
            return
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return look


def main() -> None:
    import zarr  # noqa: F401  before the forks, like all that is slow to import

    say("up")
    for order in sys.stdin:
        name, folder, number = order.split()
        pid = os.fork()
        if pid == 0:
            look = killing(int(number))
            threading.setprofile(look)
            sys.setprofile(look)
            WORK[name](Path(folder))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        say("finished" if status == 0 else "killed" if os.WIFSIGNALED(status) else f"failed {status}")


if __name__ == "__main__":
    main()
