"""In a real window, LiteMedSAM really learns from sessions, and then answers in the panel as it was tuned."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.evaluation.metrics import dice
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.plugin.learning.widget import LearnWidget
from napari_sammed.plugin.sessions.journals import journal_of
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session import Session
from napari_sammed.volume import read_volume
from tests.training import folders

SIDE = 64


def disc(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc in noise, (y, x) of uint8, and its mask."""
    middle, radius = random.uniform(26, 38, 2), random.uniform(9, 14)
    mask = ((np.indices((SIDE, SIDE)) - middle[:, None, None]) ** 2).sum(0) < radius**2
    return (random.normal(90, 12, mask.shape) + 80 * mask).clip(0, 255).astype(np.uint8), mask


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_model_learns_from_sessions_and_is_used(open_plugin, qtbot, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(weights.parent))
    random = np.random.default_rng(0)
    backend = LocalBackend()
    for number in range(3):
        pixels, mask = disc(random)
        path = folders.write(tmp_path / "images" / f"{number}.png", pixels)
        image = read_volume(path)
        with Session(image, backend, journal=journal_of(image.hash), source={"path": str(path)}) as session:
            session.take(MaskPrompt(mask, (0, 0)), "disc")
    backend.shutdown()
    pixels, mask = disc(random)
    hands = open_plugin(pixels, show=True, model=None, own_backend=True)
    dock = LearnWidget(hands.viewer, hands.widget)
    hands.viewer.window.add_dock_widget(dock, name="Learn", area="left")
    view, work = dock.view, dock.work
    try:
        qtbot.waitUntil(lambda: view.data.names == ("disc",), timeout=60_000)
        assert view.how.recipe.key == view.how.base.key == "litemedsam" and view.how.name.text() == "disc"
        view.more.steps.setValue(2)
        view.more.held_out.setValue(34)
        QTest.mouseClick(view.start_button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: work.run is not None and not work._alive, timeout=600_000)
        assert work.run.log.done is not None, work.run.complaint()
        assert sorted(work.run.log.curve) == [0, 1, 2] and work.run.log.data["cases"] == {"train": 2, "held_out": 1}
        ((name, before, after, _),) = view.run.figures()
        assert name == "disc" and 0.8 < float(before) <= float(after) <= 1
        QTest.mouseClick(view.run.use_button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: hands.panel.image_section.model.key == "disc", timeout=60_000)
        assert "disc" in registry.names()
        rows, columns = np.nonzero(mask)
        hands.viewer.reset_view()
        hands.mode("box")
        hands.drag((rows.min(), columns.min()), (rows.max(), columns.max()))
        qtbot.waitUntil(lambda: hands.writer.labels is not None and (hands.labels > 0).any(), timeout=120_000)
        assert dice(hands.labels > 0, mask) > 0.9
        assert '"disc"' in hands.session.journal.read_text().splitlines()[-1]

    finally:
        if work.run is not None and work.run.alive:
            work.run.stop()
        work.close(wait=True)
        print(dock.view.message.text(), file=sys.stderr)
