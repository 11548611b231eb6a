"""Does a session at a server go on when that is killed again and again, at any moment?

    python -m tests.benchmarks.remote_kills [KILLS]

Clicks are answered by the random walker at a server that is killed (SIGKILL) at random moments and started anew on its
data. Says how long clicks took that met a dead server, and whether every mask is the one of this machine.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from tests.remote.lines import line
from tests.server.serving import process, volume


class Killer(threading.Thread):
    """Kills a server, starts it again, and so on."""

    def __init__(self, folder: Path, kills: int) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._left = kills
        self._lot = random.Random(0)
        self._stack = contextlib.ExitStack()
        self.kills = 0
        self.starting = 0.0
        self.server = self._stack.enter_context(process(folder))
        self.line = self._stack.enter_context(line(self.server.url))

    def run(self) -> None:
        while self.kills < self._left:
            time.sleep(self._lot.uniform(0.05, 6.0))  # some sooner than a client has come back, most later
            self.server.kill()
            start = time.perf_counter()
            self.server = self._stack.enter_context(process(self._folder))
            self.line.server = self.server.url
            self.starting += time.perf_counter() - start
            self.kills += 1

    def close(self) -> None:
        self._stack.close()


def clicks() -> list[Point]:
    lot = np.random.default_rng(0)
    return [Point(tuple(lot.integers((2, 6, 6), (8, 18, 22)).tolist()), n % 3 != 1) for n in range(12)]


def main(kills: int) -> None:
    image = volume()
    here = LocalBackend("cpu")
    with Session(image, here) as session:
        expected = []
        for click in clicks():
            session.add(click, model="random-walker").result()
            expected.append(session.labels())
    here.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder) / "data", kills)
        there = RemoteBackend(killer.line.url, consent=True)
        seconds, wrong, rounds = [], 0, 0
        killer.start()
        while killer.is_alive():
            rounds += 1
            with Session(image, there) as session:
                for click, mask in zip(clicks(), expected, strict=True):
                    start = time.perf_counter()
                    session.add(click, model="random-walker").result()
                    seconds.append(time.perf_counter() - start)
                    wrong += not np.array_equal(session.labels(), mask)
        there.shutdown()
        killer.close()
    met = sorted(s for s in seconds if s > 0.5)
    print(f"{killer.kills} kills, {rounds} sessions, {len(seconds)} clicks, {wrong} masks that differ")
    print(f"a server takes {killer.starting / killer.kills:.1f} s to start")
    print(f"clicks over 0.5 s: {len(met)}, median {np.median(met):.1f} s, longest {met[-1]:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
