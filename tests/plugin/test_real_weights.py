"""The plugin with the network that people get: official weights, a real rectangle, a flat image."""

from __future__ import annotations

import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import rectangle_of
from tests.phantoms import ball


def test_a_box_finds_a_disc_with_the_official_network(open_plugin, weights, monkeypatch):
    disc = ball((96, 128), (50, 60), 22)
    grey = 90 + 70 * disc + np.random.default_rng(0).normal(0, 8, disc.shape)
    local = LocalBackend(device="cpu", weights={"litemedsam": weights})
    monkeypatch.setattr("napari_sammed.plugin.coordinator._local_backend", lambda *_: local)
    hands = open_plugin(grey.astype(np.float32), model=None, own_backend=True)
    hands.mode("box")
    hands.writer.boxes.add_rectangles([rectangle_of(Box((26, 36), (75, 85)), None)])
    hands.settle(120)
    found = hands.labels == 1
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.95
    assert hands.session.history.done[-1].model == "litemedsam"
    assert "score" in hands.message
