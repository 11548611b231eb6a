"""Clicks, boxes, their changes, keys, the brush, and everything that asks a model."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_sammed.geometry import Box
from tests.monkey.acts import act
from tests.monkey.models import NAMES


@act(10)
def click(monkey) -> str:
    hands, mode = monkey.hands, monkey.random.choice(("positive", "positive", "negative"))
    if monkey.random.random() < 0.8:
        hands.mode(mode)
    place = hands.here() if monkey.random.random() < 0.6 else hands.somewhere()
    hands.click(place)
    return f"{hands.writer.mode} at {place}"


@act(3)
def clicks_fast(monkey) -> str:
    """Faster than anything answers."""
    hands = monkey.hands
    hands.mode("positive")
    places = [hands.here() for _ in range(monkey.random.randint(2, 5))]
    for place in places:
        hands.click(place)
    return f"{len(places)} clicks"


@act(5)
def box(monkey) -> str:
    hands = monkey.hands
    hands.mode("box")
    start, stop = list(hands.here(on_structure=0)), list(hands.here(on_structure=0))
    for axis in range(len(start)):
        if axis not in hands.axes:
            stop[axis] = start[axis]
    hands.drag(start, stop)
    return f"{start} to {stop}"


@act(1)
def box_across_slices(monkey) -> str | None:
    hands, slices = monkey.hands, monkey.hands.panel.slices
    if not slices.isVisible():
        return None
    slices.across.setChecked(not slices.across.isChecked())
    if slices.across.isChecked():
        for button in (slices.first_here, slices.last_here):
            hands.look_at(hands.somewhere())
            hands.press(button)
    return f"{slices.span}"


@act(4)
def drag_point(monkey) -> str | None:
    """Moves one of the shown points with napari's own tool."""
    hands = monkey.hands
    points = hands.writer.points
    if points is None or not len(points.data) or monkey.in_3d:
        return None
    hands.viewer.layers.selection.active = points
    points.mode = "select"
    start = np.array(points.data[monkey.random.randrange(len(points.data))])
    stop = start.copy()
    stop[hands.axes] += [monkey.random.uniform(-8, 8) for _ in hands.axes]
    hands.stroke([start, (start + stop) / 2, stop])
    return f"{start.round(1).tolist()} to {stop.round(1).tolist()}"


@act(3)
def delete_prompts(monkey) -> str | None:
    """Selects rows of a prompt layer and presses Delete on the canvas."""
    hands = monkey.hands
    layer = monkey.random.choice([hands.writer.points, hands.writer.boxes])
    if layer is None or not len(layer.data) or monkey.in_3d:
        return None
    hands.viewer.layers.selection.active = layer
    layer.mode = "select"
    count = min(monkey.random.choice((1, 1, 2)), len(layer.data))
    layer.selected_data = set(monkey.random.sample(range(len(layer.data)), count))
    hands.canvas.setFocus()
    hands.key(monkey.random.choice((Qt.Key.Key_Delete, Qt.Key.Key_Backspace)))
    return f"{count} of {layer.name}"


@act(1)
def drag_box(monkey) -> str | None:
    hands = monkey.hands
    boxes = hands.writer.boxes
    if boxes is None or not len(boxes.data) or monkey.in_3d:
        return None
    hands.viewer.layers.selection.active = boxes
    boxes.mode = "select"
    vertices = np.array(boxes.data[monkey.random.randrange(len(boxes.data))])
    start = vertices.mean(0)
    stop = start.copy()
    stop[hands.axes] += [monkey.random.uniform(-6, 6) for _ in hands.axes]
    hands.stroke([start, (start + stop) / 2, stop])
    return f"{start.round(1).tolist()} to {stop.round(1).tolist()}"


