"""An image is left for another one and chosen again: its objects are in the layer that was left, in no second one."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_sammed import lazy
from napari_sammed.plugin.image import images
from tests.counting import Counting
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


def layers_of_labels(hands) -> list[Labels]:
    return [layer for layer in hands.viewer.layers if isinstance(layer, Labels)]


def shown(layer) -> np.ndarray:
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)


def click(hands, mask) -> None:
    hands.mode("positive")
    hands.writer.points.add(middle(mask))
    hands.settle()


def choose(hands, layer) -> None:
    hands.widget.coordinator.choose_image(layer)
    hands.settle()


@pytest.mark.parametrize("large", [False, True])
def test_the_layer_that_was_left_is_gone_on_with(open_plugin, scene, monkeypatch, large):
    array, first, second = scene
    if large:
        for module in (images, lazy):
            monkeypatch.setattr(module, "READ_WHOLE", 1000)
    hands = open_plugin()
    image = hands.viewer.add_image(Counting(array) if large else array, name="scan", contrast_limits=(0, 255))
    hands.settle()
    hands.session.model = "thresholder"
    click(hands, first)
    (left,) = layers_of_labels(hands)
    assert left.multiscale == large
    other = hands.viewer.add_image(array[::-1].copy(), name="other")
    choose(hands, other)
    left.visible = False
    choose(hands, image)
    assert layers_of_labels(hands) == [left] and hands.writer.labels is left and left.visible
    np.testing.assert_array_equal(shown(left) == 1, first)
    hands.segmentation.new_object()
    click(hands, second)
    assert layers_of_labels(hands) == [left]
    np.testing.assert_array_equal(shown(left), first + 2 * second.astype(int))
    hands.segmentation.undo()
    hands.settle()
    np.testing.assert_array_equal(shown(left) > 0, first)


def test_one_that_the_user_painted_in_is_the_users(open_plugin, scene):
    array, first, _ = scene
    hands = open_plugin(array, name="scan")
    image = hands.viewer.layers["scan"]
    click(hands, first)
    (left,) = layers_of_labels(hands)
    choose(hands, hands.viewer.add_image(array[::-1].copy(), name="other"))
    left.data_setitem((np.array([0]), np.array([0]), np.array([0])), 5)
    painted = left.data.copy()
    choose(hands, image)
    np.testing.assert_array_equal(left.data, painted)
    assert hands.writer.labels is not left
    np.testing.assert_array_equal(hands.labels == 1, first)


def test_a_copy_of_it_stays_as_it_is(open_plugin, scene):
    array, first, second = scene
    hands = open_plugin(array, name="scan")
    image = hands.viewer.layers["scan"]
    click(hands, first)
    (left,) = layers_of_labels(hands)
    choose(hands, hands.viewer.add_image(array[::-1].copy(), name="other"))
    data, options, _ = left.as_layer_data_tuple()
    copy = hands.viewer.add_labels(data.copy(), **options)
    hands.viewer.layers.move(hands.viewer.layers.index(copy), 0)
    choose(hands, image)
    hands.segmentation.new_object()
    click(hands, second)
    assert hands.writer.labels is left
    np.testing.assert_array_equal(copy.data > 0, first)
