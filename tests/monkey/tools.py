"""The brush for strokes, the preview, the slices of a propagation, and the parts of the panel."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from tests.monkey.acts import act


@act(5)
def brush(monkey) -> str | None:
    """A stroke that the model goes on from, or a dab."""
    hands = monkey.hands
    if monkey.in_3d:
        return None
    mode = monkey.random.choice(("brush", "brush", "eraser"))
    hands.mode(mode)
    hands.panel.brush.size_.setValue(monkey.random.choice((1, 3, 8)))
    places = [np.array(hands.here(), float)]
    for _ in range(monkey.random.choice((0, 3, 8))):
        place = places[-1].copy()
        place[hands.axes] += [monkey.random.uniform(-5, 5) for _ in hands.axes]
        places.append(place)
    hands.stroke(places)
    return f"{mode}, {len(places)} places from {places[0].tolist()}"


@act(3)
def hover(monkey) -> str | None:
    """Moves the pointer over the image, so that the coming mask is shown."""
    hands = monkey.hands
    if monkey.in_3d:
        return None
    hands.mode(monkey.random.choice(("positive", "negative")))
    for _ in range(monkey.random.randint(1, 4)):
        QTest.mouseMove(hands.canvas, hands.position(hands.here()))
        hands.qtbot.wait(monkey.random.choice((20, 150, 400)))
    return "over the image"


@act(0.5)
def switch_preview(monkey) -> str:
    monkey.hands.panel.preview.click()
    return f"{monkey.hands.panel.preview.isChecked()}"


@act(2)
def propagate_part(monkey) -> str | None:
    menu = monkey.hands.panel.propagate_menu
    if not menu.isEnabled():
        return None
    part = monkey.random.choice(list(menu.choices))
    menu.choices[part].trigger()
    return part


@act(3)
def go_where_it_is_needed(monkey) -> str:
    name = monkey.random.choice(list(monkey.hands.panel.cockpit.buttons))
    monkey.hands.press(monkey.hands.panel.cockpit.buttons[name])
    return name


@act(2)
def drag_along_slices(monkey) -> str | None:
    strip = monkey.hands.panel.cockpit.strip
    if not strip.isVisible() or strip.width() < 50:
        return None
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    places = [QPoint(monkey.random.randrange(strip.width()), strip.height() // 2) for _ in range(3)]
    QTest.mousePress(strip, left, none, places[0])
    for place in places[1:]:
        QTest.mouseMove(strip, place)
        QApplication.processEvents()
    QTest.mouseRelease(strip, left, none, places[-1])
    return f"{len(places)} places"


@act(0.7)
def open_and_close_sections(monkey) -> str:
    sections = monkey.hands.panel.sections
    key = monkey.random.choice(list(sections))
    sections[key].set_open(not sections[key].is_open)
    return f"{key} {sections[key].is_open}"
