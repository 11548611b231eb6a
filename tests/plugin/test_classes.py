"""Segmenting everything without prompts, and taking a class over."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.labeller import CLASSES, Labeller
from tests.phantoms import two_balls
from tests.plugin.test_frames import go


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene):
    return open_plugin(scene[0], name="scan", scale=(3, 1, 1))


@pytest.fixture
def section(hands):
    section = hands.panel.classes
    section.opener.setChecked(True)
    return section


def segment(hands) -> np.ndarray:
    hands.press(hands.panel.classes.start_button)
    hands.settle()
    return hands.viewer.layers["scan Labeller"]


def expected(array) -> np.ndarray:
    return (array > 60).astype(int) + (array > 140)


def test_every_class_is_in_a_layer_with_its_name_and_colour(hands, section, scene):
    array = scene[0]
    layer = segment(hands)
    np.testing.assert_array_equal(layer.data, expected(array))
    np.testing.assert_array_equal(layer.scale, (3, 1, 1))
    assert list(hands.viewer.layers).index(layer) == 1, "above the image, below everything else"
    assert list(layer.features["class"]) == ["background", *CLASSES]
    colours = [tuple(layer.colormap.map(i)) for i in (1, 2, 3)]
    assert len(set(colours)) == 3 and layer.colormap.map(0)[3] == 0
    names = [section.table.item(row, 0).text() for row in range(section.table.rowCount())]
    assert names == list(CLASSES) and section.table.item(2, 1).text() == "not found"
    assert "2 of 3 classes" in hands.message
    assert hands.panel.status.remark.text() == "It knows no anatomy."
    assert not hands.session.objects, "nothing is an object yet"


def test_a_class_is_taken_over_and_corrected(hands, section, scene):
    array, first, _ = scene
    layer = segment(hands)
    section.table.selectRow(1)
    hands.press(section.take_button)
    hands.settle()
    assert hands.session.objects[1].name == "bright"
    np.testing.assert_array_equal(hands.labels == 1, array > 140)
    assert layer.colormap.map(2)[3] == 0 and layer.colormap.map(1)[3] > 0, "seen once, as the object"
    assert section.table.item(1, 0).text() == "bright (taken over)"
    hands.mode("positive")
    hands.writer.points.add(np.argwhere(first).mean(0).round())
    hands.settle()
    assert len(hands.session.objects[1].prompts) == 1 and (hands.labels == 1)[first].all()
    hands.act("undo")
    hands.act("undo")
    assert not hands.session.objects and not hands.labels.any() and layer.colormap.map(2)[3] > 0


def test_a_class_that_was_not_found_cannot_be_taken(hands, section):
    segment(hands)
    section.table.selectRow(2)
    assert not section.take_button.isEnabled()


def test_prompts_go_on_meanwhile_and_cancel_stops_it(hands, section, scene, backend, qtbot):
    reached, go_on = threading.Event(), threading.Event()

    def wait(number: int) -> None:
        if number == 3:
            reached.set()
            go_on.wait(10)

    backend._models._loaded["labeller"] = Labeller(wait)
    hands.press(section.start_button)
    qtbot.waitUntil(reached.is_set)
    qtbot.waitUntil(lambda: not hands.panel.status.bar.isHidden(), timeout=3000)
    hands.press(hands.panel.status.cancel_button)
    go_on.set()
    hands.settle()
    assert "Cancelled" in hands.message
    assert "scan Labeller" not in hands.viewer.layers


def test_again_uses_the_layer_that_is_there(hands, section, scene):
    layer = segment(hands)
    layer.data = np.zeros_like(layer.data)
    assert segment(hands) is layer
    np.testing.assert_array_equal(layer.data, expected(scene[0]))


def test_the_map_of_a_frame_is_back_with_it(open_plugin, scene):
    array = scene[0]
    hands = open_plugin(np.stack([array, array[::-1], array[:, ::-1]]), name="scan")
    hands.panel.classes.opener.setChecked(True)
    table = hands.panel.classes.table
    go(hands, 0, 0)
    hands.press(hands.panel.classes.start_button)
    hands.settle()
    (layer,) = [layer for layer in hands.viewer.layers if "Labeller" in layer.name]
    assert table.rowCount() == 3
    go(hands, 0, 1)
    assert table.rowCount() == 0 and not layer.visible
    go(hands, 0, 0)
    assert table.rowCount() == 3 and layer.visible
    hands.press(hands.panel.classes.start_button)
    hands.settle()
    assert [other for other in hands.viewer.layers if "Labeller" in other.name] == [layer]


def test_the_map_is_back_with_its_image_but_not_with_other_voxels(hands, section, scene):
    array, _, _ = scene
    layer = segment(hands)
    other = hands.viewer.add_image(array[::-1].copy(), name="other")
    hands.widget.coordinator.choose_image(other)
    hands.settle()
    assert section.table.rowCount() == 0
    image = hands.viewer.layers["scan"]
    hands.widget.coordinator.choose_image(image)
    hands.settle()
    assert section.table.rowCount() == 3
    hands.segmentation.take_class(CLASSES[1])
    hands.settle()
    assert hands.session.objects[1].name == CLASSES[1] and layer.colormap.map(2)[3] == 0
    image.data = array[:, ::-1].copy()
    hands.settle()
    assert section.table.rowCount() == 0
