"""Layers with more axes than an image: time points, channels, stacks of flat images, colours."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_sammed.plugin.features import frames
from tests.phantoms import ball


def blobs(frames: int, shape: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A bright ball that moves along the last axis, on noise of each frame's own, and its masks."""
    half = np.array(shape) / 2
    masks = [ball(shape, (*half[:-1], 8 + 4 * t), 5) for t in range(frames)]
    noise = np.random.default_rng(1).uniform(-2, 2, (frames, *shape))
    return np.stack([20 + 80 * mask for mask in masks]).astype(np.float32) + noise.astype(np.float32), masks


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


def go(hands, axis: int, step: int) -> None:
    """Move a slider of the viewer and rest there."""
    hands.viewer.dims.set_point(axis, hands.viewer.dims.range[axis].start + step * hands.viewer.dims.range[axis].step)
    hands.qtbot.wait(frames._REST + 30)
    hands.settle()


def click(hands, index) -> None:
    hands.writer.points.add(index)
    hands.settle()


def test_each_time_point_has_its_own_objects(open_plugin, sessions):
    array, masks = blobs(4, (10, 24, 30))
    hands = open_plugin(array, scale=(5, 3, 1, 1), translate=(2, 0, 4, 0))
    assert hands.segmentation.view.frame == "frame 1" and hands.session.image.grid.shape == (10, 24, 30)
    go(hands, 0, 0)
    hands.mode("positive")
    click(hands, middle(masks[0]))
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    labels, points = hands.writer.labels, hands.writer.points
    first = hands.session
    go(hands, 0, 3)
    assert hands.session is not first and hands.session.image.hash != first.image.hash
    assert hands.writer.labels is labels and hands.writer.points is points, "the layers stay"
    assert hands.writer.mode == "positive", "and the tool"
    assert not hands.labels.any() and not len(points.data)
    assert hands.panel.objects.model.rowCount() == 0
    click(hands, middle(masks[3]))
    np.testing.assert_array_equal(hands.labels > 0, masks[3])
    assert hands.panel.objects.model.rowCount() == 1
    go(hands, 0, 0)
    assert hands.session is first
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    np.testing.assert_array_equal(points.data, [middle(masks[0])])
    hands.widget.coordinator.close(wait=True)
    assert len(list(sessions.glob("*.jsonl"))) == 2


def test_what_was_done_to_a_frame_comes_back_from_its_journal(open_plugin, sessions):
    array, masks = blobs(3, (24, 30))
    hands = open_plugin(array)
    hands.panel.frames.axes.set_key("tss")
    hands.panel.frames.axes_chosen.emit("tss")
    hands.settle()
    go(hands, 0, 2)
    hands.mode("positive")
    click(hands, middle(masks[2]))
    hands.viewer.layers.remove(hands.segmentation.image)
    hands.settle()
    hands.viewer.layers.clear()
    assert len(list(sessions.glob("*.jsonl"))) == 1
    hands.viewer.add_image(array.copy(), axis_labels=("t", "y", "x"))
    hands.settle()
    assert hands.segmentation.view.frame == "frame 1" and not hands.session.objects
    go(hands, 0, 2)
    np.testing.assert_array_equal(hands.labels > 0, masks[2])


def test_a_prompt_in_flight_is_answered_after_the_user_has_gone_on(open_plugin, backend, monkeypatch):
    array, masks = blobs(3, (24, 30))
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    go(hands, 0, 0)
    hands.mode("positive")
    model = backend._models["thresholder"]
    started, gate, real = threading.Event(), threading.Event(), model.decode

    def slow(*arguments):
        started.set()
        gate.wait(10)
        return real(*arguments)

    monkeypatch.setattr(model, "decode", slow)
    hands.writer.points.add(middle(masks[0]))
    hands.qtbot.waitUntil(started.is_set)
    first = hands.session
    hands.viewer.dims.set_point(0, 1)
    hands.qtbot.waitUntil(lambda: hands.session is not None and hands.session is not first)
    assert not len(hands.writer.points.data) and first.busy
    gate.set()
    hands.qtbot.waitUntil(lambda: not first.busy)
    hands.settle()
    assert first.objects[1].mask is not None and not hands.labels.any()
    go(hands, 0, 0)
    assert hands.session is first
    np.testing.assert_array_equal(hands.labels > 0, masks[0])


