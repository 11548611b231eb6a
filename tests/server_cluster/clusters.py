"""A server on a Ray cluster of this machine, for tests: in a process of its own, with all that Ray starts.

``python -m tests.server_cluster.clusters DATA LOW HIGH [KEYS]`` runs one with models that need no weights.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from napari_sammed.backend.local import LocalBackend
from napari_sammed.server.settings import Settings
from tests.server.serving import until

ROOT = Path(__file__).resolve().parents[2]


def backend(settings: Settings) -> LocalBackend:
    """That of each replica."""
    from tests.remote.conftest import models

    return LocalBackend("cpu", models=models())


class Cluster:
    """A server on a cluster that runs.

    Attributes
    ----------
    url : str
    data : Path
    token : str
        Of its Ray.
    """

    def __init__(self, data: Path, *command: str) -> None:
        self.data = data
        self.token = secrets.token_hex(32)
        self._log = data.parent / f"{data.name}.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment = {**kept, "RAY_AUTH_TOKEN": self.token, "PYTHONPATH": str(ROOT)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log, env=environment)
        try:
            until(lambda: "Ctrl-C" in self.text or self.process.poll() is not None, 200)
            self.url = re.findall(r"serves at (\S+)", self.text)[-1]
        except (AssertionError, IndexError):
            self.end()
            raise AssertionError(self.text[-3000:]) from None

    @property
    def text(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    @property
    def processes(self) -> list[psutil.Process]:
        """All of them."""
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @property
    def replicas(self) -> list[psutil.Process]:
        return [p for p in self.processes if _title(p).startswith("ray::ServeReplica:napari-sammed:worker")]

    def owners(self, session: str) -> list[int]:
        """The processes that have the journal of a session open."""
        found = []
        for process in self.replicas:
            with contextlib.suppress(psutil.Error):
                if any(session in Path(file.path).name for file in process.open_files()):
                    found.append(process.pid)
        return found

    def end(self) -> int | None:
        """End it in order, then whatever is left."""
        everything = self.processes
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(90)
        left = [process for process in everything if process.is_running()]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, 10)
        return self.process.poll()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextlib.contextmanager
def cluster(data: Path, replicas: int = 4, keys: Path | None = None, most: int | None = None) -> Iterator[Cluster]:
    """A server with replicas that have test models, which ends with the block."""
    running = Cluster(
        data,
        "tests.server_cluster.clusters",
        str(data),
        str(replicas),
        str(most or replicas),
        *([] if keys is None else [str(keys)]),
    )
    try:
        yield running
    finally:
        running.end()


def main() -> int:
    from napari_sammed.commands.serve import announce
    from napari_sammed.server.cluster.running import serve_on_cluster
    from tests.server_cluster.clusters import backend  # under this name, and not as __main__'s, in other processes

    data, low, high, *keys = sys.argv[1:]
    settings = Settings(Path(data), port=0, key_file=Path(keys[0]) if keys else None, device="cpu")
    return serve_on_cluster(settings, None, announce, low=int(low), high=int(high), sessions=2, backend=backend)


if __name__ == "__main__":
    sys.exit(main())
