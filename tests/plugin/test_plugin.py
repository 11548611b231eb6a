"""The plugin in a viewer that nobody sees: prompts come from the layers themselves."""

from __future__ import annotations

import threading

import dask.array
import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.plugin.image.coordinates import rectangle_of
from napari_sammed.plugin.views.object_model import column_number
from napari_sammed.volume import read_volume
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene):
    hands = open_plugin(scene[0], scale=(3, 1, 1), name="scan")
    hands.mode("positive")
    return hands


def click(hands, index) -> None:
    hands.writer.points.add(index)
    hands.settle()


def draw(hands, box: Box, axis: int | None = 0) -> None:
    if hands.writer.boxes is None:
        hands.mode("box")
    hands.writer.boxes.add_rectangles([rectangle_of(box, axis, box.low[0])])
    hands.settle()


def test_undo_and_redo_also_take_the_prompts_along(hands, scene):
    _, first, second = scene
    click(hands, middle(first))
    click(hands, middle(second))
    hands.act("undo")
    np.testing.assert_array_equal(hands.labels == 1, first)
    np.testing.assert_array_equal(hands.writer.points.data, [middle(first)])
    hands.act("undo")
    assert not hands.labels.any() and not len(hands.writer.points.data)
    hands.act("redo")
    hands.act("redo")
    np.testing.assert_array_equal(hands.labels == 1, first | second)
    np.testing.assert_array_equal(hands.writer.points.data, [middle(first), middle(second)])
    hands.act("redo")
    assert hands.message == "There is nothing to redo."


def test_any_prompt_can_be_moved_flipped_and_deleted_in_its_layer(hands, scene):
    _, first, second = scene
    click(hands, middle(first))
    points = hands.writer.points
    points.data = [middle(second)]
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, second)
    click(hands, middle(first))
    features = points.features.copy()
    features.loc[0, "positive"] = False
    points.features = features
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, first)
    assert str(points.symbol[0]) == "cross"
    points.selected_data = {0}
    points.remove_selected()
    hands.settle()
    assert len(hands.session.objects[1].prompts) == 1 and len(points.data) == 1
    np.testing.assert_array_equal(hands.labels == 1, first)
    hands.act("undo")
    np.testing.assert_array_equal(points.data, [middle(second), middle(first)])


def test_several_prompts_can_be_deleted_at_once(hands, scene):
    _, first, second = scene
    z, y, x = middle(first)
    for place in ((z, y, x), middle(second), (z, y, x + 1), (z, y, x + 2)):
        click(hands, place)
    hands.writer.points.selected_data = {0, 2, 3}
    hands.writer.points.remove_selected()
    hands.settle()
    assert [p.index for p in hands.session.objects[1].prompts] == [middle(second)]
    np.testing.assert_array_equal(hands.labels == 1, second)
    np.testing.assert_array_equal(hands.writer.points.data, [middle(second)])


def test_a_box_can_be_deleted_between_clicks(hands, scene):
    _, first, second = scene
    z, y, x = middle(first)
    draw(hands, Box((z, y - 3, x - 3), (z + 1, y + 4, x + 4)))
    click(hands, middle(second))
    hands.writer.boxes.selected_data = {0}
    hands.writer.boxes.remove_selected()
    hands.settle()
    assert [type(p).__name__ for p in hands.session.objects[1].prompts] == ["Point"]
    np.testing.assert_array_equal(hands.labels == 1, second)


def test_objects_are_chosen_renamed_cleared_and_deleted(hands, scene):
    _, first, second = scene
    objects = hands.panel.objects
    click(hands, middle(first))
    hands.press(objects.new_button)
    hands.settle()
    click(hands, middle(second))
    np.testing.assert_array_equal(hands.labels, first + 2 * second.astype(int))
    assert objects.current == 2 and hands.writer.labels.selected_label == 2

    objects.table.selectRow(0)
    hands.settle()
    np.testing.assert_array_equal(hands.writer.points.data, [middle(first)])
    assert hands.writer.labels.selected_label == 1
    objects.model.setData(objects.model.index(0, column_number("name")), "Ball")
    hands.settle()
    assert hands.session.objects[1].name == "Ball"
    hands.act("clear")
    np.testing.assert_array_equal(hands.labels, 2 * second.astype(int))
    hands.act("undo")
    hands.press(objects.delete_button)
    hands.settle()
    np.testing.assert_array_equal(hands.labels, 2 * second.astype(int))
    assert objects.model.rowCount() == 1


