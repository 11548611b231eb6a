"""Slices are encoded while the user looks at them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_sammed.plugin.features import ahead
from tests.phantoms import two_balls


@pytest.fixture
def hands(open_plugin):
    return open_plugin(np.array(two_balls()[0].array), model="planar")


@pytest.fixture
def model(backend):
    return backend._models["planar"]


def encoded(model) -> list[int]:
    return [box.low[0] for box in model.embedded]


def test_the_displayed_slice_comes_first_and_then_its_neighbours(hands, model, qtbot):
    hands.mode("positive")
    hands.look_at((14, 0, 0))
    qtbot.waitUntil(lambda: 12 in encoded(model), timeout=5000)
    assert encoded(model)[-5:] == [14, 15, 13, 16, 12]


def test_slices_that_the_user_only_passes_are_left_out(hands, model, qtbot):
    hands.mode("positive")
    for z in (2, 4, 14, 17):
        hands.look_at((z, 0, 0))
    qtbot.waitUntil(lambda: 17 in encoded(model), timeout=5000)
    assert not {2, 4, 14} & set(encoded(model))


def test_a_slow_model_encodes_the_displayed_slice_only(hands, model, qtbot, monkeypatch):
    monkeypatch.setattr(ahead, "_QUICK", 0.0)
    hands.mode("positive")
    hands.look_at((14, 0, 0))
    qtbot.waitUntil(lambda: 14 in encoded(model), timeout=5000)
    qtbot.wait(700)
    assert 15 not in encoded(model)


def test_who_only_looks_encodes_nothing(hands, model, qtbot):
    hands.look_at((14, 0, 0))
    qtbot.wait(600)
    assert not model.embedded


def test_what_takes_a_while_is_said_in_small_print(hands, model, qtbot, monkeypatch):
    embed = model.embed

    def slowly(*arguments):
        time.sleep(0.6)
        return embed(*arguments)

    monkeypatch.setattr(model, "embed", slowly)
    hands.mode("positive")
    hands.look_at((14, 0, 0))
    aside = hands.panel.status.aside
    qtbot.waitUntil(lambda: "slice 14" in aside.text(), timeout=3000)
    qtbot.waitUntil(lambda: aside.text() == "", timeout=3000)
