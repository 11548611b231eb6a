"""The victim of `tests.test_kill`: works in sessions until it is killed; started once, it forks a worker per order.

An order is a line ``JOURNAL SEED`` on stdin. The answers on stdout: ``pid N``, ``ready``, then every action as its
journal entry once the session has taken it, and ``gone`` when the worker is dead.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Stroke
from napari_sammed.session import Session
from napari_sammed.session.records import action_to_json
from napari_sammed.volume import Volume
from tests.phantoms import two_balls
from tests.thresholder import Ambiguous

MODEL = "thresholder"
SHARES = {
    "object": 0.08,
    "take": 0.04,
    "point": 0.24,
    "propagate": 0.06,
    "cancel": 0.02,
    "stroke": 0.08,
    "remove": 0.08,
    "replace": 0.08,
    "choose": 0.08,
    "undo": 0.1,
    "redo": 0.06,
    "edit": 0.04,
    "clear": 0.02,
    "rename": 0.02,
}
"""How often a worker does what."""


def backend() -> LocalBackend:
    """One with a model that answers faster than anybody can click."""
    return LocalBackend(models={MODEL: Ambiguous()})


def tell(line: str) -> None:
    os.write(1, (line + "\n").encode())  # at once and whole: a buffer would die with the worker


def work(image: Volume, journal: Path, seed: int) -> None:
    """Click, scribble, change prompts, step through readings, undo, redo, paint, and so on, without end."""
    rng = np.random.default_rng(seed)
    session = Session(image, backend(), journal=journal, source={"path": "memory"})
    session.model = MODEL
    tell("ready")
    pending = []
    while True:
        choice = "object" if session.current is None else str(rng.choice(list(SHARES), p=list(SHARES.values())))
        index = tuple(int(rng.integers(3, n - 3)) for n in image.grid.shape)
        before = len(session.history.done)
        match choice:
            case "object":
                session.new_object()
            case "point":
                pending.append(session.add(Point(index, bool(rng.random() < 0.8 or not before))))
            case "stroke":
                pending.append(session.add(Stroke((index, tuple(i + 2 for i in index)))))
            case "take":
                session.take(MaskPrompt(np.ones((2, 2, 2), bool), index))
            case "remove" | "replace":
                count = len(session.objects[session.current].prompts)
                if not count:
                    continue
                number = int(rng.integers(count))
                change = (number,) if choice == "remove" else (number, Point(index))
                pending.append(getattr(session, choice)(*change))
            case "choose":
                if len(session.objects[session.current].readings) < 2:
                    continue
                session.next_reading()
            case "propagate":
                try:
                    pending.append(session.propagate(axis=0, part=str(rng.choice(["all", "changed", "up", "down"]))))
                except InputError:  # there is no mask yet, or nothing has changed
                    continue
            case "cancel":
                session.cancel()
                continue
            case "undo" | "redo":
                if getattr(session, choice)() is None:
                    continue
                tell(json.dumps({"do": choice}))
            case "edit":
                box = Box(index, tuple(i + 2 for i in index))
                session.edit(rng.random(box.shape) < 0.5, box)
            case "clear":
                session.clear()
            case "rename":
                session.rename(session.current, f"name {before}")
        if choice not in ("undo", "redo"):
            tell(json.dumps(action_to_json(session.history.done[-1])))
        if pending and rng.random() < 0.5:  # sometimes wait for the answer, sometimes be quicker than it
            settle(pending)


def settle(pending: list) -> None:
    for future in filter(None, pending):  # a removal may have nothing to ask
        try:
            future.result()
        except (CancelledError, Cancelled):  # superseded
            continue
        except InputError as error:  # the answer to a prompt before a propagation has left it no mask to start from
            if "no mask yet to propagate" not in str(error):
                raise
    pending.clear()


def main() -> None:
    image, _, _ = two_balls(shape=(10, 22, 24))
    image.hash  # noqa: B018  computed once, before the forks
    tell("up")
    for order in sys.stdin:
        path, seed = order.rsplit(" ", 1)
        pid = os.fork()
        if pid == 0:
            work(image, Path(path), int(seed))
        tell(f"pid {pid}")
        os.waitpid(pid, 0)
        tell("gone")


if __name__ == "__main__":
    main()
