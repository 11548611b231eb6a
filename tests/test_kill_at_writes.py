"""``kill -9`` before and after every call into the system that writes: what is there is old or new, and whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.prompts import MaskPrompt
from napari_sammed.series.state import Series
from napari_sammed.server.keys import KeyRing, add_key
from napari_sammed.session import Session
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import replay
from napari_sammed.volume import read_volume, write_volume
from tests.children import Child
from tests.killing import WORK, image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the victim forks")
EVERY = 5
"""The default tests kill at one call in so many, from another first one for each kind of work."""


class Victims(Child):
    """A process that forks workers, and what they say."""

    def kill_one(self, work: str, folder: Path, number: int) -> tuple[list[str], bool]:
        """Let a worker work in a folder until the so-many-th call; what it said, and whether it was killed."""
        self.send(f"{work} {folder} {number}")
        said: list[str] = []
        while (line := self.next()) not in ("killed", "finished"):
            assert not line.startswith("failed"), f"{work} at call {number}: {line}"
            said.append(line)
        return said, line == "killed"


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    victims = Victims("tests.killing")
    yield victims
    victims.close()


@pytest.fixture(scope="module")
def backend() -> Iterator[LocalBackend]:
    backend = LocalBackend("cpu", models={})
    yield backend
    backend.shutdown()


OLD, NEW = (0, 0, 0), (1, 2, 3)  # where the mask lies in what was saved before, and now


def mask_at(corner: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(image().grid.shape, bool)
    mask[tuple(slice(c, c + n) for c, n in zip(corner, (2, 3, 4), strict=True))] = True
    return mask


def prepare(work: str, folder: Path, backend: LocalBackend) -> None:
    """What is in a folder before the work."""
    folder.mkdir()
    with Session(image(), backend, journal=folder / "session.jsonl" if work in ("copy", "rescue") else None) as session:
        session.take(MaskPrompt(np.ones((2, 3, 4), bool), OLD), "old")
        if work.startswith("a."):
            session.save(folder / work)
    match work:
        case "copy":
            shutil.copy(folder / "session.jsonl", folder / "copy.jsonl")
        case "rescue":
            with (folder / "session.jsonl").open("ab") as file:
                file.write(b"{damaged\n{}\n")
        case "series":
            write_volume(image(), folder / "scan.nii.gz")
            Series(folder).save()
        case "memory":
            Memory(folder / "memory.json").note("model", "old")
        case "keys":
            (folder / "first").write_text(add_key(folder / "keys", "first"))


def check(work: str, folder: Path, said: list[str], backend: LocalBackend) -> None:
    """That everything that is said to be done is, and all else as it was."""
    match work:
        case "session":
            path, acknowledged = folder / "session.jsonl", [json.loads(line) for line in said]
            if not path.exists():
                assert not said
                return
            entries = read_journal(path)[1]
            kept = [entry for entry in entries if "answer" not in entry]
            assert kept[: len(said)] == acknowledged and len(kept) <= len(said) + 1
            masks = {label: state.mask for label, state in replay(path, image(), backend).objects.items()}
            with Session(image(), backend, journal=path) as session:
                assert {label: state.mask for label, state in session.objects.items()} == masks
                session.take(MaskPrompt(np.ones((1, 1, 1), bool), (3, 9, 9)), "after")
            assert read_journal(path)[1][: len(entries)] == entries and len(read_journal(path)[1]) > len(entries)
        case "copy":
            kept = read_journal(folder / "copy.jsonl")[1]
            assert kept and kept == read_journal(folder / "session.jsonl")[1]
        case "rescue":
            whole = [path for path in (folder / "session.jsonl", folder / "damaged" / "session.jsonl") if path.exists()]
            assert any(b"{damaged" in path.read_bytes() for path in whole), "the file as it was"
            text = (folder / "session.jsonl").read_bytes()
            assert b"{damaged" in text or len(read_journal(folder / "session.jsonl")[1]) == 2
        case "series":
            state = Series(folder).entries[0].state
            assert state == "done" or (state == "open" and not said)
        case "memory":
            known = Memory(folder / "memory.json").get("model")
            assert known == "new" or (known == "old" and not said)
        case "keys":
            ring = KeyRing(folder / "keys")
            assert ring.owner((folder / "first").read_text()).name == "first"
            assert not said or "second sha256:" in (folder / "keys").read_text()
        case _:
            path = folder / work
            if work.endswith(".zarr") and not path.exists():  # the moment between two names: both are there
                path = next(folder.glob(f".{work}.*.part"))
                assert not said and len(list(folder.glob(f".{work}.*.old"))) == 1
            saved = read_volume(path)
            saved = np.asarray(saved.part(saved.grid.box)) > 0
            is_new = np.array_equal(saved, mask_at(NEW))
            assert is_new or (np.array_equal(saved, mask_at(OLD)) and not said)


@pytest.mark.parametrize("every", [pytest.param(EVERY, id=""), pytest.param(1, id="all", marks=pytest.mark.full)])
@pytest.mark.parametrize("work", WORK)
def test_whatever_is_written_is_old_or_new_and_whole(victims, backend, tmp_path, work, every):
    first = list(WORK).index(work) % every
    good = tmp_path / "before"
    prepare(work, good, backend)
    calls = killed = 0
    for number in range(first, 10_000, every):
        folder = tmp_path / str(number)
        shutil.copytree(good, folder)
        said, was_killed = victims.kill_one(work, folder, number)
        check(work, folder, said, backend)
        killed += was_killed
        calls = number
        shutil.rmtree(folder)
        if not was_killed:
            break
    print(f"{work}: killed at {killed} of {calls} calls")
    assert killed >= 6 // every, "there was hardly anything to be killed at"
