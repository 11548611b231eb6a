"""Boxes on a slider that other images in the viewer bring to places between two slices."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.prompts import Box
from tests.phantoms import two_balls


def between_slices(open_plugin, **options):
    """Slices 3 mm apart beside an image whose slices are 0.5 mm apart."""
    array = two_balls()[0].array
    hands = open_plugin(array, scale=(3, 1, 1), **options)
    hands.viewer.add_image(np.zeros((120, 4, 4), np.uint8), scale=(0.5, 1, 1), name="finer")
    hands.look_at = lambda place: None  # the slider stays
    return hands


@pytest.mark.parametrize(("point", "index"), [(7.5, 2), (8.5, 3), (10.5, 4), (11.5, 4)])
def test_a_box_is_drawn_there_and_seen(open_plugin, point, index):
    hands = between_slices(open_plugin, show=True)
    hands.viewer.dims.set_point(0, point)
    hands.mode("box")
    hands.drag((index, 10, 10), (index, 30, 30))
    box = hands.session.objects[1].prompts.of(Box)[0]
    assert (box.low[0], box.high[0]) == (index, index + 1)
    assert len(hands.writer.boxes._view_indices) == 1


def test_the_slider_goes_on_in_both_directions(open_plugin):
    hands = between_slices(open_plugin)
    dims = hands.viewer.dims
    hands.segmentation.set_mode(hands.writer.mode.BOX)
    for step in (1, -1):
        slices = []
        for _ in range(60):
            dims.set_current_step(0, dims.current_step[0] + step)
            assert dims.point[0] / 3 % 1 < 0.5
            slices.append(round(dims.point[0] / 3))
        passed = list(dict.fromkeys(slices))
        assert len(passed) > 9 and set(np.diff(passed)) == {step}


def test_without_the_tool_the_slider_is_left_alone(open_plugin):
    hands = between_slices(open_plugin)
    hands.segmentation.set_mode(hands.writer.mode.POSITIVE)
    hands.viewer.dims.set_point(0, 8.5)
    assert hands.viewer.dims.point[0] == 8.5
