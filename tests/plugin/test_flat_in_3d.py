"""Flat images while the viewer displays in 3D, where napari fails at some things that it can do on slices."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.geometry import Box
from napari_sammed.plugin.layers.outlines import Outline, Outlines
from napari_sammed.prompts import Point, Stroke
from tests.phantoms import two_balls


@pytest.fixture
def flat() -> np.ndarray:
    return two_balls((60, 80))[0].array


def test_strokes_and_boxes_come_back_with_the_slices(open_plugin, flat):
    hands = open_plugin(flat)
    hands.segmentation.set_mode(hands.writer.mode.BRUSH)
    hands.segmentation.set_mode(hands.writer.mode.BOX)
    for prompt in (Stroke(((30.0, 20.0), (30.0, 24.0)), True, 2.0), Stroke(((28.0, 20.0),), True, 2.0)):
        hands.session.add(prompt, model="thresholder")
    hands.session.add(Box((20, 10), (40, 30)), model="thresholder")
    hands.settle()
    strokes, boxes = hands.writer.strokes, hands.writer.boxes
    assert (len(strokes.data), len(boxes.data)) == (2, 1)
    hands.viewer.dims.ndisplay = 3
    hands.settle()
    assert (len(strokes.data), len(boxes.data)) == (0, 0)
    for _ in range(2):
        hands.segmentation.undo()
    hands.settle()
    hands.session.add(Point((30.0, 22.0)), model="thresholder")
    hands.settle()
    hands.viewer.dims.ndisplay = 2
    hands.settle()
    assert (len(strokes.data), len(boxes.data)) == (1, 0)
    assert hands.writer.changes() == ([], {})
    assert len(hands.session.objects[1].prompts) == 2


def test_the_frame_of_a_closer_look_waits_for_the_slices(open_plugin, flat):
    hands = open_plugin(flat)
    hands.session.add(Point((30.0, 22.0)), model="thresholder")
    hands.settle()
    frame = hands.segmentation._closer.frame
    frame.show(Box((20, 10), (40, 30)))
    hands.viewer.dims.ndisplay = 3
    assert not len(frame.layer.data)
    hands.viewer.dims.ndisplay = 2
    assert len(frame.layer.data) == 1


def test_outlines_are_drawn_when_there_are_none(open_plugin, flat):
    hands = open_plugin(flat, show=True)
    outlines = Outlines(hands.writer.helpers, "test", 2.0)
    outlines.show([Outline(np.array([[10.0, 10.0], [20.0, 20.0]]), ("#ffffff",))])
    outlines.clear()
    hands.viewer.dims.ndisplay = 3
    with hands.qtbot.captureExceptions() as errors:
        hands.viewer.screenshot(flash=False)
    assert not errors and not outlines.shown