def test_a_click_right_after_the_slider_is_the_new_frames(open_plugin):
    array, masks = blobs(3, (24, 30))
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    go(hands, 0, 0)
    hands.mode("positive")
    click(hands, middle(masks[0]))
    first = hands.session
    hands.viewer.dims.set_point(0, 2)
    assert not hands.labels.any() and not len(hands.writer.points.data), "gone at once"
    hands.writer.points.add(middle(masks[2]))
    hands.settle()
    hands.qtbot.wait(50)
    hands.settle()
    assert hands.session is not first and hands.segmentation.view.at == (2,)
    np.testing.assert_array_equal(hands.labels > 0, masks[2])
    assert len(first.objects[1].prompts) == 1


def test_clicks_before_a_frame_is_read_are_that_frames(open_plugin, monkeypatch):
    array, masks = blobs(3, (24, 30))
    gate = threading.Event()
    from napari_sammed.plugin.sessions import opening

    real = opening.volume_of
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    go(hands, 0, 0)
    hands.mode("positive")
    monkeypatch.setattr(opening, "volume_of", lambda view: (gate.wait(10), real(view))[1])
    hands.viewer.dims.set_point(0, 1)
    hands.qtbot.waitUntil(lambda: hands.segmentation.view.at == (1,))
    assert hands.session is None
    hands.writer.points.add(middle(masks[1]))
    hands.qtbot.wait(20)
    hands.viewer.dims.set_point(0, 2)
    hands.qtbot.waitUntil(lambda: hands.segmentation.view.at == (2,))
    gate.set()
    hands.settle()
    assert not hands.session.objects and not len(hands.writer.points.data)
    go(hands, 0, 1)
    np.testing.assert_array_equal(hands.labels > 0, masks[1])


def test_leafing_through_opens_nothing(open_plugin, monkeypatch):
    monkeypatch.setattr(frames, "_REST", 200)
    array, masks = blobs(6, (24, 30))
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    go(hands, 0, 0)
    hands.mode("positive")
    click(hands, middle(masks[0]))
    first = hands.segmentation
    for step in (1, 2, 3, 4, 3, 2, 1, 0):
        hands.viewer.dims.set_point(0, step)
        hands.qtbot.wait(10)
        assert hands.segmentation is first and bool(hands.labels.any()) == (step == 99)
    hands.qtbot.wait(250)
    assert hands.segmentation is first
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    np.testing.assert_array_equal(hands.writer.points.data, [middle(masks[0])])


@pytest.mark.parametrize("bad", [np.full((24, 30), 7.0), np.full((24, 30), np.nan)], ids=["blank", "nan"])
def test_a_frame_that_cannot_be_segmented_leaves_the_others_alone(open_plugin, bad):
    array, masks = blobs(3, (24, 30))
    array[0] = bad
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    hands.mode("positive")
    hands.viewer.dims.set_point(0, 0)
    hands.qtbot.waitUntil(lambda: not hands.panel.modes.isEnabled())
    assert "frame 0 has" in hands.message
    hands.writer.points.add((3, 4))
    hands.qtbot.wait(50)
    assert not len(hands.writer.points.data) and "frame 0 has" in hands.message
    go(hands, 0, 2)
    assert hands.panel.modes.isEnabled()
    click(hands, middle(masks[2]))
    np.testing.assert_array_equal(hands.labels > 0, masks[2])


def test_frames_on_a_real_canvas(open_plugin):
    array, masks = blobs(4, (10, 24, 30))
    hands = open_plugin(array, show=True, scale=(2, 3, 1, 1), axis_labels=("t", "z", "y", "x"))
    for step in (0, 2):
        go(hands, 0, step)
        hands.viewer.reset_view()
        if step == 0:
            hands.mode("positive")
        z, y, x = middle(masks[step])
        hands.viewer.dims.set_point(1, 3 * z)
        hands.click((step, z, y, x))
        np.testing.assert_array_equal(hands.labels > 0, masks[step])
        np.testing.assert_allclose(hands.session.objects[1].prompts.items[0].index, (z, y, x), atol=0.7)
    hands.mode("box")
    hands.viewer.dims.set_point(0, 2 * 3)
    hands.viewer.dims.set_point(0, 2 * 2)
    hands.qtbot.wait(300)
    assert hands.session.objects[1].mask is not None and hands.writer.mode == "box"
    go(hands, 0, 0)
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    shown = hands.viewer.screenshot(canvas_only=True, flash=False)
    hands.writer.labels.visible = False
    assert (shown != hands.viewer.screenshot(canvas_only=True, flash=False)).any(), "the object is seen"