def test_propagation_goes_through_the_stack_of_the_prompt(open_plugin, scene):
    array, first, _ = scene
    hands = open_plugin(array, model="planar")
    hands.mode("box")
    z = middle(first)[0]
    draw(hands, Box((z, 5, 2), (z + 1, 35, 23)))
    assert hands.labels.any(axis=(1, 2)).sum() == 1
    hands.act("propagate")
    np.testing.assert_array_equal((hands.labels > 0).any(axis=(1, 2)), first.any(axis=(1, 2)))
    assert "slices" in hands.message


def test_propagation_without_a_mask_is_refused(hands):
    hands.press(hands.panel.objects.new_button)
    hands.act("propagate")
    assert "no mask yet to propagate" in hands.message


def test_painting_is_an_edit_that_undo_takes_back(hands, scene):
    _, first, _ = scene
    click(hands, middle(first))
    labels = hands.writer.labels
    hands.look_at(middle(first))
    z, y, x = middle(first)
    labels.brush_size = 3
    labels.paint((z, 1, 1), 1)
    hands.settle()
    assert hands.session.history.done[-1].do == "edit" and hands.session.objects[1].mask.extent.low[1:] == (0, 0)
    labels.paint((z, y, x), 0)
    hands.settle()
    assert hands.session.labels()[z, y, x] == 0
    click(hands, (z + 1, y, x))
    assert labels.data[z, 1, 1] == 1 and labels.data[z, y, x] == 0, "what was painted stays under later answers"
    for _ in range(3):
        hands.act("undo")
    np.testing.assert_array_equal(labels.data == 1, first)
    labels.paint((z, 1, 1), 7)
    hands.settle()
    assert not (labels.data == 7).any() and "label of one of the objects" in hands.message


def test_layers_may_be_renamed_and_deleted(hands, scene):
    _, first, second = scene
    click(hands, middle(first))
    for name, layer in zip("pqx", (hands.writer.points, hands.writer.labels, hands.segmentation.image), strict=True):
        layer.name = name
    assert hands.panel.image_section.image.currentText() == "x"
    for name in ("labels", "points"):
        hands.viewer.layers.remove(getattr(hands.writer, name))
        assert getattr(hands.writer, name) is None
    assert hands.panel.modes.buttons["navigate"].isChecked()
    hands.mode("positive")
    np.testing.assert_array_equal(hands.writer.points.data, [middle(first)])
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, first)
    hands.viewer.layers.remove(hands.writer.labels)
    click(hands, middle(second))
    np.testing.assert_array_equal(hands.labels == 1, first | second)


def test_what_was_done_comes_back_with_the_image(open_plugin, scene, sessions):
    array, first, second = scene
    hands = open_plugin(array)
    assert hands.session is not None and len(list(sessions.glob("*.jsonl"))) == 1
    hands.mode("positive")
    click(hands, middle(first))
    hands.viewer.layers.remove(hands.segmentation.image)
    hands.settle()
    assert hands.segmentation is None and not hands.panel.modes.isEnabled()
    hands.qtbot.waitUntil(lambda: len(hands.viewer.layers) == 1)
    assert type(hands.viewer.layers[0]).__name__ == "Labels", "the labels are the user's"
    hands.viewer.layers.clear()
    hands.viewer.add_image(array.copy())
    hands.settle()
    assert "Continued where you left off: 1 object." in hands.message
    np.testing.assert_array_equal(hands.labels == 1, first)
    hands.mode("positive")
    click(hands, middle(second))
    np.testing.assert_array_equal(hands.labels == 1, first | second)


def test_looking_at_an_image_leaves_no_journal(open_plugin, scene, sessions):
    hands = open_plugin(scene[0])
    hands.widget.coordinator.close(wait=True)
    assert not list(sessions.iterdir())


def test_other_voxels_are_another_image(hands, scene):
    array, first, _ = scene
    click(hands, middle(first))
    old = hands.session
    hands.segmentation.image.data = array[::-1].copy()
    hands.settle()
    assert hands.session is not old and hands.session.image.hash != old.image.hash and not hands.session.objects