@act(1)
def copy_points(monkey) -> str | None:
    """Ctrl+C and Ctrl+V in the layer of clicks; of volumes, napari itself cannot paste."""
    hands = monkey.hands
    points = hands.writer.points
    if points is None or not len(points.data) or monkey.viewer.dims.ndim > 2:
        return None
    hands.viewer.layers.selection.active = points
    points.mode = "select"
    points.selected_data = {monkey.random.randrange(len(points.data))}
    hands.canvas.setFocus()
    hands.key(Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    hands.key(Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    return "1"


@act(5)
def paint(monkey) -> str | None:
    """With napari's brush, eraser or bucket in the label layer."""
    hands = monkey.hands
    labels = hands.writer.labels
    if labels is None or monkey.in_3d:
        return None
    hands.viewer.layers.selection.active = labels
    labels.brush_size = monkey.random.choice((1, 4, 9))
    labels.n_edit_dimensions = monkey.random.choice((2, 2, 2, labels.ndim))
    if monkey.random.random() < 0.2:
        labels.selected_label = monkey.random.randrange(6)
    labels.mode = monkey.random.choice(("paint", "paint", "erase", "fill"))
    start = np.array(hands.here(), float)
    places = [start]
    for _ in range(monkey.random.randint(1, 5)):
        place = places[-1].copy()
        place[hands.axes] += [monkey.random.uniform(-7, 7) for _ in hands.axes]
        places.append(place)
    mode = str(labels.mode)
    hands.stroke(places[:1] if mode == "fill" else places)
    if monkey.random.random() < 0.7:
        labels.mode = "pan_zoom"
    return f"{mode} {labels.selected_label}, {len(places)} places from {start.tolist()}"


@act(8)
def undo_and_redo(monkey) -> str:
    """A run of steps, by button or key."""
    hands = monkey.hands
    steps = [monkey.random.choice(("undo", "undo", "redo")) for _ in range(monkey.random.choice((1, 1, 2, 3, 8)))]
    keys = {"undo": Qt.KeyboardModifier.NoModifier, "redo": Qt.KeyboardModifier.ShiftModifier}
    for step in steps:
        if monkey.random.random() < 0.5:
            hands.press(hands.panel.actions_[step])
        else:
            hands.canvas.setFocus()
            hands.key(Qt.Key.Key_U, keys[step])
    return " ".join(steps)


@act(1)
def control_z_in_labels(monkey) -> str | None:
    hands = monkey.hands
    if hands.writer.labels is None:
        return None
    hands.viewer.layers.selection.active = hands.writer.labels
    hands.canvas.setFocus()
    hands.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    return "once"


@act(2)
def press_keys(monkey) -> str:
    hands = monkey.hands
    keys = [monkey.random.choice("WGNHKQ") for _ in range(monkey.random.randint(1, 3))]
    hands.canvas.setFocus()
    for key in keys:
        shift = Qt.KeyboardModifier.ShiftModifier if key == "H" and monkey.random.random() < 0.5 else None
        hands.key(getattr(Qt.Key, f"Key_{key}"), shift or Qt.KeyboardModifier.NoModifier)
    return " ".join(keys)


@act(3)
def propagate(monkey) -> str:
    hands = monkey.hands
    hands.press(hands.panel.actions_["propagate"])
    if monkey.random.random() < 0.4:
        hands.settle()
        hands.panel.status.cancel_button.click()
        return "and cancel"
    return "to the end"


@act(2)
def cancel(monkey) -> str:
    monkey.hands.panel.status.cancel_button.click()
    return "everything"


@act(1)
def try_again(monkey) -> str:
    monkey.hands.panel.status.retry_button.click()
    return "once"


@act(1)
def clear(monkey) -> str:
    monkey.hands.press(monkey.hands.panel.actions_["clear"])
    return "the object"


@act(3)
def look_closer(monkey) -> str:
    hands = monkey.hands
    part = monkey.random.choice(("object", "view", "drawn"))
    hands.panel.closer.part.set_key(part)
    hands.press(hands.panel.closer.button)
    QApplication.processEvents()
    if part == "drawn" and not monkey.in_3d:
        if monkey.random.random() < 0.2:
            hands.key(Qt.Key.Key_Escape)
            return "drawn, and left"
        start, stop = list(hands.here(on_structure=0)), list(hands.here(on_structure=0))
        hands.drag(start, [b if axis in hands.axes else a for axis, (a, b) in enumerate(zip(start, stop, strict=True))])
    return part


@act(3)
def readings(monkey) -> str | None:
    bar = monkey.hands.panel.readings
    if not bar.isVisible():
        return None
    for _ in range(monkey.random.randint(1, 3)):
        monkey.hands.press(monkey.random.choice((bar.back, bar.forth)))
    return bar.text.text()


@act(2)
def segment_everything(monkey) -> str:
    hands, section = monkey.hands, monkey.hands.panel.classes
    section.opener.setChecked(True)
    section.start_button.click()
    if monkey.random.random() < 0.3:
        hands.settle()
        hands.panel.status.cancel_button.click()
        return "and cancel"
    return "all"


@act(2)
def take_class(monkey) -> str | None:
    section = monkey.hands.panel.classes
    if section.table.isHidden() or not section.table.rowCount():
        return None
    section.table.selectRow(monkey.random.randrange(section.table.rowCount()))
    section.take_button.click()
    return section.selected


@act(3)
def switch_model(monkey) -> str:
    chooser = monkey.hands.panel.image_section.model
    chooser.box.set_key(monkey.random.choice(NAMES))
    chooser.box.activated.emit(chooser.box.currentIndex())
    return chooser.key


@act(1)
def switch_grey_values(monkey) -> str:
    section = monkey.hands.panel.image_section.window_
    section.box.setCurrentIndex(monkey.random.randrange(section.box.count()))
    section.box.activated.emit(section.box.currentIndex())
    return section.key


@act(0.5)
def bad_prompt(monkey) -> str | None:
    """A click far outside of the image, and a box of no size."""
    hands = monkey.hands
    if hands.writer.points is None or monkey.in_3d:
        return None
    outside = np.array(hands.session.image.grid.shape) + 50.0
    hands.writer.points.add(outside)
    hands.settle()
    return f"{Box.of_shape((1,)).shape} beyond {outside.tolist()}"
