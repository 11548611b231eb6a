"""The outline of the coming mask under the pointer: where it is, when it goes, and what it never does."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sammed.backend.slicing import slice_of
from napari_sammed.models import registry
from napari_sammed.plugin.features import ahead
from napari_sammed.plugin.features import preview as previewing
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture
def scene():
    return two_balls()


class Pointer:
    """A mouse over the canvas of a real viewer."""

    def __init__(self, hands) -> None:
        self.hands = hands
        self.preview = hands.segmentation._preview

    @property
    def outlines(self):
        return self.preview.outlines

    def over(self, index) -> None:
        """Move to a voxel on the displayed slice."""
        place = self.hands.position(index)
        for step in (QPoint(3, 3), QPoint(0, 0)):
            QTest.mouseMove(self.hands.canvas, place + step)
            self.hands.qtbot.wait(20)  # napari leaves out moves that come within 5 ms

    def rest(self, index) -> None:
        """Move to a voxel, and wait for the ghost."""
        self.hands.look_at(index)
        for _ in range(10):
            self.over(index)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                self.hands.qtbot.wait(50)
                if self.calm() and np.allclose(self.preview._asked.index, index, atol=0.3):
                    return
        raise AssertionError("there is no ghost")

    def calm(self) -> bool:
        """Whether there is a ghost, of the place where the pointer is now."""
        return bool(self.outlines.shown) and self.preview._running is None and not self.preview._timer.isActive()

    def leave(self) -> None:
        QApplication.sendEvent(self.hands.canvas, QEvent(QEvent.Type.Leave))
        self.hands.viewer.window._qt_viewer._leave_canvas()  # what the canvas of a hidden pointer does not tell
        QApplication.processEvents()

    def fill(self, shape) -> np.ndarray:
        """The voxels inside of the ghost."""
        from matplotlib.path import Path

        found = np.zeros(shape, bool)
        for outline in self.outlines.shown:
            index = int(outline.path[0, 0])
            rows, columns = np.mgrid[: shape[1], : shape[2]]
            inside = Path(outline.path[:, 1:]).contains_points(np.stack((rows.ravel(), columns.ravel()), -1))
            found[index] ^= inside.reshape(shape[1:])
        return found


@pytest.fixture
def pointer(open_plugin, scene):
    hands = open_plugin(scene[0].array, show=True, scale=(3, 1, 1))
    return Pointer(hands)


def test_the_ghost_is_the_mask_that_a_click_gives(pointer, scene, sessions):
    _, first, second = scene
    hands = pointer.hands
    hands.mode("positive")
    hands.look_at(middle(first))
    (journal,) = sessions.glob("*.jsonl")
    before = journal.read_bytes()
    pointer.rest(middle(first))
    ghost = pointer.fill(first.shape)
    assert not hands.session.objects and journal.read_bytes() == before
    assert hands.viewer.layers.selection.active is hands.writer.points
    assert hands.panel.modes.buttons["positive"].isChecked()
    z = middle(first)[0]
    np.testing.assert_array_equal(ghost[z], first[z])
    asked = pointer.preview._asked
    hands.click(middle(first))
    assert hands.session.objects[1].prompts.items == (asked,), "the very click that was previewed"
    np.testing.assert_array_equal(hands.labels[z] == 1, ghost[z])
    assert not pointer.outlines.shown, "the mask is there now"

    hands.mode("negative")
    pointer.over(np.add(middle(second), (0, 1, 1)))  # away, and back onto the object
    pointer.rest(middle(second))
    assert not np.array_equal(pointer.fill(first.shape)[z], np.zeros_like(first[z]))


def test_the_ghost_goes_with_the_pointer_and_the_tool(pointer, scene):
    _, first, _ = scene
    hands = pointer.hands
    hands.mode("positive")
    hands.settle()
    pointer.rest(middle(first))
    ghost = pointer.outlines.layer
    assert hands.viewer.layers[-1] is ghost
    pointer.leave()
    assert not pointer.outlines.shown and not len(ghost.data)
    pointer.rest(middle(first))
    hands.mode("box")
    hands.settle()
    assert not ghost.visible and pointer.preview._on_move not in hands.viewer.mouse_move_callbacks
    hands.mode("positive")
    pointer.rest(middle(first))
    hands.viewer.dims.ndisplay = 3
    hands.settle()
    assert not ghost.visible and pointer.outlines.layer is None
    hands.viewer.dims.ndisplay = 2
    hands.mode("positive")
    pointer.rest(middle(first))
    hands.widget.coordinator.close(wait=True)
    assert not ghost.visible
    hands.qtbot.waitUntil(lambda: ghost not in hands.viewer.layers)
    assert not hands.viewer.mouse_move_callbacks


def test_other_slices_get_ghosts_of_their_own(pointer, scene):
    _, first, _ = scene
    hands = pointer.hands
    z, y, x = middle(first)
    hands.mode("positive")
    pointer.rest((z, y, x))
    hands.look_at((z + 1, y, x))
    assert not pointer.outlines.shown
    hands.qtbot.waitUntil(lambda: bool(pointer.outlines.shown), timeout=10000)
    assert {int(outline.path[0, 0]) for outline in pointer.outlines.shown} == {z + 1}
    np.testing.assert_array_equal(pointer.fill(first.shape)[z + 1], first[z + 1])


def test_the_ghost_stays_when_only_displayed_axes_have_other_steps(pointer, scene):
    """As they have when an outline along the border reaches beyond the image."""
    _, first, _ = scene
    pointer.hands.mode("positive")
    pointer.rest(middle(first))
    shown, dims = pointer.outlines.shown, pointer.hands.viewer.dims
    dims.set_current_step(1, dims.current_step[1] + 3)
    assert shown and pointer.outlines.shown is shown and not pointer.preview._timer.isActive()


def test_nothing_is_shown_beside_the_image_or_where_previews_are_off(pointer, scene):
    _, first, _ = scene
    hands = pointer.hands
    hands.mode("positive")
    pointer.rest(middle(first))
    z = middle(first)[0]
    pointer.over((z, -5, 5))
    hands.qtbot.waitUntil(lambda: not pointer.outlines.shown, timeout=5000)
    pointer.rest(middle(first))
    hands.press(hands.panel.preview)
    assert pointer.outlines.layer is None and not hands.viewer.mouse_move_callbacks
    pointer.over(middle(first))
    hands.qtbot.wait(200)
    assert pointer.outlines.layer is None
    hands.press(hands.panel.preview)
    pointer.rest(middle(first))


def test_a_slow_model_is_said_once_and_can_be_insisted_on(pointer, scene, backend, monkeypatch):
    _, first, _ = scene
    hands = pointer.hands
    model = backend._models["thresholder"]
    decode = model.decode

    def slowly(*arguments):
        time.sleep(0.06)
        return decode(*arguments)

    monkeypatch.setattr(model, "decode", slowly)
    monkeypatch.setattr(previewing, "_SLOW", 0.05)
    hands.mode("positive")
    box = hands.panel.preview
    z, y, x = middle(first)

    def wander(until, limit: int = 60) -> None:
        for step in range(limit):
            if until():
                return
            pointer.over((z, y + step % 3, x - step % 2))
            hands.qtbot.wait(180)
        raise AssertionError("wandered in vain")

    hands.look_at((z, y, x))
    wander(lambda: not box.isChecked())
    assert "thresholder needs 0.1 s" in box.note.text() and box.note.isVisible()
    hands.press(box)
    assert box.isChecked() and box.note.isHidden()
    wander(lambda: len(pointer.preview._seconds) == 0 and bool(pointer.outlines.shown))
    assert box.isChecked()


def test_a_slice_is_previewed_as_soon_as_it_is_encoded(open_plugin, scene, backend, monkeypatch):
    _, first, _ = scene
    monkeypatch.setattr(ahead, "_REST", 1_000_000)  # what is encoded, this test says
    hands = open_plugin(scene[0].array, show=True, scale=(3, 1, 1), model="planar")
    model = backend._models["planar"]
    monkeypatch.setattr(model, "card", replace(model.card, weights=registry.card("litemedsam").weights))
    pointer = Pointer(hands)
    hands.mode("positive")
    hands.look_at(middle(first))
    pointer.over(middle(first))
    hands.qtbot.wait(400)
    assert not model.embedded and not pointer.outlines.shown, "a hover encodes nothing"
    z = middle(first)[0]
    backend.prefetch(hands.session.image_id, "planar", [slice_of(hands.session.image.grid, 0, z)], hands.session.window)
    hands.qtbot.waitUntil(lambda: bool(pointer.outlines.shown), timeout=10000)
    np.testing.assert_array_equal(pointer.fill(first.shape)[z], first[z])


def test_each_frame_of_a_series_has_ghosts_of_its_own(open_plugin, scene):
    volume, first, _ = scene
    series = np.stack([volume.array, np.array(volume.array)[:, :, ::-1]])
    hands = open_plugin(series, show=True)
    hands.mode("positive")
    pointer = Pointer(hands)
    for frame, truth in enumerate((first, first[:, :, ::-1])):
        hands.viewer.dims.set_point(0, frame)
        hands.qtbot.waitUntil(lambda frame=frame: hands.segmentation.view.at == (frame,), timeout=10000)
        hands.settle()
        pointer.preview = hands.segmentation._preview
        z, y, x = middle(truth)
        hands.viewer.dims.set_point(1, z)
        for _ in range(20):
            place = pointer_place(hands, (y, x))
            QTest.mouseMove(hands.canvas, place + QPoint(3, 3))
            hands.qtbot.wait(20)
            QTest.mouseMove(hands.canvas, place)
            hands.qtbot.wait(300)
            if pointer.calm():
                break
        np.testing.assert_array_equal(pointer.fill(truth.shape)[z], truth[z])
    assert sum(type(layer).__name__ == "Vectors" for layer in hands.viewer.layers) == 1


def pointer_place(hands, place) -> QPoint:
    """Where on the canvas a pixel of the displayed slice is seen."""
    middle = np.array([hands.canvas.height(), hands.canvas.width()]) / 2
    row, column = (np.array(place) - np.array(hands.camera.center)[-2:]) * hands.camera.zoom + middle
    return QPoint(round(column), round(row))
