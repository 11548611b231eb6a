"""Clicks, rectangles and keys on the canvas of the real viewer, and the voxels that they end up in."""

from __future__ import annotations

import numpy as np
from tests.phantoms import two_balls


def test_a_click_fills_the_structure_under_it(open_plugin):
    volume, first, second = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1))
    hands.mode("positive")
    inside = tuple(np.argwhere(first).mean(0).round().astype(int))
    hands.click(inside)
    assert hands.session.objects[1].prompts.points(positive=True).round().astype(int).tolist() == [list(inside)]
    np.testing.assert_array_equal(hands.labels == 1, first)
