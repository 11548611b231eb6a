"""Programs of the tests that take orders line by line, and what they answer."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Child:
    """A process of its own that runs a module of the tests and says "up" when it is ready.

    Parameters
    ----------
    module : str
    patience : float
        Seconds of silence after which `next` gives up.

    Attributes
    ----------
    process : Popen
    """

    def __init__(self, module: str, patience: float = 60) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self._patience = patience
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._lines.get(timeout=120) == "up"

    def send(self, line: str) -> None:
        """Give an order."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def next(self) -> str:
        """The next line that it says; queue.Empty if it is silent, EOFError if it is dead."""
        line = self._lines.get(timeout=self._patience)
        if line is None:
            raise EOFError
        return line

    def close(self) -> None:
        """Let it end, as no more orders come."""
        self.process.stdin.close()
        self.process.wait(20)
        self._reader.join()
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
