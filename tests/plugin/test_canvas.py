"""Clicks, rectangles and keys on the canvas of the real viewer, and the voxels that they end up in."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from tests.parameters import few
from tests.phantoms import two_balls

AFFINE = np.array([[2.0, 0, 0, 5], [0, 0.8, 0.3, -7], [0, -0.3, 0.8, 11], [0, 0, 0, 1]])
"""Turned in the plane of the slices, scaled, shifted."""


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


CASES = {
    "anisotropic": ({"scale": (3, 1, 1)}, (0, 1, 2)),
    "affine": ({"affine": AFFINE, "translate": (4, 5, 6)}, (0, 1, 2)),
    "flipped and rolled": ({"scale": (3, 1, -1)}, (1, 2, 0)),
    "axes reversed": ({"scale": (3, 1, 1)}, (2, 1, 0)),
}
"""Transform of the image, order of the viewer's axes."""


@pytest.mark.parametrize("case", few(CASES, tried=(1, 2)))
def test_a_click_fills_the_structure_under_it(open_plugin, case):
    volume, first, _ = two_balls()
    before = volume.array.copy()
    transform, order = CASES[case]
    hands = open_plugin(volume.array, show=True, **transform)
    image = hands.segmentation.image
    hands.viewer.dims.order = order
    hands.viewer.reset_view()
    hands.mode("positive")
    hands.click(middle(first))
    point = hands.session.objects[1].prompts.items[0]
    np.testing.assert_allclose(point.index, middle(first), atol=0.7)
    np.testing.assert_array_equal(hands.labels == 1, first)
    np.testing.assert_allclose(hands.writer.points.data[0], point.index, atol=1e-3)
    for index in ([0, 0, 0], [3, 5, 7]):
        np.testing.assert_allclose(hands.writer.labels.data_to_world(index), image.data_to_world(index))
    np.testing.assert_array_equal(image.data, before)


def test_a_session_of_clicks_boxes_and_keys(open_plugin):
    volume, first, second = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1))

    hands.key(Qt.Key.Key_W)
    assert hands.writer.mode == "positive"
    hands.click(middle(first))
    hands.click(middle(second))
    np.testing.assert_array_equal(hands.labels == 1, first | second)

    hands.key(Qt.Key.Key_W)
    assert hands.panel.modes.buttons["negative"].isChecked()
    hands.click(np.add(middle(second), (0, 2, 2)))
    np.testing.assert_array_equal(hands.labels == 1, first)
    assert hands.writer.points.features["positive"].tolist() == [True, True, False]

    hands.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(hands.labels == 1, first | second)
    hands.key(Qt.Key.Key_U)
    np.testing.assert_array_equal(hands.labels == 1, first)
    assert len(hands.writer.points.data) == 1

    hands.key(Qt.Key.Key_N)
    assert len(hands.writer.points.data) == 0
    hands.key(Qt.Key.Key_W)
    hands.click(middle(second))
    np.testing.assert_array_equal(hands.labels, first + 2 * second.astype(int))
    assert hands.panel.objects.model.rowCount() == 2


def test_clicks_are_copied_and_pasted_by_key(open_plugin):
    """On a flat image; in a volume napari's own pasting fails."""
    volume, first, _ = two_balls((60, 80))
    hands = open_plugin(volume.array, show=True, scale=(1, -1))
    hands.mode("positive")
    hands.click(middle(first))
    points = hands.writer.points
    points.mode = "select"
    points.selected_data = {0}
    hands.canvas.setFocus()
    hands.key(Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    hands.key(Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    one, other = hands.session.objects[1].prompts.items
    assert one == other
    points.selected_data = {0, 1}
    hands.key(Qt.Key.Key_Delete)
    assert not hands.session.objects[1].prompts.items
    assert not hands.labels.any()


def test_a_rectangle_is_a_box_on_the_displayed_slice(open_plugin):
    volume, first, _ = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1), model="planar")
    order = hands.viewer.dims.order = (1, 0, 2)
    hands.viewer.reset_view()
    across = order[0]
    start, stop = np.array([3, 10, 3]), np.array([16, 30, 22])
    start[across] = stop[across] = middle(first)[across]
    hands.mode("box")
    hands.drag(start, stop)
    (box,) = hands.session.objects[1].prompts.items
    low, high = start.copy(), stop + 1
    np.testing.assert_allclose(box.low, low, atol=1)
    np.testing.assert_allclose(box.high, high, atol=1)
    assert box.thin_axes == (across,) and box.low[across] == start[across]
    slices = [slice(None)] * 3
    slices[across] = start[across]
    assert (hands.labels[tuple(slices)] == first[tuple(slices)]).mean() > 0.97
    assert hands.labels.sum() == hands.labels[tuple(slices)].sum()
    assert len(hands.writer.boxes.data) == 1


def test_a_box_across_slices_is_propagated_through_them(open_plugin):
    volume, _, _ = two_balls()
    hands = open_plugin(volume.array, show=True, scale=(3, 1, 1), model="planar")
    hands.panel.slices.across.setChecked(True)
    for which, z in (("first", 6), ("last", 13)):
        hands.look_at((z, 0, 0))
        hands.press(getattr(hands.panel.slices, f"{which}_here"))
    assert hands.panel.slices.span == (6, 13)
    hands.mode("box")
    hands.drag((10, 10, 3), (10, 30, 22))
    (box,) = hands.session.objects[1].prompts.items
    assert (box.low[0], box.high[0]) == (6, 14)
    assert len(hands.writer.boxes.data) == 8, "one rectangle on every slice"
    found = hands.labels > 0
    assert found[6:14].any(axis=(1, 2)).all() and not found[:6].any() and not found[14:].any()


def test_colour_images_are_flat(open_plugin):
    volume, first, _ = two_balls((60, 80))
    colour = np.repeat(volume.array.astype(np.uint8)[..., None], 3, axis=-1)
    hands = open_plugin(colour, show=True, rgb=True, scale=(0.5, 0.7))
    hands.mode("positive")
    hands.click(middle(first))
    np.testing.assert_array_equal(hands.labels == 1, first)
    assert not hands.panel.actions_["propagate"].isEnabled()
