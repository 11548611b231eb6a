"""The propagation cockpit in a viewer: the strip, the worst slice, where next, growth, and propagation in parts."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QToolTip

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.slice_quality import assess
from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import current_slice
from napari_sammed.plugin.views.strip import ConfidenceStrip, colour_of
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from tests.plugin.conftest import Hands
from tests.stepping import Stepping
from tests.test_propagating import MIDDLE, SHAPE, column, paint

LEFT, NOTHING = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def model() -> Stepping:
    return Stepping(free=True)


@pytest.fixture
def backend(model):
    backend = LocalBackend(models={"planar": model})
    yield backend
    model.let(10**6)
    backend.shutdown()


@pytest.fixture
def grey() -> np.ndarray:
    return (20 + 80 * column() + np.random.default_rng(0).uniform(-2, 2, SHAPE)).astype(np.float32)


@pytest.fixture
def start(open_plugin, grey):
    """Opens the column and marks slice 12 of it."""

    def start_(**rest) -> Hands:
        hands = open_plugin(grey, model="planar", **rest)
        hands.session.model = "planar"
        hands.session.add(Point((12, *MIDDLE)), axis=0).result(10)
        hands.settle()
        return hands

    return start_


def strip_of(hands: Hands) -> ConfidenceStrip:
    return hands.panel.cockpit.strip


def shown(hands: Hands) -> dict:
    return {one.index: one for one in strip_of(hands).slices}


def assessed(hands: Hands, condition) -> None:
    hands.qtbot.waitUntil(lambda: condition(shown(hands)), timeout=10_000)


def slice_of(hands: Hands) -> int:
    return current_slice(hands.segmentation.view, hands.viewer.dims)


def propagate(hands: Hands, part: str = "") -> None:
    if part:
        hands.panel.propagate_menu.choices[part].trigger()
        hands.settle()
    else:
        hands.act("propagate")


# ---- the strip by itself -------------------------------------------------------------------------------------------


@pytest.fixture
def strip(qtbot) -> ConfidenceStrip:
    strip = ConfidenceStrip()
    qtbot.addWidget(strip)
    strip.resize(300, strip.sizeHint().height())
    mask = np.ones((10, 6, 6), bool)
    mask[6, 3:] = False
    strip.set_slices(20, assess(MaskPrompt(mask, (5, 0, 0)), 0, {8: 0.75}, {5}), 11)
    return strip


def test_every_slice_has_a_place_and_a_sentence(strip):
    places = [strip.place_of(index).x() for index in range(20)]
    assert np.allclose(np.diff(places), places[1] - places[0]) and 0 < places[0] < places[-1] < 300
    assert strip.describe(5) == "Slice 5: marked by you, overlap with its neighbours 1.00"
    assert strip.describe(8) == "Slice 8: score 0.75, overlap with its neighbours 1.00, jump of the area 0.00"
    assert strip.describe(11) == "Slice 11: overlap with its neighbours 0.67, jump of the area 0.50"
    assert strip.describe(14) == "Slice 14: overlap with its neighbours 1.00"
    assert strip.describe(2) == "Slice 2: nothing of the object"


def test_a_tooltip_has_the_figures(strip, qtbot):
    with qtbot.waitExposed(strip):
        strip.show()
    place = strip.place_of(11).toPoint()
    QApplication.sendEvent(strip, QHelpEvent(QEvent.Type.ToolTip, place, strip.mapToGlobal(place)))
    assert "Slice 11: overlap with its neighbours 0.67" in QToolTip.text()


def test_keys_step_through_the_slices(strip, qtbot):
    heard: list[int] = []
    strip.chosen.connect(heard.append)
    strip.chosen.connect(strip.set_current)
    strip.set_current(10)
    keys = ("Right", "Left", "Left", "Home", "End", "PageUp", "PageDown")
    for key in keys:
        QTest.keyClick(strip, getattr(Qt.Key, f"Key_{key}"))
    assert heard == [11, 10, 9, 5, 14, 19, 9]


def test_bars_are_where_the_slices_are_and_show_how_good_they_are(strip):
    picture = strip.grab().toImage()
    scale = picture.width() / strip.width()

    def pixel(index: int, row: int):
        place = strip._row(row)
        return picture.pixelColor(round(strip.place_of(index).x() * scale), round((place.bottom() - 2) * scale))

    def near(colour, other) -> bool:
        return max(abs(colour.red() - other.red()), abs(colour.blue() - other.blue())) < 12

    assert near(pixel(8, 1), colour_of(1.0)) and near(pixel(11, 1), colour_of(2 / 3))
    assert near(pixel(8, 0), colour_of(0.75)), "its score"
    assert not near(pixel(9, 0), colour_of(0.75)), "it has none"
    assert not near(pixel(2, 1), colour_of(1.0)), "nothing of the object is there"
    assert colour_of(0.3).red() > colour_of(0.3).blue() and colour_of(1.0).blue() > colour_of(1.0).red()


def test_more_slices_than_pixels_hide_no_bad_one(strip):
    mask = np.ones((3000, 2, 2), bool)
    mask[1501, 1] = False
    strip.set_slices(3000, assess(MaskPrompt(mask, (0, 0, 0)), 0, {}, ()), None)
    picture = strip.grab().toImage()
    row, scale = strip._row(1), picture.width() / strip.width()
    y = round((row.top() + 2) * scale)  # only bars of more than 0.9 reach up there
    x = round(strip.place_of(1501).x() * scale)
    tall = [picture.pixelColor(x + d, y).blue() > picture.pixelColor(x + d, y).red() + 40 for d in range(-4, 5)]
    assert not all(tall) and tall[0] and tall[-1]


# ---- in a viewer without a window ----------------------------------------------------------------------------------


def test_the_strip_shows_a_propagation(start):
    hands = start()
    assessed(hands, lambda found: set(found) == {12})
    propagate(hands)
    assessed(hands, lambda found: set(found) == set(range(2, 22)))
    found = shown(hands)
    assert found[12].marked and np.isnan(found[12].score) and found[13].score > 0
    hands.act("undo")
    assessed(hands, lambda found: set(found) == {12})


def test_the_strip_follows_axes_objects_and_images(start):
    hands = start()
    propagate(hands)
    assessed(hands, lambda found: len(found) == 20)
    hands.viewer.dims.order = (2, 0, 1)
    assessed(hands, lambda found: set(found) >= set(range(16, 28)))
    assert not any(one.marked or one.score > 0 for one in strip_of(hands).slices), "scores are those of another axis"
    strip_of(hands).chosen.emit(30)
    assert slice_of(hands) == 30 and strip_of(hands)._current == 30
    hands.viewer.dims.order = (0, 1, 2)
    assessed(hands, lambda found: set(found) == set(range(2, 22)))
    hands.press(hands.panel.objects.new_button)
    assessed(hands, lambda found: not found)
    hands.viewer.layers.remove(hands.segmentation.image)
    hands.settle()
    assert strip_of(hands)._count == 0


def test_flipped_and_scaled_images_go_to_the_right_slice(start):
    hands = start(scale=(-3.0, 0.5, 0.5), translate=(40.0, 1.0, 2.0))
    propagate(hands)
    assessed(hands, lambda found: len(found) == 20)
    for index in (3, 17):
        strip_of(hands).chosen.emit(index)
        assert slice_of(hands) == index == strip_of(hands)._current


def test_the_worst_slice_and_the_next(start):
    hands = start()
    hands.press(hands.panel.cockpit.buttons["worst"])
    hands.qtbot.waitUntil(lambda: "no slice to judge" in hands.message, timeout=10_000)
    propagate(hands)
    leak = np.zeros((3, *SHAPE[1:]), bool)
    leak[:, 2:38, 2:8] = True
    leak[0] = leak[2] = column()[5]
    hands.session.edit(leak, Box((4, 0, 0), (7, *SHAPE[1:])))  # not on one slice, so that it marks none
    assessed(hands, lambda found: 5 in found and found[5].quality < 0.1)
    hands.press(hands.panel.cockpit.buttons["worst"])
    assert slice_of(hands) == 5 and strip_of(hands)._worst == 5
    assert hands.message.startswith("The worst slice. Slice 5: overlap with its neighbours 0.")
    hands.press(hands.panel.cockpit.buttons["worst"])
    assert slice_of(hands) in (4, 6) and "Number 2 of" in hands.message
    paint(hands.session, 5)
    assessed(hands, lambda found: 5 in found and found[5].marked)
    hands.press(hands.panel.cockpit.buttons["worst"])
    assert slice_of(hands) != 5, "the user has said what is right there"


def test_where_next_goes_there_with_a_ring_that_ends(start):
    hands = start()
    hands.press(hands.panel.cockpit.buttons["next"])
    hands.settle()
    assert "Nothing about Object 1 stands out" in hands.message
    propagate(hands)
    leak = np.zeros((3, *SHAPE[1:]), bool)
    leak[1, 2:38, 2:8] = True
    leak[0] = leak[2] = column()[5]
    hands.session.edit(leak, Box((4, 0, 0), (7, *SHAPE[1:])))
    hands.settle()
    layers, active = list(hands.viewer.layers), hands.viewer.layers.selection.active
    hands.press(hands.panel.cockpit.buttons["next"])
    hands.settle()
    ring = hands.segmentation.cockpit.ring.layer
    assert slice_of(hands) == 5 and "Slice 5 is the most doubtful" in hands.message
    (place,) = ring.data.astype(int).tolist()
    assert place[0] == 5 and (leak[1][tuple(place[1:])] or column()[5][tuple(place[1:])])
    assert hands.viewer.layers.selection.active is active, "the user's tool stays"
    hands.session.add(Point((5, *MIDDLE)), axis=0).result(10)
    hands.qtbot.waitUntil(lambda: hands.segmentation.cockpit.ring.layer is None, timeout=10_000)
    assert [layer for layer in hands.viewer.layers if layer.visible] == layers
    assert [action.do for action in hands.session.history.done].count("propagate") == 1, "looking is no action"


def test_a_ring_that_the_user_deletes_is_gone(start):
    hands = start()
    ring = hands.segmentation.cockpit.ring
    ring.show((3, 4, 5))
    hands.viewer.layers.remove(ring.layer)
    hands.settle()
    assert ring.layer is None
    ring.show((3, 4, 6))
    assert ring.layer in hands.viewer.layers


def test_the_menu_propagates_parts(start, model):
    hands = start()
    propagate(hands, "up")
    assert hands.labels[13:22].any((1, 2)).all() and not hands.labels[:12].any()
    assert hands.session.history.done[-1].slices == ((13, 24),)
    propagate(hands, "down")
    assert hands.labels[2:22].any((1, 2)).all()
    paint(hands.session, 17)
    hands.settle()
    before = hands.labels.copy()
    propagate(hands)
    np.testing.assert_array_equal(hands.labels[:15], before[:15])
    assert (hands.labels[18:] != before[18:]).any()
    done = len(hands.session.history.done)
    propagate(hands)
    assert "Nothing has changed" in hands.message and len(hands.session.history.done) == done
    propagate(hands, "all")
    assert len(hands.session.history.done) == done + 1 and hands.session.history.done[-1].slices == ()


def slow(model: Stepping) -> None:
    """From now on the model waits to be told."""
    model._turns = type(model._turns)(0)


def test_growth_is_seen_before_the_end_and_can_be_cancelled(start, model, sessions):
    hands = start()
    slow(model)
    hands.panel.actions_["propagate"].click()
    for count in range(1, 6):
        model.let(1)
        hands.qtbot.waitUntil(lambda count=count: hands.labels[12 + count].any(), timeout=10_000)
        assert not hands.labels[13 + count].any() and hands.session.busy
    assessed(hands, lambda found: set(found) == set(range(12, 18)) and found[15].score > 0)
    hands.qtbot.waitUntil(lambda: not hands.panel.status.cancel_button.isHidden(), timeout=10_000)
    hands.panel.status.cancel_button.click()
    model.let(1)
    hands.settle()
    assert [index for index in range(24) if hands.labels[index].any()] == list(range(12, 19))
    assert "7 slices" in hands.message and "it was cancelled" in hands.panel.status.remark.text()
    expected = hands.session.objects[1].mask
    (journal,) = sessions.glob("*.jsonl")
    again = LocalBackend(models={"planar": Stepping(free=True)})
    image = hands.session.image
    assert replay(journal, image, again).objects[1].mask == expected
    again.shutdown()
    model.let(100)
    hands.act("propagate")
    assert hands.labels[2:22].any((1, 2)).all(), "it went on"


def test_undo_of_a_running_propagation_takes_the_growth_away(start, model):
    hands = start()
    slow(model)
    before = hands.labels.copy()
    hands.panel.actions_["propagate"].click()
    model.let(3)
    hands.qtbot.waitUntil(lambda: hands.labels[15].any(), timeout=10_000)
    hands.panel.actions_["undo"].click()
    model.let(1)
    hands.settle()
    np.testing.assert_array_equal(hands.labels, before)
    assert hands.session.history.done[-1].do == "prompt"
    assessed(hands, lambda found: set(found) == {12})


def test_closing_the_image_keeps_what_was_reached(start, model, sessions, backend):
    hands = start()
    slow(model)
    hands.panel.actions_["propagate"].click()
    model.let(3)
    hands.qtbot.waitUntil(lambda: hands.labels[15].any(), timeout=10_000)
    image = hands.session.image
    threading.Timer(0.5, model.let, [1]).start()
    hands.widget.coordinator.close(wait=True)
    (journal,) = sessions.glob("*.jsonl")
    with Session(image, backend, journal=journal) as again:
        assert again.labels()[12:16].any((1, 2)).all()


def test_flat_images_have_no_strip(open_plugin, grey):
    hands = open_plugin(grey[12], model="planar")
    assert strip_of(hands).isHidden() and not hands.panel.cockpit.buttons["worst"].isEnabled()
    cockpit = hands.segmentation.cockpit
    hands.session.model = "planar"
    hands.session.add(Point(MIDDLE)).result(10)
    hands.settle()
    cockpit._ringed = cockpit._state(hands.session)[-1]
    cockpit.ring.show((3, 4))
    cockpit.refresh()
    assert cockpit.ring.layer is not None, "nothing has happened"
    hands.act("undo")
    assert cockpit.ring.layer is None
    assert hands.panel.cockpit.buttons["next"].isEnabled() and not hands.panel.propagate_menu.isEnabled()


# ---- in a window ---------------------------------------------------------------------------------------------------


def test_mouse_and_keys_in_a_window(start):
    hands = start(show=True)
    hands.viewer.window.resize(1300, 900)
    hands.look_at((12, *MIDDLE))
    hands.act("propagate")
    assessed(hands, lambda found: len(found) == 20)
    strip = strip_of(hands)
    QTest.mouseClick(strip, LEFT, NOTHING, strip.place_of(7).toPoint())
    assert slice_of(hands) == 7
    QTest.mousePress(strip, LEFT, NOTHING, strip.place_of(8).toPoint())
    QTest.mouseMove(strip, strip.place_of(15).toPoint())
    QApplication.processEvents()
    QTest.mouseRelease(strip, LEFT, NOTHING, strip.place_of(15).toPoint())
    assert slice_of(hands) == 15
    hands.key(Qt.Key.Key_J)
    assert slice_of(hands) == strip._worst and "The worst slice" in hands.message
    hands.key(Qt.Key.Key_J, Qt.KeyboardModifier.ShiftModifier)
    hands.settle()
    if hands.segmentation.cockpit.ring.layer is not None:
        assert slice_of(hands) == hands.segmentation.cockpit.ring.layer.data[0][0]
    for widget in (strip, *hands.panel.cockpit.buttons.values(), hands.panel.propagate_menu):
        assert widget.toolTip() or widget is strip
        corner = widget.mapTo(hands.panel, QPoint(widget.width(), 0))
        assert corner.x() <= hands.panel.width(), "nothing is cut off"
