"""Looking closer at a part of an object, in the viewer: the part that is meant, what changes, and the way back."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import rectangle_of
from napari_sammed.plugin.image.in_view import part_in_view
from napari_sammed.plugin.layers import frame
from napari_sammed.plugin.settings.keys import SHORTCUTS
from napari_sammed.prompts import MaskPrompt
from tests.parameters import few
from tests.phantoms import ball, two_balls

AFFINE = np.array([[2.0, 0, 0, 5], [0, 0.8, 0.3, -7], [0, -0.3, 0.8, 11], [0, 0, 0, 1]])
"""Turned in the plane of the slices, scaled, shifted."""
CASES = {
    "anisotropic": ({"scale": (3, 1, 1)}, (0, 1, 2)),
    "affine": ({"affine": AFFINE, "translate": (4, 5, 6)}, (0, 1, 2)),
    "flipped and rolled": ({"scale": (3, 1, -1), "translate": (0, 9, 0)}, (1, 2, 0)),
    "axes reversed": ({"scale": (3, 1, 2)}, (2, 1, 0)),
}
"""Transform of the image, order of the viewer's axes."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(frame, "_MOMENT", 200)


@pytest.fixture
def scene():
    volume, first, second = two_balls()
    return np.array(volume.array), first, second


@pytest.fixture
def hands(open_plugin, scene):
    """A volume with a coarse mask of its first structure."""
    hands = open_plugin(scene[0], scale=(3, 1, 1), name="scan", model="pixelated")
    hands.mode("positive")
    hands.writer.points.add(middle(scene[1]))
    hands.settle()
    return hands


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


