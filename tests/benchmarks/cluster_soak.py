"""What a cluster costs and withstands: ``python -m tests.benchmarks.cluster_soak [CLICKS] [KILLS]``.

A plain server and one on four replicas run side by side, and are clicked at in turn.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from tests.server.crowds import somewhere
from tests.server.serving import Client, ask, process, until, volume
from tests.server_cluster.clusters import cluster


def main() -> None:
    clicks, kills = (int(value) for value in (*sys.argv[1:], *("200", "10")[len(sys.argv) - 1 :]))
    folder = Path(tempfile.mkdtemp(prefix="cluster-soak-"))
    before = time.monotonic()
    with cluster(folder / "cluster") as running, process(folder / "plain", "--device", "cpu") as plain:
        print(f"four replicas and the plain server were ready after {time.monotonic() - before:.1f} s")
        round_trips(running.url, plain.url, clicks)
        sizes = [(" ".join(p.cmdline())[:60], p.memory_full_info().pss) for p in running.processes]
        replicas = [size for title, size in sizes if ":worker" in title]
        total = sum(size for _, size in sizes)
        alone = psutil.Process(plain.process.pid).memory_full_info().pss
        print(
            f"memory (PSS): {total >> 20} MiB in {len(sizes)} processes, of which replicas "
            f"{', '.join(str(size >> 20) for size in replicas)}; the plain server {alone >> 20} MiB"
        )
        resumed(running, kills)


def round_trips(*urls_and_count) -> None:
    """Clicks at each server in turn."""
    *urls, count = urls_and_count
    rng, clients, times = random.Random(0), [Client(url) for url in urls], [[] for _ in urls]
    for client in clients:
        client.open(volume())
        client.click((5, 12, 14))
    for _ in range(count):
        voxel = somewhere(rng)
        for client, own in zip(clients, times, strict=True):
            start = time.perf_counter()
            client.click(voxel)
            own.append(1000 * (time.perf_counter() - start))
    for name, own in zip(("cluster", "plain"), times, strict=True):
        print(f"{count} clicks, {name}: median {np.median(own):.1f} ms, 95 % within {np.percentile(own, 95):.1f} ms")
    print(f"median of the differences {np.median(np.subtract(*times)):.1f} ms")


def resumed(running, count: int) -> None:
    """Seconds from the end of a session's replica to its next answer, and until there are four replicas again."""
    client = Client(running.url)
    client.open(volume())
    client.click((5, 12, 14))
    waits, whole = [], []
    for _ in range(count):
        (victim,) = running.owners(client.session)
        question = ask((5, 12, 14), revision=client.revision)
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        while (reply := client.post("predict", question)).status_code in (429, 503):
            time.sleep(float(reply.headers["retry-after"]))
        waits.append(time.monotonic() - start)
        client.predict(question)
        client.revision += 1
        until(lambda: len(running.replicas) == 4, 120)
        whole.append(time.monotonic() - start)
        time.sleep(3)
    print(
        f"{count} kills: next answer after {np.median(waits):.2f} s, at most {max(waits):.2f} s; four replicas again "
        f"after at most {max(whole):.0f} s; revision {client.revision}, {len(client.journal())} entries"
    )


if __name__ == "__main__":
    main()
