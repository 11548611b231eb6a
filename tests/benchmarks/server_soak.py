"""What a server withstands, in large numbers: ``python -m tests.benchmarks.server_soak NAME [COUNT]``; see `TRIALS`.

The default tests do the same in small numbers (tests/server). Servers are forked from this process, so that a restart
takes no imports; they are real ones otherwise, with their own port, data folder and signals.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
from scipy import stats

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol import FRAMES
from napari_sammed.prompts import Point, Prompts
from napari_sammed.server.keys import KeyRing, add_key
from napari_sammed.server.running import serve
from napari_sammed.server.settings import Limits, Settings
from tests.server import crowds, test_limits
from tests.server.serving import Client, ask, connect, mutated, same_connection_again, volume

MODEL = "random-walker"


class Forked:
    """A server in a process that was forked from this one."""

    def __init__(self, data: Path, keys: Path | None = None, **limits) -> None:
        mine, its = multiprocessing.Pipe()

        def run() -> None:
            log = os.open(data.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            settings = Settings(data, port=0, key_file=keys, device="cpu", limits=replace(Limits(), **limits))
            sys.exit(serve(settings, lambda started: its.send(started.settings.url)))

        self.process = multiprocessing.get_context("fork").Process(target=run)
        self.process.start()
        if not mine.poll(60):
            raise RuntimeError("the server has not started")
        self.url = mine.recv()

    def end(self, number: int = signal.SIGTERM) -> int | None:
        os.kill(self.process.pid, number)
        self.process.join(30)
        return self.process.exitcode

    @property
    def memory(self) -> int:
        """Bytes that it has in memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def peak(self) -> int:
        """Bytes that it has had in memory at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def order(folder: Path, count: int) -> None:
    """8 clients, COUNT prompts each, on one session: one serial order, whose replay is the same."""
    server, backend = Forked(folder / "data"), LocalBackend("cpu")
    print(crowds.one_session_of_many(server.url, 8, count, MODEL, backend))
    server.end()
    backend.shutdown()


def retries(folder: Path, count: int) -> None:
    """COUNT prompts, 30 % of which are cut off and asked again: each in the journal once."""
    server = Forked(folder / "data")
    print(f"{count} entries in the journal, {crowds.retries(server.url, count, 0.3, MODEL)} attempts cut off")
    server.end()


def neighbours(folder: Path, count: int) -> None:
    """7 clients with COUNT clicks each beside one with 200 questions queued."""
    keys = [add_key(folder / "keys", f"client-{number}") for number in range(9)]
    server = Forked(folder / "data", folder / "keys")
    print(crowds.neighbours(server.url, 7, count, 200, MODEL, 0.5, keys))
    server.end()


def kills(folder: Path, count: int) -> None:
    """Kill -9 at COUNT random instants: every session goes on, with the masks of an uninterrupted run."""
    rng, image, backend = random.Random(1), volume(), LocalBackend("cpu")
    backend.open(image)
    server = Forked(folder / "data")
    killed = threading.Event()
    same, waits, previous, logits, prompts = 0, [], None, None, Prompts()
    client = Client(server.url)
    session = client.open(image)
    for number in range(count):
        if number % 10 == 0:
            previous, logits, prompts = None, None, Prompts()
        voxel = crowds.somewhere(rng)
        prompts = prompts.add(Point(voxel))
        expected = backend.predict(image.hash, MODEL, prompts, previous=logits)
        question = ask(*(p.index for p in prompts), revision=number, previous=previous, model=MODEL)
        killed.clear()

        def kill(delay: float = rng.uniform(0, 0.06), server: Forked = server) -> None:
            time.sleep(delay)
            server.end(signal.SIGKILL)
            killed.set()

        threading.Thread(target=kill).start()
        answer = None
        with contextlib.suppress(httpx.TransportError):
            answer, _ = client.predict(question)
        killed.wait()
        server = Forked(folder / "data")
        client = Client(server.url)
        client.session = session
        start = time.monotonic()
        again, revision = client.predict(question)
        waits.append(time.monotonic() - start)
        good = revision == number + 1 and again.box == expected.box and np.array_equal(again.mask, expected.mask)
        same += good and (answer is None or np.array_equal(answer.mask, again.mask))
        previous, logits = question.request_id, expected.logits
    ids = [frame.header["request_id"] for frame in client.journal()]
    print(f"{same}/{count} the same masks, {len(set(ids))} entries, next mask after at most {max(waits):.2f} s")
    server.end()
    backend.shutdown()


def bombs(folder: Path, count: int) -> None:
    """COUNT times each of the bodies that say or unpack to far more than they are: time and memory until refused."""
    server, slowest, statuses = Forked(folder / "data"), 0.0, set()
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        http.get("/v1/health")
        before = server.peak
        for _ in range(count):
            for _, body in test_limits.bombs():
                start = time.perf_counter()
                reply = http.put(f"/v1/images/{'0' * 64}", content=body, headers={"content-type": FRAMES})
                slowest = max(slowest, time.perf_counter() - start)
                statuses.add(reply.status_code)
    print(
        f"{count * len(test_limits.bombs())} bombs: {sorted(statuses)}, the slowest in {slowest:.2f} s, peak of memory "
        f"higher by {(server.peak - before) / 2**20:.1f} MiB"
    )
    server.end()


def headers(folder: Path, count: int) -> None:
    """COUNT mutated headers of images: no answer of 500 or above, and the server lives."""
    server, rng, statuses = Forked(folder / "data"), random.Random(5), {}
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        before = server.memory
        for _ in range(count):
            body = mutated(rng)
            reply = same_connection_again(
                lambda body=body: http.put(f"/v1/images/{'0' * 64}", content=body, headers={"content-type": FRAMES})
            )
            statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
        grown = (server.memory - before) / 2**20
        print(
            f"{count} headers: {statuses}, memory grew by {grown:.1f} MiB, alive {http.get('/v1/health').status_code}"
        )
    server.end()


def connections(folder: Path, count: int) -> None:
    """COUNT connections that ask nothing, opened while a client clicks: memory and times of the client."""
    server = Forked(folder / "data")
    client = Client(server.url)
    client.open(volume())

    def click() -> float:
        before = time.perf_counter()
        client.click((5, 12, 14), model=MODEL)
        return time.perf_counter() - before

    alone, before = [click() for _ in range(30)], server.memory
    lines: list[socket.socket] = []
    peak, beside = 0, []
    for number in range(count):
        lines.append(connect(server.url))
        if number % max(count // 30, 1) == 0:
            beside.append(click())
            peak = max(peak, server.memory)
            while len(lines) > 500:
                lines.pop(0).close()
    p95 = [float(np.percentile(times, 95)) * 1000 for times in (alone, beside)]
    print(
        f"{count} connections: {before / 2**20:.1f} -> {peak / 2**20:.1f} MiB ({(peak / before - 1) * 100:+.1f} %), "
        f"clicks at the 95th percentile {p95[0]:.0f} -> {p95[1]:.0f} ms"
    )
    server.end()


def timing(folder: Path, count: int) -> None:
    """COUNT comparisons of keys that differ in the first byte and in the last one, ten times over."""
    key = add_key(folder / "keys", "me").encode()
    ring = KeyRing(folder / "keys")
    wrong = (b"X" + key[1:], key[:-1] + (b"X" if key[-1:] != b"X" else b"Y"))
    chances, medians = [], []
    for _ in range(10):
        times: tuple[list[int], list[int]] = ([], [])
        for _ in range(count):
            for side in random.sample((0, 1), 2):
                given = wrong[side].decode("latin-1")  # anew, as from a request: where a string lies counts as well
                before = time.perf_counter_ns()
                ring.owner(given)
                times[side].append(time.perf_counter_ns() - before)
        first, last = map(np.array, times)  # pairs, since the machine is not equally fast all the time
        chances.append(float(stats.binomtest(int((first > last).sum()), int((first != last).sum())).pvalue))
        medians.append(float(np.median(times[0]) - np.median(times[1])))
    print(
        f"medians differ by {min(medians):.0f} to {max(medians):.0f} ns, p = "
        f"{', '.join(f'{p:.2f}' for p in sorted(chances))}; "
        f"none but chance: {stats.kstest(chances, 'uniform').pvalue:.2f}"
    )


def sizes(folder: Path, count: int) -> None:
    """Memory of COUNT sessions, put aside and in use, and the disk that they take."""
    server = Forked(folder / "data", sessions=100_000, answers=1)
    client = Client(server.url)
    client.open(volume())
    client.click((5, 12, 14), model=MODEL)
    before = server.memory
    for _ in range(count):
        client.open(volume())
        client.click((5, 12, 14), model=MODEL)
    journals = [path.stat().st_size for path in (folder / "data" / "sessions").glob("*.jsonl")]
    print(
        f"{(server.memory - before) / count / 1024:.1f} KiB a session in use (without logits), "
        f"{np.mean(journals):.0f} bytes of journal with one click"
    )
    server.end()


TRIALS = {
    "order": (order, 200),
    "retries": (retries, 1000),
    "neighbours": (neighbours, 40),
    "kills": (kills, 100),
    "bombs": (bombs, 10),
    "headers": (headers, 10_000),
    "connections": (connections, 10_000),
    "timing": (timing, 10_000),
    "sizes": (sizes, 500),
}


def main() -> None:
    names = sys.argv[1:2] or list(TRIALS)
    for name in names:
        trial, count = TRIALS[name]
        folder = Path(tempfile.mkdtemp(prefix="server-soak-"))
        print(f"{name}: ", end="", flush=True)
        trial(folder, int(sys.argv[2]) if len(sys.argv) > 2 else count)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
