"""What holds up the event loop is done once, and bit by bit: layers made and removed, colormaps set."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import rectangle_of
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(v) for v in np.argwhere(mask).mean(0).round())


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return volume.array, first, second


@pytest.fixture
def hands(open_plugin, scene):
    return open_plugin(scene[0], scale=(3, 1, 1), name="scan")


def names(hands) -> list[str]:
    return [layer.name for layer in hands.viewer.layers]


def in_turns(change: list, until: Callable[[], bool]) -> list[int]:
    """How much longer a list grew in each turn of the event loop."""
    grown, end = [], time.monotonic() + 10
    while not until():
        assert time.monotonic() < end
        before = len(change)
        QApplication.processEvents()
        grown.append(len(change) - before)
        time.sleep(0.002)
    return grown


def test_a_tool_makes_its_own_layer_at_once_and_the_labels_soon(hands):
    hands.mode("positive")
    assert names(hands) == ["scan", "scan clicks"]
    hands.settle()
    assert names(hands) == ["scan", "scan objects", "scan clicks"]
    assert hands.viewer.layers.selection.active is hands.writer.points and hands.writer.points.mode == "add"
    hands.mode("brush")
    assert names(hands) == ["scan", "scan objects", "scan strokes", "scan clicks"]
    hands.mode("box")
    assert names(hands) == ["scan", "scan objects", "scan strokes", "scan boxes", "scan clicks"]


def test_prompts_that_have_to_be_shown_get_their_layers_one_in_a_turn(open_plugin, hands, scene):
    array, first, second = scene
    hands.mode("box")
    z, y, x = middle(first)
    hands.writer.boxes.add_rectangles([rectangle_of(Box((z, y - 3, x - 3), (z + 1, y + 4, x + 4)), 0, z)])
    hands.settle()
    hands.mode("positive")
    hands.writer.points.add(middle(second))
    hands.settle()
    hands.widget.coordinator.close(wait=True)
    again = open_plugin(array.copy(), scale=(3, 1, 1), name="again")
    assert names(again) == ["again", "again objects"]
    added: list = []
    again.viewer.layers.events.inserted.connect(added.append)
    again.mode("brush")
    assert max(in_turns(added, lambda: len(again.viewer.layers) == 5)) == 1
    assert names(again) == ["again", "again objects", "again strokes", "again boxes", "again clicks"]
    again.settle()
    assert len(again.writer.points.data) == len(again.writer.boxes.data) == 1
    assert again.viewer.layers.selection.active is again.writer.strokes


def test_a_layer_that_the_user_deletes_stays_away_until_a_tool_is_chosen(hands, scene):
    _, first, _ = scene
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    hands.viewer.layers.remove(hands.writer.points)
    hands.session.new_object()
    hands.session.select(1)
    hands.settle()
    assert hands.writer.points is None
    hands.mode("box")
    hands.settle()
    np.testing.assert_array_equal(hands.writer.points.data, [middle(first)])
    assert len(hands.session.objects[1].prompts) == 1


def test_another_image_of_as_many_dimensions_goes_on_with_the_layers(hands, scene):
    array, first, _ = scene
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    points, labels = hands.writer.points, hands.writer.labels
    other = hands.viewer.add_image(array[:, ::-1].copy(), name="other", scale=(2, 1, 1), translate=(1, 2, 3))
    added, removed = [], []
    hands.viewer.layers.events.inserted.connect(added.append)
    hands.viewer.layers.events.removed.connect(removed.append)
    hands.widget.coordinator.choose_image(other)
    assert not len(points.data) and hands.panel.modes.buttons["navigate"].isChecked()
    hands.settle()
    hands.qtbot.wait(300)
    assert not added and not removed and not hands.session.objects
    assert hands.writer.points is points and points.name == "other clicks"
    np.testing.assert_allclose(points.scale, other.scale)
    np.testing.assert_allclose(points.translate, other.translate)
    assert hands.viewer.layers.index(points) > hands.viewer.layers.index(other), "above the image that came later"
    hands.mode("positive")
    place = np.argwhere(first[:, ::-1]).mean(0).round()
    points.add(place)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, first[:, ::-1])
    np.testing.assert_array_equal(labels.data == 1, first, "those of the image before are the user's")
    assert hands.writer.labels is not labels and len(added) == 1


def test_layers_of_no_further_use_are_hidden_at_once_and_removed_one_in_a_turn(hands, scene):
    array, first, _ = scene
    for mode in ("brush", "box", "positive"):
        hands.mode(mode)
    hands.writer.points.add(middle(first))
    hands.settle()
    flat = hands.viewer.add_image(array[4].copy(), name="flat")
    own = [hands.writer.points, hands.writer.boxes, hands.writer.strokes]
    removed: list = []
    hands.viewer.layers.events.removed.connect(removed.append)
    hands.widget.coordinator.choose_image(flat)
    assert not removed and not any(layer.visible for layer in own)
    assert max(in_turns(removed, lambda: len(removed) == 3)) == 1
    assert not any(layer in hands.viewer.layers for layer in own)


def test_the_frame_keeps_its_layer_hidden_in_between(hands, scene):
    _, first, _ = scene
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    frame = hands.segmentation._closer.frame
    added: list = []
    hands.viewer.layers.events.inserted.connect(added.append)
    frame.show(Box((2, 3, 4), (6, 9, 9)))
    layer = frame.layer
    assert layer.visible and hands.viewer.layers.selection.active is hands.writer.points
    frame.hide()
    assert frame.layer is None and layer in hands.viewer.layers and not layer.visible
    frame.draw()
    assert frame.layer is layer and layer.visible and hands.viewer.layers.selection.active is layer
    frame.hide()
    assert hands.viewer.layers.selection.active is hands.writer.points and len(added) == 1
    hands.viewer.layers.remove(layer)
    frame.show(Box((2, 3, 4), (6, 9, 9)))
    assert frame.layer is not layer and frame.layer in hands.viewer.layers and len(added) == 2


def test_a_frame_that_is_drawn_may_be_deleted(hands, scene):
    hands.mode("positive")
    frame = hands.segmentation._closer.frame
    frame.draw()
    hands.viewer.layers.remove(frame.layer)
    hands.settle()
    assert not frame.drawing and frame.layer is None
    assert hands.viewer.layers.selection.active is hands.writer.points


def test_new_objects_do_not_set_the_colormap_anew(hands, scene):
    _, first, second = scene
    hands.mode("positive")
    hands.settle()
    told: list = []
    hands.writer.labels.events.colormap.connect(told.append)
    for mask in (first, second):
        hands.session.new_object()
        hands.settle()
        hands.writer.points.add(middle(mask))
        hands.settle()
    hands.session.select(1)
    hands.settle()
    assert not told
    assert tuple(hands.writer.labels.colormap.map(1)) != tuple(hands.writer.labels.colormap.map(2))
    hands.session.recolour(1, "#123456")
    hands.settle()
    np.testing.assert_allclose(hands.writer.labels.colormap.map(1)[:3], np.array([0x12, 0x34, 0x56]) / 255, atol=1e-3)
    assert len(told) == 1
