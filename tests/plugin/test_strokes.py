"""Brush and eraser in a viewer that nobody sees: strokes come from their layer itself."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.geometry import Box
from napari_sammed.plugin.layers.prompt_rows import NEW, THIN, stroke_rows
from napari_sammed.prompts import Point, Prompts, Stroke
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


def marked(stroke: Stroke, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    box, voxels = stroke.footprint(Box.of_shape(shape))
    mask[box.slices] = voxels
    return mask


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene):
    hands = open_plugin(scene[0], scale=(3, 1, 1), name="scan")
    hands.mode("brush")
    return hands


def paint(hands, points, *, width: float = 6, positive: bool = True) -> None:
    """A path with napari's own means, as a user draws it with another of napari's tools."""
    layer = hands.writer.strokes
    layer.feature_defaults = {"prompt": NEW, "positive": positive}
    layer.add_paths([np.array(points, float)], edge_width=width)
    hands.settle()


def through(place, length: int = 3):
    z, y, x = place
    return [(z, y - length, x), (z, y + length, x)]


def test_rows_show_strokes_as_paths_and_dabs_as_discs():
    prompts = Prompts(
        (
            Point((1, 2, 3)),
            Stroke(((4, 1, 1), (4, 5, 1)), False, 2.5, axis=0),
            Stroke(((4, 9, 9),), True, 3, axis=0),
            Stroke(((4, 9, 9), (4, 9, 12))),
            Stroke(((4, 9, 9), (8, 9, 12), (9, 10, 13))),
        )
    )
    rows = stroke_rows(prompts)
    assert rows.numbers == (1, 2, 3), "what leads through slices lies on none"
    assert rows.widths == (5.0, 0.0, THIN) and rows.positive == (False, True, True)
    assert np.ptp(rows.coordinates[1], axis=0).tolist() == [0, 6, 6]


def test_a_stroke_becomes_a_prompt_and_the_mask_follows_its_changes(hands, scene):
    _, first, second = scene
    paint(hands, through(middle(first)), width=18)
    layer = hands.writer.strokes
    (stroke,) = hands.session.objects[1].prompts
    assert stroke == Stroke(tuple(through(middle(first))), True, 9, axis=0)
    np.testing.assert_array_equal(hands.labels == 1, first | marked(stroke, first.shape))
    assert layer.edge_width == [18] and layer.features["prompt"].tolist() == [0]

    layer.data = [np.array(through(middle(second)), float)]
    hands.settle()
    (stroke,) = hands.session.objects[1].prompts
    np.testing.assert_array_equal(hands.labels == 1, second | marked(stroke, first.shape))
    layer.selected_data = {0}
    layer.current_edge_width = 4
    hands.settle()
    (stroke,) = hands.session.objects[1].prompts
    assert stroke.radius == 2
    np.testing.assert_array_equal(hands.labels == 1, second | marked(stroke, first.shape))
    hands.act("undo")
    hands.act("undo")
    np.testing.assert_array_equal(layer.data[0], through(middle(first)))
    assert layer.edge_width == [18]
    layer.selected_data = {0}
    layer.remove_selected()
    hands.settle()
    assert not hands.labels.any() and not len(layer.data)
    hands.act("undo")
    assert hands.labels.any() and len(layer.data) == 1


def test_any_stroke_and_click_can_be_turned_round(hands, scene):
    _, first, second = scene
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.mode("brush")
    hands.settle()
    paint(hands, through(middle(second)))
    layer = hands.writer.strokes
    kept = np.array(layer.edge_color[0])
    (_, stroke) = hands.session.objects[1].prompts
    hands.viewer.layers.selection.active = layer
    layer.selected_data = {0}
    hands.segmentation.flip()
    hands.settle()
    assert hands.session.objects[1].prompts.items[1] == Stroke(stroke.points, False, stroke.radius, stroke.axis)
    np.testing.assert_array_equal(hands.labels == 1, first)
    assert not np.allclose(layer.edge_color[0], kept)

    hands.viewer.layers.selection.active = hands.writer.points
    hands.writer.points.selected_data = {0}
    hands.segmentation.flip()
    hands.settle()
    assert [p.positive for p in hands.session.objects[1].prompts] == [False, False]
    hands.act("undo")
    np.testing.assert_array_equal(hands.labels == 1, first)
    features = layer.features.copy()
    features.loc[0, "positive"] = True
    layer.features = features
    hands.settle()
    assert hands.labels[marked(stroke, first.shape)].all()
    np.testing.assert_allclose(layer.edge_color[0], kept)

    hands.writer.points.selected_data = set()
    hands.viewer.layers.selection.active = hands.writer.labels
    hands.segmentation.flip()
    assert "First select clicks or strokes" in hands.message


def test_strokes_come_back_with_their_object_and_the_session(hands, scene, open_plugin):
    _, first, second = scene
    paint(hands, through(middle(first)))
    hands.press(hands.panel.objects.new_button)
    hands.settle()
    assert not len(hands.writer.strokes.data)
    paint(hands, [middle(second), np.add(middle(second), (0, 0, 1))], width=10, positive=True)
    assert len(hands.session.objects) == 2
    hands.panel.objects.table.selectRow(0)
    hands.settle()
    np.testing.assert_array_equal(hands.writer.strokes.data[0], through(middle(first)))
    hands.writer.strokes.data = [np.array(through(np.add(middle(first), (1, 0, 0))), float)]
    hands.settle()
    assert hands.session.objects[1].prompts.items[0].points[0][0] == middle(first)[0] + 1
    assert hands.session.objects[2].prompts.items[0].radius == 5
    expected = hands.labels.copy()
    hands.widget.coordinator.close(wait=True)
    again = open_plugin(scene[0], scale=(3, 1, 1), name="scan")
    again.mode("brush")
    np.testing.assert_array_equal(again.labels, expected)
    assert again.writer.strokes.edge_width == [10]


def test_a_dab_can_be_moved_and_resized(hands, scene):
    _, first, _ = scene
    z, y, x = (float(c) for c in middle(first))
    hands.session.add(Stroke(((z, y, x),), True, 4, axis=0), model="thresholder").result(10)
    hands.settle()
    layer = hands.writer.strokes
    assert layer.shape_type == ["ellipse"]
    assert hands.session.objects[1].prompts.items[0].points == ((z, y, x),)
    layer.data = [np.add(layer.data[0], (0, 2, -1))]
    hands.settle()
    assert hands.session.objects[1].prompts.items[0] == Stroke(((z, y + 2, x - 1),), True, 4, axis=0)
    corners = np.asarray(layer.data[0])
    layer.data = [corners.mean(0) + 2 * (corners - corners.mean(0))]
    hands.settle()
    assert hands.session.objects[1].prompts.items[0] == Stroke(((z, y + 2, x - 1),), True, 8, axis=0)


def test_a_stroke_outside_of_the_image_is_refused_and_goes(hands, scene):
    _, first, _ = scene
    paint(hands, through(middle(first)))
    before = hands.labels.copy()
    paint(hands, [(3, 5, 5), (3, 5, 500)])
    assert "outside the image" in hands.message
    np.testing.assert_array_equal(hands.labels, before)
    assert len(hands.writer.strokes.data) == 1


def test_a_stroke_that_napari_has_torn_apart_comes_back(hands, scene):
    """It does so with straight ones whose frame is dragged at a handle."""
    _, first, _ = scene
    paint(hands, through(middle(first)))
    before = hands.labels.copy()
    hands.writer.strokes.data = [np.array(through(middle(first)), float) * (1, 1, np.nan)]
    hands.settle()
    assert "finite" in hands.message
    np.testing.assert_array_equal(hands.labels, before)
    np.testing.assert_array_equal(hands.writer.strokes.data[0], through(middle(first)))


def test_the_size_of_the_brush(hands):
    assert hands.panel.brush.size_.value() == 10 and hands.writer.brush.size == 10
    hands.panel.brush.size_.setValue(30)
    assert hands.writer.brush.size == 30
    layer = hands.writer.strokes
    assert layer.current_edge_width == 30 and layer.cursor == "circle" and layer.cursor_size == 30
    hands.writer.brush.set_size(0)
    assert hands.panel.brush.size_.value() == 1
    hands.writer.brush.set_size(5000)
    assert hands.panel.brush.size_.value() == 400
    hands.mode("navigate")
    assert layer.cursor != "circle"


def test_brush_and_eraser_take_turns_at_a_key(hands):
    assert hands.writer.mode == "brush"
    hands.segmentation.brush_or_erase()
    assert hands.writer.mode == "eraser" and hands.panel.modes.buttons["eraser"].isChecked()
    hands.segmentation.brush_or_erase()
    assert hands.writer.mode == "brush"
    hands.mode("box")
    hands.segmentation.brush_or_erase()
    assert hands.writer.mode == "brush"
