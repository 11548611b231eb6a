"""Stepping through the readings of an ambiguous click in the plugin."""

from __future__ import annotations

import numpy as np
import pytest

from tests.phantoms import two_balls
from tests.plugin.ambiguous import SCORES, readings


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene):
    hands = open_plugin(scene[0], model="ambiguous")
    hands.mode("positive")
    return hands


def click(hands, mask) -> None:
    hands.writer.points.add(np.argwhere(mask).mean(0).round())
    hands.settle()


def test_the_bar_steps_round_and_undo_steps_back(hands, scene):
    _, first, _ = scene
    bar = hands.panel.readings
    assert bar.isHidden()
    click(hands, first)
    assert not bar.isHidden() and bar.text.text() == "Reading 1 of 3, score 0.90"
    assert "one of 3 readings" in hands.message
    for number in (1, 2, 0):
        hands.press(bar.forth)
        hands.settle()
        np.testing.assert_array_equal(hands.labels == 1, readings(first)[number])
        assert bar.text.text() == f"Reading {number + 1} of 3, score {SCORES[number]:.2f}"
        assert f"reading {number + 1} of 3" in hands.message
    hands.press(bar.back)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, readings(first)[2])
    hands.act("undo")
    assert bar.text.text() == "Reading 1 of 3, score 0.90" and "choice of another reading" in hands.message
    np.testing.assert_array_equal(hands.labels == 1, first)


def test_the_bar_is_there_only_where_there_are_several(hands, scene):
    _, first, second = scene
    click(hands, first)
    click(hands, second)
    assert hands.panel.readings.isHidden()
    hands.segmentation.show_reading(1)
    assert "only one reading" in hands.message
    hands.act("undo")
    assert not hands.panel.readings.isHidden()
    hands.press(hands.panel.objects.new_button)
    hands.settle()
    assert hands.panel.readings.isHidden()


def test_the_keys_step(hands, scene):
    _, first, _ = scene
    click(hands, first)
    for key, reading in (("H", 1), ("H", 2), ("Shift+H", 1)):
        hands.widget.coordinator._keyboard[key](hands.writer.points)
        hands.settle()
        assert hands.session.objects[1].reading == reading
    assert "key H" in hands.panel.readings.forth.toolTip()