def part(truth: np.ndarray) -> Box:
    """The half of a structure with the lower indices along the last axis, and some of its surroundings."""
    box = Box.of_mask(truth)
    high = (*box.high[:-1], (box.low[-1] + box.high[-1]) // 2)
    return Box(box.low, high).grow(2).intersect(Box.of_shape(truth.shape))


def outside(labels: np.ndarray, box: Box) -> np.ndarray:
    rest = labels.copy()
    rest[box.slices] = 0
    return rest


def press(hands, which: str, seconds: float = 10) -> None:
    """Press the button, with this part chosen."""
    hands.panel.closer.part.set_key(which)
    hands.press(hands.panel.closer.button)
    hands.settle(seconds)


def draw(hands, box: Box, axis: int | None = 0, index: int = 0) -> None:
    """Press the button, and draw a region on a slice."""
    press(hands, "drawn")
    hands.segmentation._closer.frame.layer.add_rectangles([rectangle_of(box, axis, index)])
    hands.settle()


def frames(hands) -> list:
    return [layer for layer in hands.viewer.layers if layer.name.endswith("closer look") and layer.visible]


def gone(hands) -> bool:
    hands.qtbot.waitUntil(lambda: not frames(hands))
    return True


def canvas_corners(hands) -> np.ndarray:
    """Index coordinates (4, ndim) of what the corners of the canvas show, by the camera."""
    image, shown = hands.segmentation.image, list(hands.viewer.dims.displayed)
    half = np.array([hands.canvas.height(), hands.canvas.width()]) / 2 / hands.camera.zoom
    world = np.tile(np.array(hands.viewer.dims.point, float), (4, 1))
    for row, signs in enumerate(itertools.product((-1, 1), (-1, 1))):
        world[row, shown] = np.array(hands.camera.center)[-2:] + np.array(signs) * half
    return np.array([image.world_to_data(place) for place in world])


def zoom_to(hands, index, zoom: float) -> None:
    hands.look_at(index)
    hands.camera.center = (
        hands.segmentation.image.data_to_world(index)[hands.viewer.dims.displayed[0]],
        *(hands.segmentation.image.data_to_world(index)[axis] for axis in hands.viewer.dims.displayed),
    )
    hands.camera.zoom = zoom
    hands.qtbot.wait(100)


# ---- what changes ------------------------------------------------------------------------------------------------


def test_a_region_drawn_on_the_canvas_undone_and_done_again(open_plugin):
    volume, first, _ = two_balls((60, 80))
    hands = open_plugin(volume.array, show=True, scale=(0.5, 0.7), model="pixelated")
    hands.mode("positive")
    hands.click(middle(first))
    coarse = hands.labels.copy()
    low, high = part(first).low, part(first).high
    press(hands, "drawn")
    assert "Draw a rectangle" in hands.message and hands.panel.closer.button.isChecked()
    hands.drag(low, np.subtract(high, 1))
    refine = hands.session.history.done[-1]
    assert refine.do == "refine"
    np.testing.assert_allclose([refine.region.low, refine.region.high], [low, high], atol=1)
    fine = hands.labels.copy()
    np.testing.assert_array_equal(outside(fine, refine.region), outside(coarse, refine.region))
    assert not np.array_equal(fine, coarse)
    np.testing.assert_array_equal(fine[refine.region.slices] == 1, first[refine.region.slices])
    assert "score 0.80 (0.80 before)" in hands.message and "Looked closer in" in hands.panel.status.remark.text()
    assert hands.writer.mode == "positive" and not hands.panel.closer.button.isChecked(), "the tool from before"
    (shown,) = frames(hands)
    edges = np.array([shown.data[0].min(0), shown.data[0].max(0)])
    np.testing.assert_allclose(edges + 0.5, [refine.region.low, refine.region.high])
    assert gone(hands) and hands.writer.mode == "positive"
    assert hands.writer.boxes is None and len(hands.session.objects[1].prompts) == 1, "a region is no prompt"

    hands.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(hands.labels, coarse)
    assert hands.message == "Took back: closer look (object 1)."
    hands.act("redo")
    np.testing.assert_array_equal(hands.labels, fine)
    assert hands.message == "Did again: closer look (object 1)."


def test_only_changed_voxels_of_the_part_are_written(hands, scene):
    box = part(scene[1])
    labels = hands.labels
    labels[0, 0, -1] = 5  # somebody else's
    before = labels.copy()
    hands.look_at(middle(scene[1]))
    draw(hands, box, 0, middle(scene[1])[0])
    region = hands.session.history.done[-1].region
    assert hands.labels is labels and labels[0, 0, -1] == 5
    np.testing.assert_array_equal(outside(labels, region), outside(before, region))
    np.testing.assert_array_equal(labels[region.slices] == 1, scene[1][region.slices])


@pytest.mark.parametrize("model", ["pixelated", "pixelated-2d"])
def test_around_the_object(open_plugin, scene, model):
    array, first, _ = scene
    hands = open_plugin(array, scale=(3, 1, 1), model=model)
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    truth = first.copy()
    if model == "pixelated-2d":
        truth[np.arange(len(truth)) != middle(first)[0]] = False

    def wrong() -> int:
        return np.count_nonzero((hands.labels == 1) != truth)

    before = wrong()
    press(hands, "object")
    assert wrong() < before / 4
    region = hands.session.history.done[-1].region
    assert region.thin_axes == ((0,) if model == "pixelated-2d" else ())
    assert region.low <= Box.of_mask(truth).low and region.high >= Box.of_mask(truth).high


def test_around_the_object_means_around_its_box_too(open_plugin):
    volume, first, _ = two_balls((60, 80))
    hands = open_plugin(volume.array, model="pixelated")
    hands.mode("box")
    box = Box.of_mask(first).grow((9, 1))
    hands.writer.boxes.add_rectangles([rectangle_of(box, None)])
    hands.settle()
    found = Box.of_mask(hands.labels > 0)
    assert found.low[0] > box.low[0], "else the mask alone would do"
    press(hands, "object")
    region = hands.session.history.done[-1].region
    assert region.intersect(box) == box


# ---- which part is meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2])
def test_what_is_in_view_of_a_flat_image(open_plugin, levels):
    volume, first, _ = two_balls((60, 80))
    data = volume.array if levels == 1 else [volume.array, volume.array[::2, ::2]]
    hands = open_plugin(data, show=True, scale=(0.5, 0.7), model="pixelated", multiscale=levels > 1)
    hands.mode("positive")
    hands.click(middle(first))
    zoom_to(hands, np.subtract(middle(first), (0, 6)), 50)
    expected = canvas_corners(hands)
    coarse = hands.labels.copy()
    press(hands, "view")
    region = hands.session.history.done[-1].region
    np.testing.assert_allclose(region.low, expected.min(0), atol=1.6)
    np.testing.assert_allclose(np.subtract(region.high, 1), expected.max(0), atol=1.6)
    np.testing.assert_array_equal(outside(hands.labels, region), outside(coarse, region))
    np.testing.assert_array_equal(hands.labels[region.slices] == 1, first[region.slices])
    seen = part_in_view(hands.segmentation.image, None, hands.viewer.dims)
    assert seen.intersect(region) == region, "without the labels at least as much"


@pytest.mark.parametrize(("case", "model"), few(itertools.product(CASES, ("pixelated", "pixelated-2d")), tried=(2, 5)))
def test_what_is_in_view_of_a_volume(open_plugin, scene, case, model):
    array, first, _ = scene
    transform, order = CASES[case]
    hands = open_plugin(array, show=True, model=model, **transform)
    hands.viewer.dims.order = order
    hands.viewer.reset_view()
    hands.mode("positive")
    hands.click(middle(first))
    target = np.subtract(middle(first), (2, 5, 3))
    if model == "pixelated-2d":  # which has a mask on the clicked slice only
        target[order[0]] = middle(first)[order[0]]
    zoom_to(hands, target, 30)
    expected = np.clip(canvas_corners(hands), 0, np.array(array.shape) - 1)
    coarse = hands.labels.copy()
    press(hands, "view")
    action = hands.session.history.done[-1]
    assert action.do == "refine", hands.message
    region, across = action.region, order[0]
    shown = list(order[1:])
    np.testing.assert_allclose(np.array(region.low)[shown], expected.min(0)[shown], atol=1.6)
    np.testing.assert_allclose(np.array(region.high)[shown] - 1, expected.max(0)[shown], atol=1.6)
    if model == "pixelated":
        depth = Box.of_mask(coarse > 0)
        assert region.low[across] <= depth.low[across] and region.high[across] >= depth.high[across]
    else:
        assert (region.low[across], region.shape[across]) == (target[across], 1)
    np.testing.assert_array_equal(outside(hands.labels, region), outside(coarse, region))
    hands.act("undo")
    np.testing.assert_array_equal(hands.labels, coarse)


def test_a_drawn_region_of_a_volume_is_one_slice_for_models_of_slices(open_plugin, scene):
    array, first, _ = scene
    hands = open_plugin(array, scale=(3, 1, 1), model="pixelated-2d")
    z = middle(first)[0]
    hands.look_at(middle(first))
    hands.mode("positive")
    hands.writer.points.add(middle(first))
    hands.settle()
    draw(hands, part(first), 0, z)
    region = hands.session.history.done[-1].region
    assert (region.low[0], region.high[0]) == (z, z + 1)
    assert (region.low[1:], region.high[1:]) == (part(first).low[1:], part(first).high[1:])
    np.testing.assert_array_equal(hands.labels[region.slices] == 1, first[region.slices])


def test_models_of_slices_look_along_the_displayed_plane(open_plugin, scene):
    """Not along the one of the prompts, which may be another."""
    array, first, _ = scene
    hands = open_plugin(array, scale=(3, 1, 1), model="pixelated-2d")
    hands.mode("positive")
    hands.session.take(MaskPrompt(first, (0, 0, 0)), "coarse")
    hands.settle()
    hands.viewer.dims.order = (1, 0, 2)
    hands.look_at(middle(first))
    box = Box.of_mask(first)
    draw(hands, box, 1, middle(first)[1])
    action = hands.session.history.done[-1]
    assert action.axis == 1 and action.region.thin_axes == (1,)
    assert action.region.low[1] == middle(first)[1]


def test_the_frame_is_on_the_slices_of_the_part(hands, scene, monkeypatch):
    monkeypatch.setattr(frame, "_MOMENT", 60_000)
    z = middle(scene[1])[0]
    hands.look_at((z, 0, 0))
    draw(hands, part(scene[1]), 0, z)
    (shown,) = frames(hands)
    region = hands.session.history.done[-1].region
    for index in range(len(scene[0])):
        hands.look_at((index, 0, 0))
        assert len(shown.data) == (region.low[0] <= index < region.high[0])
    hands.viewer.layers.remove(shown)
    hands.settle()
    hands.look_at((z, 0, 0))
    assert not frames(hands)


# ---- drawing -----------------------------------------------------------------------------------------------------


def test_drawing_can_be_left(open_plugin):
    volume, first, _ = two_balls((60, 80))
    hands = open_plugin(volume.array, show=True, model="pixelated")
    hands.mode("positive")
    hands.click(middle(first))
    done = len(hands.session.history.done)
    button = hands.panel.closer.button
    hands.panel.closer.part.set_key("drawn")

    def started() -> None:
        assert frames(hands) and button.isChecked() and hands.panel.modes.buttons["navigate"].isChecked()

    def left(mode: str = "positive") -> None:
        hands.settle()
        assert not frames(hands) and not button.isChecked() and hands.writer.mode == mode

    hands.key(getattr(Qt.Key, f"Key_{SHORTCUTS['closer'].key}"))
    started()
    hands.key(Qt.Key.Key_Escape)
    left()
    hands.press(button)
    started()
    QTest.keyClick(button, Qt.Key.Key_Escape)
    left()
    hands.press(button)
    hands.press(button)
    left()
    hands.press(button)
    QTest.mouseClick(hands.canvas, Qt.MouseButton.LeftButton, pos=hands.position(middle(first)))
    hands.settle()
    started()
    assert "Draw a rectangle" in hands.message, "a click is no rectangle"
    hands.mode("box")
    left("box")
    hands.press(button)
    hands.viewer.dims.ndisplay = 3
    hands.settle()
    assert not frames(hands) and not button.isChecked()
    assert len(hands.session.history.done) == done


def test_the_shortcut_is_in_the_tooltip(hands):
    assert f"(key {SHORTCUTS['closer'].key})" in hands.panel.closer.button.toolTip()


# ---- what goes wrong ---------------------------------------------------------------------------------------------


def test_without_an_object_there_is_nothing_to_look_at(open_plugin, scene):
    hands = open_plugin(scene[0], model="pixelated")
    for which in ("object", "view", "drawn"):
        press(hands, which)
        assert hands.message.startswith("There is no object yet") and not frames(hands)
    hands.press(hands.panel.objects.new_button)
    for which in ("object", "view", "drawn"):
        press(hands, which)
        assert "neither a mask nor a prompt" in hands.message and not frames(hands)


def test_a_part_without_the_object_is_refused(hands, scene):
    two = np.zeros(scene[0].shape, bool)
    two[5:10, 5:10, 5:10] = two[5:10, 20:25, 20:25] = True
    hands.session.take(MaskPrompt(two, (0, 0, 0)), "Two")
    hands.settle()
    before, done = hands.labels.copy(), len(hands.session.history.done)
    between = Box((5, 5, 20), (10, 10, 25))  # inside the extent of both
    far = Box.of_mask(scene[2])
    for box, sentence in (
        (far, "Nothing of Two lies between"),
        (between, "Nothing of Two lies between"),
        (far.shift((0, 500, 0)), "outside the image"),
    ):
        draw(hands, box, 0, box.low[0])
        assert sentence in hands.message and not frames(hands)
        assert not hands.panel.closer.button.isChecked() and not hands.panel.status.bar.isVisibleTo(hands.panel)
    np.testing.assert_array_equal(hands.labels, before)
    assert len(hands.session.history.done) == done and hands.writer.mode == "positive"


def test_parts_are_chosen_on_slices_but_the_whole_object_in_3d_too(hands, scene):
    hands.viewer.dims.ndisplay = 3
    hands.settle()
    for which in ("view", "drawn"):
        press(hands, which)
        assert "2D display" in hands.message and not frames(hands)
    press(hands, "object")
    assert hands.session.history.done[-1].do == "refine" and "score" in hands.message


def test_an_image_out_of_view(open_plugin):
    volume, first, _ = two_balls((60, 80))
    hands = open_plugin(volume.array, show=True, model="pixelated", name="scan")
    hands.mode("positive")
    hands.click(middle(first))
    zoom_to(hands, (500, 500), 30)
    press(hands, "view")
    assert hands.message.startswith("Nothing of scan is in view")


def test_a_model_that_finds_nothing_says_so(hands, backend, monkeypatch):
    model = backend._models["pixelated"]
    monkeypatch.setattr(model, "restore", lambda logits: np.full(logits.region.box.shape, -5.0, np.float32))
    before = hands.labels.copy()
    press(hands, "object")
    assert not hands.labels.any() and "is empty" in hands.message
    hands.act("undo")
    np.testing.assert_array_equal(hands.labels, before)
    draw(hands, Box((0, 0, 0), (20, 40, 12)), 0, 10)
    assert hands.labels.any() and "Undo brings back what was there" in hands.message


# ---- while it runs -----------------------------------------------------------------------------------------------


class Gate:
    """Holds a model up at its second window."""

    def __init__(self, model, monkeypatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.windows = 0
        self._decode = model.decode
        monkeypatch.setattr(model, "decode", self._slow)

    def _slow(self, *arguments):
        self.windows += 1
        if self.windows == 2:
            self.reached.set()
            assert self.open.wait(10)
        return self._decode(*arguments)


def begin(hands, gate: Gate) -> None:
    hands.panel.closer.part.set_key("object")
    hands.press(hands.panel.closer.button)
    hands.qtbot.waitUntil(gate.reached.is_set)


def test_windows_are_counted_and_cancel_leaves_everything_as_it_was(hands, scene, backend, monkeypatch):
    before = hands.labels.copy()
    gate = Gate(backend._models["pixelated"], monkeypatch)
    begin(hands, gate)
    hands.qtbot.waitUntil(lambda: "Looking closer, window 2 of" in hands.message)
    assert hands.panel.status.cancel_button.isVisibleTo(hands.panel) and frames(hands)
    hands.press(hands.panel.status.cancel_button)
    gate.open.set()
    hands.settle()
    assert hands.message.startswith("Cancelled") and gate.windows == 2
    np.testing.assert_array_equal(hands.labels, before)
    assert gone(hands)
    hands.press(hands.panel.status.retry_button)
    hands.settle()
    assert gate.windows > 3 and not np.array_equal(hands.labels, before)
    hands.act("undo")
    np.testing.assert_array_equal(hands.labels, before)


def test_undo_while_it_runs(hands, backend, monkeypatch):
    before = hands.labels.copy()
    gate = Gate(backend._models["pixelated"], monkeypatch)
    begin(hands, gate)
    hands.press(hands.panel.actions_["undo"])
    gate.open.set()
    hands.settle()
    np.testing.assert_array_equal(hands.labels, before)
    assert hands.session.history.done[-1].do == "prompt" and gone(hands)
    hands.act("redo")
    assert not np.array_equal(hands.labels, before)


def test_another_image_meanwhile(hands, scene, backend, monkeypatch):
    first, labels = hands.segmentation.image, hands.writer.labels
    before = hands.labels.copy()
    gate = Gate(backend._models["pixelated"], monkeypatch)
    begin(hands, gate)
    hands.viewer.add_image(scene[0][::-1].copy(), name="other")
    chooser = hands.panel.image_section.image
    chooser.setCurrentIndex(chooser.findText("other"))
    chooser.activated.emit(chooser.currentIndex())
    gate.open.set()
    hands.settle()
    assert hands.segmentation.image.name == "other" and not hands.session.objects
    assert not frames(hands) and not hands.panel.status.bar.isVisibleTo(hands.panel)
    np.testing.assert_array_equal(labels.data, before)
    hands.widget.coordinator.choose_image(first)
    hands.settle()
    np.testing.assert_array_equal(hands.labels == 1, before == 1)
    assert hands.session.history.done[-1].do == "refine", "it can be asked again"
    press(hands, "object")
    assert not np.array_equal(hands.labels, before)


def test_a_click_meanwhile_is_answered(hands, scene, backend, monkeypatch):
    gate = Gate(backend._models["pixelated"], monkeypatch)
    begin(hands, gate)
    hands.writer.points.add(middle(scene[2]))
    gate.open.set()
    hands.settle()
    assert hands.labels[middle(scene[2])] == 1 and hands.labels[middle(scene[1])] == 1


# ---- what comes after --------------------------------------------------------------------------------------------


def test_a_click_in_the_part_is_answered_as_closely(hands, scene, backend):
    model = backend._models["pixelated"]
    press(hands, "object")
    fine, region = hands.labels.copy(), hands.session.history.done[-1].region
    model.asked.clear()
    edge = tuple(np.argwhere(scene[1])[0].tolist())
    hands.writer.points.add(edge)
    hands.settle()
    action = hands.session.history.done[-1]
    assert action.do == "prompt" and action.zoom and action.region == region
    assert all(window.grid.shape == window.box.shape for window, _ in model.asked)
    np.testing.assert_array_equal(outside(hands.labels, region), outside(fine, region))
    assert np.count_nonzero((hands.labels == 1) != scene[1]) <= np.count_nonzero((fine == 1) != scene[1])
    assert "score" in hands.message


def test_the_official_network_looks_closer(open_plugin, weights, monkeypatch):
    disc = ball((300, 400), (150, 180), 30)
    grey = 90 + 70 * disc + np.random.default_rng(0).normal(0, 8, disc.shape)
    local = LocalBackend(device="cpu", weights={"litemedsam": weights})
    monkeypatch.setattr("napari_sammed.plugin.coordinator._local_backend", lambda *_: local)
    hands = open_plugin(grey.astype(np.float32), model=None, own_backend=True)
    hands.mode("box")
    hands.writer.boxes.add_rectangles([rectangle_of(Box((115, 145), (186, 216)), None)])
    hands.settle(120)
    before = hands.labels.copy()
    press(hands, "object", 120)
    action = hands.session.history.done[-1]
    assert (action.do, action.model) == ("refine", "litemedsam")
    np.testing.assert_array_equal(outside(hands.labels, action.region), outside(before, action.region))
    found = hands.labels == 1
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.95
    assert "score" in hands.message and "before)" in hands.message