def test_frames_that_change_are_other_images_and_nothing_is_lost(open_plugin):
    array, masks = blobs(3, (24, 30))
    hands = open_plugin(array.copy(), axis_labels=("t", "y", "x"), name="cells")
    image = hands.segmentation.image
    go(hands, 0, 0)
    hands.mode("positive")
    click(hands, middle(masks[0]))
    go(hands, 0, 1)
    image.data[0] += 1  # in place, which napari does not tell
    go(hands, 0, 0)
    assert not hands.session.objects and not hands.labels.any()
    image.data[0] = array[0]
    go(hands, 0, 1)
    go(hands, 0, 0)
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    image.data = array[::-1].copy()
    hands.settle()
    assert hands.segmentation.view.at == (0,) and not hands.session.objects
    go(hands, 0, 2)
    assert hands.session.image.hash and len(hands.session.objects) == 1
    image.name = "renamed"
    go(hands, 0, 1)
    assert hands.message.startswith("renamed, frame 1")
    image.data = array[0]  # no series any more
    hands.settle()
    assert hands.segmentation.view.at == () and not hands.panel.frames.isVisibleTo(hands.panel)
    np.testing.assert_array_equal(hands.labels > 0, masks[0])


def test_a_prompt_in_flight_when_the_layer_goes_is_answered_on_return(open_plugin, backend, monkeypatch):
    array, masks = blobs(3, (24, 30))
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    go(hands, 0, 0)
    hands.mode("positive")
    model = backend._models["thresholder"]
    started, gate, real = threading.Event(), threading.Event(), model.decode
    monkeypatch.setattr(model, "decode", lambda *a: (started.set(), gate.wait(10), real(*a))[2])
    hands.writer.points.add(middle(masks[0]))
    hands.qtbot.waitUntil(started.is_set)
    hands.viewer.layers.remove(hands.segmentation.image)
    gate.set()
    hands.qtbot.waitUntil(lambda: hands.segmentation is None)
    hands.viewer.layers.clear()
    hands.settle()
    hands.viewer.add_image(array, axis_labels=("t", "y", "x"))
    hands.settle()
    go(hands, 0, 0)
    hands.settle()
    assert len(hands.session.objects[1].prompts) == 1
    np.testing.assert_array_equal(hands.labels > 0, masks[0])


def test_two_viewers_on_one_series(open_plugin):
    array, masks = blobs(3, (24, 30))
    one = open_plugin(array, axis_labels=("t", "y", "x"))
    go(one, 0, 0)
    two = open_plugin()
    two.viewer.add_image(array, axis_labels=("t", "y", "x"))
    go(two, 0, 2)
    two.mode("positive")
    click(two, middle(masks[2]))
    np.testing.assert_array_equal(two.labels > 0, masks[2])
    two.viewer.dims.set_point(0, 0)
    two.qtbot.waitUntil(lambda: "in use" in two.message or "read only" in two.message.lower())
    go(two, 0, 2)
    np.testing.assert_array_equal(two.labels > 0, masks[2])
    one.mode("positive")
    click(one, middle(masks[0]))
    np.testing.assert_array_equal(one.labels > 0, masks[0])


def test_closer_looks_and_saving_are_of_the_frame(open_plugin, tmp_path):
    from napari_sammed.volume import read_volume

    array, masks = blobs(3, (10, 24, 30))
    hands = open_plugin(array, scale=(1, 3, 1, 1), model="pixelated")
    go(hands, 0, 2)
    hands.mode("positive")
    click(hands, middle(masks[2]))
    hands.press(hands.panel.closer.button)
    hands.settle()
    assert hands.session.history.done[-1].do == "refine"
    go(hands, 0, 0)
    assert hands.segmentation._closer.frame.layer is None, "the frame of the closer look goes with its image"
    go(hands, 0, 2)
    hands.panel.save_wanted.emit(tmp_path / "frame.nii.gz")
    hands.qtbot.waitUntil(lambda: "Saved" in hands.message)
    saved = read_volume(tmp_path / "frame.nii.gz")
    np.testing.assert_array_equal(saved.array > 0, hands.labels > 0)
    np.testing.assert_allclose(saved.grid.spacing, (3, 1, 1))
