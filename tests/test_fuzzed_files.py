"""Damaged files of every format that is read: an image or a sentence; no crash, no hang, no memory beyond bounds."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest

from tests.children import Child
from tests.fuzz_child import KINDS

SILENCE = 60  # seconds of real time without a file read, on a busy machine
SLOWEST = 5  # seconds of CPU time
GROWTH = 512  # MiB
BELIEVED = 4096  # MiB that GDCM takes for a moment if an element of a DICOM file claims them; it is not ours to ask


class Reader(Child):
    """A process that reads damaged files."""

    def read(self, kind: str, seed: int, count: int) -> str:
        """What became of a batch, see `tests.fuzz_child`; or that it crashed or hung, and with which file."""
        self.send(f"{kind} {seed} {count}")
        done = 0
        while True:
            try:
                line = self.next()
            except queue.Empty:
                self.process.kill()
                return f"hung at file {done}"
            except EOFError:
                return f"crashed at file {done} with status {self.process.wait()}"
            if line != ".":
                return line
            done += 1


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader("tests.fuzz_child", SILENCE)
    yield reader
    reader.close()


@pytest.mark.parametrize(
    "count",
    [pytest.param(30, id="30"), pytest.param(1000, id="1000", marks=[pytest.mark.full, pytest.mark.timeout(900)])],
)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(reader, kind, count):
    said = reader.read(kind, 1, count)
    numbers = said.split()
    assert len(numbers) == 4 and numbers[0].isdigit(), said
    images, refused = int(numbers[0]), int(numbers[1])
    assert images + refused == count and refused > count // 20
    assert float(numbers[2]) < SLOWEST and int(numbers[3]) < (BELIEVED if kind.endswith("dcm") else GROWTH), said