def test_a_moved_image_takes_its_layers_along_and_says_so(hands, scene):
    click(hands, middle(scene[1]))
    image = hands.segmentation.image
    image.scale = (1, 2, 2)
    image.translate = (5, 6, 7)
    for layer in (hands.writer.labels, hands.writer.points):
        np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
    assert "scale has been changed" in hands.panel.status.warning.text()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda v: v.add_image(np.ones((2, 3, 40, 50)), affine=np.eye(5) + np.eye(5, k=2)), "into one another"),
        (lambda v: v.add_image(np.full((9, 40, 50), 3.0)), "same value 3 everywhere"),
        (lambda v: v.add_image(np.full((40, 50), np.nan)), "NaN"),
    ],
    ids=["mixed", "constant", "nan"],
)
def test_unusable_images_are_refused_with_a_sentence(open_plugin, make, sentence):
    hands = open_plugin()
    make(hands.viewer)
    hands.qtbot.waitUntil(lambda: sentence in hands.message, timeout=5000)
    assert not hands.panel.modes.isEnabled()


def test_a_refused_image_gives_way_to_a_good_one(open_plugin, scene):
    hands = open_plugin(np.zeros((2, 3, 40, 50)), affine=np.eye(5) + np.eye(5, k=2))
    hands.viewer.add_image(scene[0], name="good")
    chooser = hands.panel.image_section.image
    chooser.setCurrentIndex(1)
    chooser.activated.emit(1)
    hands.settle()
    assert hands.segmentation.image.name == "good" and hands.panel.modes.isEnabled()


def test_images_on_disk_and_in_pyramids_are_read_at_full_resolution(open_plugin, scene):
    array, first, _ = scene
    pieces = dask.array.from_array(array, chunks=10)
    hands = open_plugin([pieces, pieces[::2, ::2, ::2]], multiscale=True, scale=(3, 1, 1))
    hands.mode("positive")
    click(hands, middle(first))
    np.testing.assert_array_equal(hands.labels == 1, first)
    np.testing.assert_allclose(hands.session.image.grid.spacing, (3, 1, 1))


def test_a_prompt_outside_is_refused_and_removed(hands):
    click(hands, (3, 500, 5))
    assert "outside the image" in hands.message and not len(hands.writer.points.data)


def test_clicks_before_the_image_is_read_are_not_lost(open_plugin, scene, monkeypatch):
    array, first, _ = scene
    gate = threading.Event()
    from napari_sammed.plugin.sessions import opening

    real = opening.volume_of
    monkeypatch.setattr(opening, "volume_of", lambda layer: (gate.wait(10), real(layer))[1])
    hands = open_plugin(None)
    hands.viewer.add_image(array)
    hands.qtbot.waitUntil(lambda: hands.segmentation is not None)
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.qtbot.wait(50)
    assert len(hands.writer.points.data) == 1 and hands.session is None
    gate.set()
    hands.qtbot.waitUntil(lambda: hands.session is not None)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, first)


def test_errors_of_predictions_are_shown_and_can_be_tried_again(hands, scene, backend, monkeypatch):
    _, first, _ = scene
    model = backend._models["thresholder"]
    real = model.decode
    monkeypatch.setattr(model, "decode", lambda *a: (_ for _ in ()).throw(InputError("no luck today.")))
    click(hands, middle(first))
    assert hands.message == "No luck today." and hands.panel.status.retry_button.isVisibleTo(hands.panel)
    assert len(hands.writer.points.data) == 1
    monkeypatch.setattr(model, "decode", real)
    hands.press(hands.panel.status.retry_button)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, first)


def test_the_gui_stays_alive_and_cancel_works_while_a_prediction_runs(hands, scene, backend, monkeypatch):
    _, first, second = scene
    model = backend._models["thresholder"]
    started, gate, real = threading.Event(), threading.Event(), model.decode

    def slow(*arguments):
        started.set()
        gate.wait(10)
        return real(*arguments)

    monkeypatch.setattr(model, "decode", slow)
    hands.writer.points.add(middle(first))
    hands.qtbot.waitUntil(started.is_set)
    hands.qtbot.waitUntil(lambda: hands.panel.status.bar.isVisibleTo(hands.panel))
    hands.press(hands.panel.status.cancel_button)
    gate.set()
    hands.settle()
    assert hands.message.startswith("Cancelled") and not hands.labels.any()
    hands.qtbot.waitUntil(lambda: not hands.panel.status.bar.isVisibleTo(hands.panel))
    click(hands, middle(second))
    np.testing.assert_array_equal(hands.labels == 1, first | second)


def test_many_clicks_at_once_are_all_answered(hands, scene):
    _, first, second = scene
    for index in (middle(first), middle(second), np.add(middle(first), 1)):
        hands.writer.points.add(index)
    hands.settle()
    assert len(hands.session.objects[1].prompts) == 3
    np.testing.assert_array_equal(hands.labels == 1, first | second)


