"""Strokes drawn with the mouse on the canvas of the real viewer, and the voxels that they end up in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sammed.geometry import Box
from napari_sammed.prompts import Stroke
from tests.parameters import few
from tests.phantoms import two_balls
from tests.plugin.test_canvas import CASES, middle

LEFT = Qt.MouseButton.LeftButton


def marked(stroke: Stroke, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    box, voxels = stroke.footprint(Box.of_shape(shape))
    mask[box.slices] = voxels
    return mask


def paint(hands, *places, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    """Press at the first voxel, lead the mouse past the others, release at the last one."""
    hands.look_at(places[0])
    QTest.mouseMove(hands.canvas, hands.position(places[0]))
    QTest.mousePress(hands.canvas, LEFT, modifier, hands.position(places[0]))
    QApplication.processEvents()
    for start, stop in itertools.pairwise(places):
        for share in np.linspace(0, 1, 7)[1:]:
            QTest.mouseMove(hands.canvas, hands.position(start + np.subtract(stop, start) * share))
            QApplication.processEvents()
    QTest.mouseRelease(hands.canvas, LEFT, modifier, hands.position(places[-1]))
    hands.settle()


def in_plane(hands, place, *steps):
    """Places on the displayed slice, by steps along its rows and columns."""
    shown = list(hands.viewer.dims.displayed)
    places = np.repeat(np.array([place], float), len(steps), axis=0)
    places[:, shown] += np.array(steps)
    return list(places)


@pytest.mark.parametrize("case", few(CASES, tried=(1, 2)))
def test_a_stroke_is_kept_where_it_was_drawn_and_the_mask_goes_on_around_it(open_plugin, case):
    volume, first, _ = two_balls((24, 40, 50))
    transform, order = CASES[case]
    hands = open_plugin(volume.array, show=True, **transform)
    hands.viewer.dims.order = order
    hands.viewer.reset_view()
    hands.panel.brush.size_.setValue(8)
    hands.mode("brush")
    way = in_plane(hands, middle(first), (-2, -2), (2, 2), (2, 6))
    paint(hands, *way)
    (stroke,) = hands.session.objects[1].prompts
    assert stroke.positive and stroke.radius == 4 and stroke.axis == order[0]
    np.testing.assert_allclose(stroke.points[0], way[0], atol=0.7)
    np.testing.assert_allclose(stroke.points[-1], way[-1], atol=0.7, err_msg="up to where the button was released")
    painted = marked(stroke, first.shape)
    assert (painted & ~first).any()
    np.testing.assert_array_equal(hands.labels == 1, first | painted)
    layer = hands.writer.strokes
    assert len(layer.data) == 1 and layer.edge_width == [8] and layer.features["prompt"].tolist() == [0]
    np.testing.assert_allclose(np.asarray(layer.data[0]), stroke.points, atol=1e-3)
    for index in ([0, 0, 0], [3, 5, 7]):
        np.testing.assert_allclose(layer.data_to_world(index), hands.segmentation.image.data_to_world(index))
    assert hands.writer.mode == "brush", "ready for the next one"

    hands.mode("eraser")
    paint(hands, *in_plane(hands, middle(first), (0, 0), (0, 3)))
    (_, eraser) = hands.session.objects[1].prompts
    assert not eraser.positive and not hands.labels[marked(eraser, first.shape)].any()
    hands.act("undo")
    np.testing.assert_array_equal(hands.labels == 1, first | painted)
    assert len(layer.data) == 1


def test_a_session_of_strokes(open_plugin):
    volume, first, second = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1))
    hands.key(Qt.Key.Key_B, Qt.KeyboardModifier.ShiftModifier)
    assert hands.writer.mode == "brush" and hands.panel.modes.buttons["brush"].isChecked()

    paint(hands, middle(first))  # a press alone is a dab
    (dab,) = hands.session.objects[1].prompts
    assert len(dab.points) == 1 and dab.radius == 5
    np.testing.assert_array_equal(hands.labels == 1, first | marked(dab, first.shape))
    before = [np.asarray(d) for d in hands.writer.strokes.data]
    QTest.mouseMove(hands.canvas, hands.position(middle(second)))
    hands.settle()
    assert len(hands.writer.strokes.data) == 1, "nothing follows the mouse after the button is up"
    np.testing.assert_array_equal(hands.writer.strokes.data[0], before[0])

    z, y, x = middle(second)
    paint(hands, (z, y, x), (z, y, x + 1), (z, y, x + 1.5))  # a way of some pixels
    (_, short) = hands.session.objects[1].prompts
    assert len(hands.writer.strokes.data) == 2
    assert hands.labels[first | marked(dab, first.shape) | marked(short, first.shape)].all()
    assert second.sum() > (hands.labels[second] > 0).sum() > (second & marked(short, first.shape)).sum(), "near it"

    hands.key(Qt.Key.Key_B, Qt.KeyboardModifier.ShiftModifier)
    assert hands.writer.mode == "eraser"
    paint(hands, (z, y, x), (z, y, x + 30), (z, y - 10, x + 30))  # out of the image
    (_, _, eraser) = hands.session.objects[1].prompts
    assert max(p[2] for p in eraser.points) < volume.grid.shape[2] - 0.5
    assert not hands.labels[marked(eraser, first.shape)].any()

    hands.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert hands.labels[marked(short, first.shape)].all() and len(hands.writer.strokes.data) == 2
    hands.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert not hands.labels[marked(eraser, first.shape)].any() and len(hands.writer.strokes.data) == 3

    hands.key(Qt.Key.Key_N)
    assert not len(hands.writer.strokes.data)
    hands.key(Qt.Key.Key_B, Qt.KeyboardModifier.ShiftModifier)
    paint(hands, (z, y, x))
    assert (hands.labels[marked(hands.session.objects[2].prompts.items[0], first.shape)] == 2).all()
    for _ in range(2):
        hands.key(Qt.Key.Key_U)
    assert hands.session.current == 1 and len(hands.writer.strokes.data) == 3


def test_keys_and_wheel_change_the_size_and_the_view_stays(open_plugin):
    volume, first, _ = two_balls()
    hands = open_plugin(volume.array, show=True)
    hands.mode("brush")
    zoom = hands.camera.zoom
    hands.key(Qt.Key.Key_BracketRight)
    assert hands.panel.brush.size_.value() == 12
    for _ in range(3):
        hands.key(Qt.Key.Key_BracketLeft)
    assert hands.panel.brush.size_.value() == 7
    place = hands.position(middle(first))
    wheel = QWheelEvent(
        QPointF(place),
        QPointF(hands.canvas.mapToGlobal(place)),
        QPoint(0, 0),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.ShiftModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(hands.canvas, wheel)
    hands.settle()
    assert hands.panel.brush.size_.value() == 8 and hands.camera.zoom == zoom
    assert hands.writer.strokes.cursor == "circle" and hands.writer.strokes.cursor_size == 8
    hands.key(Qt.Key.Key_Space)
    hands.settle()
    assert hands.writer.strokes.cursor == "circle", "after moving the image with the space bar"


def test_a_selected_stroke_is_turned_round_and_deleted_by_key(open_plugin):
    volume, first, second = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1))
    hands.mode("positive")
    hands.click(middle(first))
    hands.mode("brush")
    z, y, x = middle(second)
    paint(hands, (z, y - 2, x), (z, y + 2, x))
    hands.writer.strokes.mode = "select"
    hands.click((z, y, x))
    assert hands.writer.strokes.selected_data == {0}
    hands.key(Qt.Key.Key_W, Qt.KeyboardModifier.ShiftModifier)
    assert not hands.session.objects[1].prompts.items[1].positive
    np.testing.assert_array_equal(hands.labels == 1, first)
    hands.writer.strokes.selected_data = {0}
    hands.key(Qt.Key.Key_Delete)
    assert len(hands.session.objects[1].prompts) == 1
    np.testing.assert_array_equal(hands.labels == 1, first)


def test_a_stroke_is_dragged_to_another_place(open_plugin):
    volume, first, second = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1))
    hands.mode("brush")
    z, y, x = middle(first)
    paint(hands, (z, y - 3, x - 3), (z, y + 3, x + 3))
    layer = hands.writer.strokes
    layer.mode = "select"
    hands.click((z, y, x))
    hands.drag((z, y, x), middle(second))
    (stroke,) = hands.session.objects[1].prompts
    np.testing.assert_allclose(np.mean([p[2] for p in stroke.points]), middle(second)[2], atol=1.5)
    np.testing.assert_array_equal(hands.labels == 1, second | marked(stroke, first.shape))
    hands.act("undo")
    np.testing.assert_allclose(np.asarray(layer.data[0])[:, 2].mean(), x, atol=1)
