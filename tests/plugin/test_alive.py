"""Every prompt stays alive: changed on the canvas after other objects were worked on, and undone from any layer."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sammed.geometry import Box
from napari_sammed.plugin.views.object_model import column_number
from napari_sammed.prompts import Point
from tests.parameters import few
from tests.phantoms import two_balls
from tests.plugin.test_brush_canvas import marked, middle, paint

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def scene(open_plugin):
    """An object of a click, a box and two strokes, and another one of a click that is the current one."""
    volume, first, second = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1), model="planar")
    z, y, x = middle(first)
    hands.mode("positive")
    hands.click((z, y, x))
    hands.mode("box")
    hands.drag((z + 2, y - 8, x - 8), (z + 2, y + 8, x + 8))
    hands.panel.brush.size_.setValue(4)
    hands.mode("brush")
    paint(hands, (z, y - 3, x + 2), (z, y + 3, x + 5))
    hands.mode("eraser")
    paint(hands, (z + 2, y - 3, x - 3), (z + 2, y, x - 1))
    hands.press(hands.panel.objects.new_button)
    hands.settle()
    hands.mode("positive")
    hands.click(middle(second))
    return hands, first, second


def choose(hands, row: int) -> None:
    """A click on the name of an object."""
    table = hands.panel.objects.table
    name = table.model().index(row, column_number("name"))
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualRect(name).center())
    hands.settle()


def kinds(hands) -> list[str]:
    return [type(prompt).__name__ for prompt in hands.session.objects[hands.session.current].prompts]


def test_prompts_of_an_earlier_object_are_moved_reshaped_turned_and_deleted(scene):
    hands, first, _ = scene
    other = hands.labels == 2
    choose(hands, 0)
    assert kinds(hands) == ["Point", "Box", "Stroke", "Stroke"]
    writer = hands.writer
    assert (len(writer.points.data), len(writer.boxes.data), len(writer.strokes.data)) == (1, 1, 2)
    z, y, x = middle(first)

    hands.viewer.layers.selection.active = writer.points
    writer.points.mode = "select"
    hands.click((z, y, x))
    hands.drag((z, y, x), (z, y + 3, x))
    moved = hands.session.objects[1].prompts.items[0].index
    assert y + 1 < moved[1] <= y + 3.5 and moved[0] == z, "napari drags from the first move of the mouse on"
    hands.key(Qt.Key.Key_W, SHIFT)
    assert not hands.session.objects[1].prompts.items[0].positive

    hands.viewer.layers.selection.active = writer.boxes
    writer.boxes.mode = "select"
    before = hands.session.objects[1].prompts.items[1]
    hands.click((z + 2, y, x))
    hands.drag((z + 2, y + 8, x), (z + 2, y + 11, x))  # an edge of its frame
    after = hands.session.objects[1].prompts.items[1]
    assert after.high[1] > before.high[1] and after.low == before.low and after.thin_axes == (0,)

    hands.viewer.layers.selection.active = writer.strokes
    writer.strokes.mode = "select"
    hands.click((z + 2, y - 1.5, x - 2))
    assert writer.strokes.selected_data == {1}
    hands.key(Qt.Key.Key_W, SHIFT)
    turned = hands.session.objects[1].prompts.items[3]
    assert turned.positive and hands.labels[marked(turned, first.shape)].all()
    writer.strokes.selected_data = {0}
    hands.key(Qt.Key.Key_Delete)
    assert kinds(hands) == ["Point", "Box", "Stroke"]

    choose(hands, 1)
    assert (len(writer.points.data), len(writer.boxes.data), len(writer.strokes.data)) == (1, 0, 0)
    choose(hands, 0)
    assert (len(writer.points.data), len(writer.boxes.data), len(writer.strokes.data)) == (1, 1, 1)
    np.testing.assert_array_equal(hands.labels == 2, other)
    for _ in range(5):
        hands.key(Qt.Key.Key_U)
    assert kinds(hands) == ["Point", "Box", "Stroke", "Stroke"]
    assert hands.session.objects[1].prompts.items[0] == Point(hands.session.objects[1].prompts.items[0].index)
    assert hands.session.objects[1].prompts.items[1] == before


@pytest.mark.parametrize("layer", few(["points", "boxes", "strokes", "labels"], tried=(0, 3)))
def test_undo_and_redo_by_key_on_each_layer_at_any_depth(scene, layer):
    hands, _, _ = scene
    states = [hands.labels.copy()]
    choose(hands, 0)
    choose(hands, 1)
    choose(hands, 0)
    active = hands.viewer.layers.selection.active = getattr(hands.writer, layer)
    while hands.session.history.done:
        hands.key(Qt.Key.Key_Z, CONTROL)
        states.append(hands.labels.copy())
        assert hands.viewer.layers.selection.active is active
    assert len(states) == 8 and not states[-1].any(), "2 objects, 5 prompts"
    for expected in states[-2::-1]:
        hands.key(Qt.Key.Key_Z, CONTROL | SHIFT)
        np.testing.assert_array_equal(hands.labels, expected)
    assert not hands.session.history.undone
    assert hands.session.current == hands.panel.objects.current == 2
    choose(hands, 0)
    assert (len(hands.writer.points.data), len(hands.writer.boxes.data), len(hands.writer.strokes.data)) == (1, 1, 2)


def test_features_of_prompts_are_edited_after_a_change_of_objects(scene):
    hands, first, _ = scene
    choose(hands, 0)
    for layer, number in ((hands.writer.points, 0), (hands.writer.strokes, 2)):
        features = layer.features.copy()
        features.loc[0, "positive"] = False
        layer.features = features
        hands.settle()
        assert not hands.session.objects[1].prompts.items[number].positive
        assert not layer.features.loc[0, "positive"]
    stroke = hands.session.objects[1].prompts.items[2]
    assert not hands.labels[marked(stroke, first.shape)].any()
    box = hands.writer.boxes
    box.selected_data = {0}
    box.remove_selected()
    hands.settle()
    assert kinds(hands) == ["Point", "Stroke", "Stroke"]
    assert all(not isinstance(prompt, Box) for prompt in hands.session.objects[1].prompts)