def test_the_chosen_window_goes_with_each_prompt(hands, scene):
    chooser = hands.panel.image_section.window_
    click(hands, middle(scene[1]))
    chooser.box.set_key("displayed")
    hands.segmentation.image.contrast_limits = (10, 90)
    click(hands, middle(scene[2]))
    chooser.box.set_key("lung")
    click(hands, middle(scene[2]))
    windows = [a.window for a in hands.session.history.done if a.do == "prompt"]
    assert windows == [Window.auto(hands.session.image), Window.displayed(10, 90), Window.preset("lung")]


def test_saved_labels_lie_on_the_image(hands, scene, tmp_path, monkeypatch):
    path = tmp_path / "out.nii.gz"
    click(hands, middle(scene[1]))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    hands.press(hands.panel.actions_["save"])
    hands.qtbot.waitUntil(lambda: hands.message == f"Saved to {path}.")
    saved = read_volume(path)
    np.testing.assert_array_equal(saved.array == 1, scene[1])
    assert saved.grid.same_place(hands.session.image.grid)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "out.xyz"), ""))
    hands.press(hands.panel.actions_["save"])
    hands.qtbot.waitUntil(lambda: ".xyz" in hands.message)
    assert not (tmp_path / "out.xyz").exists()


def test_only_changed_voxels_are_written(hands, scene):
    click(hands, middle(scene[1]))
    labels = hands.labels
    labels[0, 0, 0] = 5  # somebody else's, outside the box of any change
    click(hands, middle(scene[2]))
    assert hands.labels is labels and labels[0, 0, 0] == 5


def test_closing_the_dock_ends_the_threads(hands):
    click(hands, (10, 20, 12))
    hands.widget.close()
    hands.qtbot.waitUntil(
        lambda: not any("napari-sammed" in t.name and "inference" not in t.name for t in threading.enumerate())
    )
    kept = ("Image", "Labels")
    assert not any(layer.visible and type(layer).__name__ not in kept for layer in hands.viewer.layers)
    hands.qtbot.waitUntil(lambda: all(type(layer).__name__ in kept for layer in hands.viewer.layers))
    assert hands.segmentation is None


def test_a_click_in_3d_display_is_refused(open_plugin):
    volume, _, _ = two_balls()
    hands = open_plugin(volume.array)
    hands.mode("positive")
    hands.viewer.dims.ndisplay = 3
    hands.settle()
    assert hands.panel.modes.buttons["navigate"].isChecked()
    hands.mode("positive")
    assert "2D display" in hands.message
    hands.viewer.layers.selection.active = hands.writer.points
    hands.writer.points.add((5, 5, 5))
    hands.settle()
    assert len(hands.writer.points.data) == 0 and not hands.session.objects


def test_the_displayed_slice_is_painted_first_and_the_rest_soon_after(hands, scene):
    _, first, _ = scene
    z = middle(first)[0]
    hands.look_at(middle(first))
    shown: list[np.ndarray] = []
    hands.settle()  # the labels come soon after the tool
    hands.writer.labels.events.set_data.connect(lambda _: shown.append(hands.labels.copy()))
    click(hands, middle(first))
    np.testing.assert_array_equal(shown[0][z] == 1, first[z])
    assert not np.delete(shown[0], z, axis=0).any()
    np.testing.assert_array_equal(hands.labels == 1, first)


def test_a_slice_that_the_user_goes_to_at_once_is_complete(hands, scene):
    _, first, _ = scene
    z = middle(first)[0]
    hands.look_at(middle(first))
    writer, session = hands.writer, hands.session
    click(hands, middle(first))
    writer.labels.data[:] = 0
    writer.show_labels(session.objects[1].mask.extent, session.labels)
    hands.look_at((z + 1, 0, 0))
    np.testing.assert_array_equal(hands.labels == 1, first)
    np.testing.assert_array_equal(writer.labels._data_view > 0, first[z + 1])


def test_strokes_through_slices_find_everything_written(hands, scene):
    _, first, _ = scene
    click(hands, middle(first))
    writer, session = hands.writer, hands.session
    writer.labels.data[:] = 0
    writer.labels.n_edit_dimensions = 3
    writer.show_labels(session.objects[1].mask.extent, session.labels)
    np.testing.assert_array_equal(hands.labels == 1, first)
