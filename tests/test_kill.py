"""``kill -9`` at random moments of a session: the journal loads, nothing acknowledged is lost, replay agrees."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import replay
from tests import kill_child
from tests.children import Child
from tests.phantoms import two_balls

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the victim forks")
_LONGEST = 0.9  # seconds that a victim lives


class Victims(Child):
    """A process that forks workers, and what they say."""

    def kill_one(self, journal: Path, seed: int, delay: float) -> list[dict]:
        """Let a worker work for ``delay`` seconds, kill it, and return the actions that it had acknowledged."""
        self.send(f"{journal} {seed}")
        said: list[str] = []
        while not ("ready" in said and any(line.startswith("pid") for line in said)):
            said.append(self.next())
        time.sleep(delay)
        pid = next(int(line.split()[1]) for line in said if line.startswith("pid"))
        os.kill(pid, signal.SIGKILL)
        while said[-1] != "gone":
            said.append(self.next())
        return [json.loads(line) for line in said if line.startswith("{")]


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    victims = Victims("tests.kill_child")
    yield victims
    victims.close()


@pytest.fixture(scope="module")
def backend() -> Iterator[LocalBackend]:
    backend = kill_child.backend()
    yield backend
    backend.shutdown()


@pytest.mark.parametrize(
    "kills", [pytest.param(8, id="8 kills"), pytest.param(50, id="50 kills", marks=pytest.mark.full)]
)
def test_a_killed_session_comes_back(victims, backend, tmp_path, kills):
    image, _, _ = two_balls(shape=(10, 22, 24))
    rng = np.random.default_rng(kills)
    actions = answers = torn = 0
    for number in range(kills):
        path = tmp_path / f"{number}.jsonl"
        acknowledged = victims.kill_one(path, number, float(rng.uniform(0, _LONGEST)))
        torn += not path.read_bytes().endswith(b"\n")
        _, entries = read_journal(path)
        kept = [entry for entry in entries if "answer" not in entry]
        assert kept[: len(acknowledged)] == acknowledged, "an acknowledged action is lost"
        assert len(kept) <= len(acknowledged) + 1, "more than the action in flight was written"
        history = replay(path, image, backend)
        with Session(image, backend, journal=path) as session:
            assert {label: state.mask for label, state in session.objects.items()} == {
                label: state.mask for label, state in history.objects.items()
            }
            session.model = kill_child.MODEL
            session.new_object("after")
            session.add(Point((5, 5, 7))).result(30)
            labels = session.labels()
        with Session(image, backend, journal=path) as session:  # what followed the torn line is there too
            np.testing.assert_array_equal(session.labels(), labels)
        actions += len(kept)
        answers += len(entries) - len(kept)
    assert actions > 3 * kills and answers > kills, f"the victims hardly worked: {actions} actions, {answers} answers"
