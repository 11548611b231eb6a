"""Damaged files of every format that is read: an image or a sentence; no crash, no hang, no memory beyond bounds."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz_child import KINDS

ROOT = Path(__file__).resolve().parents[1]
SILENCE = 60  # seconds of real time without a file read, on a busy machine
SLOWEST = 5  # seconds of CPU time
GROWTH = 512  # MiB
BELIEVED = 4096  # MiB that GDCM takes for a moment if an element of a DICOM file claims them; it is not ours to ask


class Reader:
    """A process that reads damaged files, and is started anew if it dies."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._next() == "up"

    def read(self, kind: str, seed: int, count: int) -> str:
        """What became of a batch, see `tests.fuzz_child`; or that it crashed or hung, and with which file."""
        self._process.stdin.write(f"{kind} {seed} {count}\n")
        self._process.stdin.flush()
        done = 0
        while True:
            try:
                line = self._next()
            except queue.Empty:
                self._process.kill()
                return f"hung at file {done}"
            if line == ".":
                done += 1
            elif line == "dead":
                return f"crashed at file {done} with status {self._process.wait()}"
            else:
                return line

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def _next(self) -> str:
        return self._lines.get(timeout=SILENCE)

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("dead")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.mark.parametrize(
    "count",
    [pytest.param(60, id="60"), pytest.param(1000, id="1000", marks=[pytest.mark.full, pytest.mark.timeout(900)])],
)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(reader, kind, count):
    said = reader.read(kind, 1, count)
    numbers = said.split()
    assert len(numbers) == 4 and numbers[0].isdigit(), said
    images, refused = int(numbers[0]), int(numbers[1])
    assert images + refused == count and refused > count // 20
    assert float(numbers[2]) < SLOWEST and int(numbers[3]) < (BELIEVED if kind.endswith("dcm") else GROWTH), said
