"""The slider halfway between two slices: images of other spacing in the viewer bring it there."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.prompts import Box
from tests.phantoms import two_balls

SLICES = pytest.mark.parametrize("halfway", [7.5, 10.5])  # of slices 3 mm apart: 2.5 and 3.5


@SLICES
def test_a_box_is_drawn_and_seen(open_plugin, halfway):
    hands = open_plugin(two_balls()[0].array, show=True, scale=(3, 1, 1))
    hands.viewer.dims.set_point(0, halfway)
    hands.mode("box")
    index = round(halfway / 3)
    hands.look_at = lambda place: None  # the slider stays
    hands.drag((index, 10, 10), (index, 30, 30))
    box = hands.session.objects[1].prompts.of(Box)[0]
    assert (box.low[0], box.high[0]) == (index, index + 1)
    assert len(hands.writer.boxes._view_indices) == 1


@SLICES
def test_what_is_shown_stays_where_it_was(open_plugin, halfway):
    hands = open_plugin(two_balls()[0].array, scale=(3, 1, 1))
    hands.mode("positive")
    before = hands.viewer.dims.current_step
    hands.viewer.dims.set_point(0, halfway)
    assert np.isclose(hands.viewer.dims.point[0], halfway, atol=0.1)
    assert hands.viewer.dims.current_step != before
