"""What a user does to segment at a server, and what the tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote_choice import Place
from napari_sammed.session.records import replay
from tests.phantoms import two_balls
from tests.server.serving import Process, process

VOLUME, FIRST, SECOND = two_balls()
MIDDLE = tuple(int(v) for v in np.argwhere(FIRST).mean(0).round())
OTHER = tuple(int(v) for v in np.argwhere(SECOND).mean(0).round())


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Process]:
    """Without keys."""
    with process(tmp_path_factory.mktemp("server") / "data", "--device", "cpu") as running:
        yield running


@pytest.fixture
def local() -> Iterator[LocalBackend]:
    """What the answers at a server have to be equal to."""
    backend = LocalBackend("cpu")
    yield backend
    backend.shutdown()


@pytest.fixture
def hands(open_plugin, local, monkeypatch):
    """With the plugin's own choice of models, and a volume."""
    monkeypatch.delenv("NAPARI_SAMMED_KEY", raising=False)
    return open_plugin(VOLUME.array, scale=(3, 1, 1), name="scan", model=None, own_backend=True)


def choice(hands):
    return hands.widget.coordinator._place


def fill(hands, url: str, key: str = "") -> None:
    """Type an address, and a key, as of another server."""
    hands.press(hands.panel.place)
    dialog = choice(hands).dialog
    dialog.where.setCurrentIndex(dialog.where.findData("other"))
    dialog.where.activated.emit(dialog.where.currentIndex())
    hands.qtbot.keyClicks(dialog.address, url)
    hands.qtbot.keyClicks(dialog.key, key)


def go_to(hands, url: str, key: str = "") -> None:
    """Choose a server."""
    fill(hands, url, key)
    hands.press(choice(hands).dialog.ok_button)
    hands.qtbot.waitUntil(lambda: hands.panel.place.place == f"Server {Place(url).host}")
    hands.settle()


def come_home(hands) -> None:
    """Choose this computer."""
    hands.press(hands.panel.place)
    dialog = choice(hands).dialog
    dialog.where.setCurrentIndex(0)
    dialog.where.activated.emit(0)
    hands.press(dialog.ok_button)
    hands.settle()


def trial(hands, url: str, key: str = "") -> tuple[str, str]:
    """What the button says of a server: the problem, the good result."""
    fill(hands, url, key)
    dialog = choice(hands).dialog
    hands.press(dialog.test_button)
    hands.qtbot.waitUntil(lambda: dialog.test_button.isEnabled(), timeout=15000)
    return dialog.problem.text(), dialog.result_.text()


def prompt(hands, index, positive: bool = True) -> None:
    """Click, in a viewer without a canvas; does not wait for the answer."""
    hands.mode("positive" if positive else "negative")
    points = hands.writer.points
    points.add(np.array([index], float))
    QApplication.processEvents()


def answer(hands, send: bool) -> None:
    """Answer the question that comes."""
    hands.qtbot.waitUntil(lambda: choice(hands).question is not None)
    question = choice(hands).question
    hands.press(question.send_button if send else question.later_button)
    hands.qtbot.waitUntil(lambda: choice(hands).question is None)


def mask_of(hands, label: int = 1) -> np.ndarray:
    found = np.zeros(VOLUME.grid.shape, bool)
    mask = hands.session.objects[label].mask
    if mask is not None:
        found[mask.extent.slices] = mask.mask
    return found


def replayed(hands, backend) -> np.ndarray:
    """The labels that the journal leads to on this computer."""
    session = hands.session
    return replay(session.journal, session.image, backend).labels(session.image.grid.box)


def images_at(running: Process) -> list[str]:
    folder = running.log.parent / running.log.stem / "images"
    return sorted(file.name for file in folder.rglob("*") if file.is_file()) if folder.exists() else []
