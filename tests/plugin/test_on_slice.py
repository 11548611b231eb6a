"""Boxes on a slider that other images in the viewer bring to places between two slices."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint

from napari_sammed.prompts import Box
from tests.parameters import few
from tests.phantoms import two_balls


def between_slices(open_plugin, **options):
    """Slices 3 mm apart beside an image whose slices are 0.5 mm apart."""
    array = two_balls()[0].array
    hands = open_plugin(array, scale=(3, 1, 1), **options)
    hands.viewer.add_image(np.zeros((120, 4, 4), np.uint8), scale=(0.5, 1, 1), name="finer")
    hands.look_at = lambda place: None  # the slider stays
    return hands


def drawn(hands) -> bool:
    """Whether boxes are seen on the canvas."""
    seen = hands.viewer.screenshot(flash=False)
    hands.writer.boxes.visible = False
    without = hands.viewer.screenshot(flash=False)
    hands.writer.boxes.visible = True
    return bool((seen != without).any())


@pytest.mark.parametrize(("point", "index"), few([(7.5, 2), (8.5, 3), (10.5, 4), (11.5, 4)], tried=(1, 2)))
def test_a_box_is_drawn_there_and_seen(open_plugin, point, index):
    hands = between_slices(open_plugin, show=True)
    hands.viewer.dims.set_point(0, point)
    hands.mode("box")
    hands.drag((index, 10, 10), (index, 30, 30))
    box = hands.session.objects[1].prompts.of(Box)[0]
    assert (box.low[0], box.high[0]) == (index, index + 1)
    assert drawn(hands)


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


TURNED = np.array([[1.6, 0.5, 0, 5], [-1.2, 0.7, 0.2, -7], [0.3, -0.2, 0.9, 11], [0, 0, 0, 1]])


@pytest.mark.parametrize("order", few([[0, 1, 2], [1, 0, 2], [2, 1, 0]], tried=[1]), ids=str)
def test_a_box_is_drawn_and_seen_on_turned_slices(open_plugin, order):
    """napari shows them flat, and counts what is drawn to where it would lie in the world: on other slices."""
    hands = open_plugin(two_balls()[0].array, show=True, affine=TURNED)
    dims = hands.viewer.dims
    dims.order = tuple(order)
    hands.viewer.reset_view()
    hands.settle()
    shown, inverse = list(order[1:]), np.linalg.inv(TURNED)
    start = np.array([9, 18, 20])
    stop = start + np.where(np.arange(3) == order[0], 0, 6)
    dims.set_point(order[0], (start[order[0]] - inverse[order[0], -1]) / inverse[order[0], order[0]])
    hands.look_at = lambda place: None

    def drawn_at(index):
        flat = TURNED[np.ix_(shown, shown)] @ np.array(index, float)[shown] + TURNED[shown, -1]
        middle = np.array([hands.canvas.height(), hands.canvas.width()]) / 2
        row, column = (flat - np.array(hands.camera.center)[-2:]) * hands.camera.zoom + middle
        return QPoint(round(column), round(row))

    hands.position = drawn_at
    hands.mode("box")
    hands.drag(start, stop)
    box = hands.session.objects[1].prompts.of(Box)[0]
    assert np.abs(np.subtract(box.low, start)).max() <= 1 and np.abs(np.subtract(box.high, stop + 1)).max() <= 1
    assert (box.low[order[0]], box.high[order[0]]) == (start[order[0]], start[order[0]] + 1)
    assert drawn(hands)
    hands.mode("positive")
    hands.click(start)
    assert tuple(np.rint(hands.session.objects[1].prompts.items[-1].index)) == tuple(start)
