"""Slices, axes, 3D display, zoom, layers, images, the dock and the theme."""

from __future__ import annotations

from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from tests.monkey.acts import act


@act(5, session=False)
def scroll(monkey) -> str | None:
    """Through slices, quickly."""
    dims = monkey.viewer.dims
    axes = [axis for axis in dims.not_displayed if dims.nsteps[axis] > 1]
    if not axes:
        return None
    axis = monkey.random.choice(axes)
    steps = monkey.random.choice((1, 3, 10))
    up = monkey.random.random() < 0.5
    for _ in range(steps):
        step = min(max(dims.current_step[axis] + (1 if up else -1), 0), dims.nsteps[axis] - 1)
        dims.set_current_step(axis, step)
        QApplication.processEvents()
    return f"{steps} slices"


@act(3, session=False)
def move_and_zoom(monkey) -> str:
    camera = monkey.hands.camera
    what = monkey.random.choice(("zoom", "pan", "reset", "wheel"))
    if what == "zoom":
        camera.zoom *= monkey.random.uniform(0.6, 1.6)
    elif what == "pan":
        camera.center = tuple(c + monkey.random.uniform(-10, 10) for c in camera.center)
    elif what == "reset" or not 0.2 < camera.zoom < 60:
        monkey.viewer.reset_view()
    else:
        _wheel(monkey.hands.canvas, monkey.random.choice((-120, 120)))
    return what


@act(1, session=False)
def reset_view(monkey) -> str:
    monkey.viewer.reset_view()
    return "whole image"


@act(1.5, session=False)
def roll_axes(monkey) -> str:
    dims = monkey.viewer.dims
    order = list(range(dims.ndim))
    monkey.random.shuffle(order)
    dims.order = tuple(order)
    monkey.viewer.reset_view()
    return f"{order}"


@act(1, session=False)
def display_in_3d(monkey) -> str:
    dims = monkey.viewer.dims
    dims.ndisplay = 3
    monkey.hands.settle()
    if monkey.random.random() < 0.3:
        monkey.hands.press(monkey.hands.panel.modes.buttons["positive"])
    return "on"


@act(4, session=False)
def display_in_2d(monkey) -> str | None:
    if not monkey.in_3d:
        return None
    monkey.viewer.dims.ndisplay = 2
    return "on"


@act(1.5, session=False)
def delete_layer(monkey) -> str | None:
    """One of ours."""
    own = monkey.own_layers()
    if not own:
        return None
    layer = monkey.random.choice(own)
    monkey.viewer.layers.remove(layer)
    return layer.name


@act(1.5, session=False)
def rename_layer(monkey) -> str | None:
    if not len(monkey.viewer.layers):
        return None
    layer = monkey.random.choice(list(monkey.viewer.layers))
    before = layer.name
    layer.name = f"renamed {monkey.random.randrange(100)}"
    return f"{before} to {layer.name}"


@act(1.5, session=False)
def hide_or_reorder_layers(monkey) -> str | None:
    layers = monkey.viewer.layers
    if len(layers) < 2:
        return None
    if monkey.random.random() < 0.5:
        layer = monkey.random.choice(list(layers))
        layer.visible = not layer.visible
        return f"{layer.name} {layer.visible}"
    layers.move(monkey.random.randrange(len(layers)), monkey.random.randrange(len(layers)))
    return "moved"


@act(1.5, session=False)
def choose_layer(monkey) -> str | None:
    layers = list(monkey.viewer.layers)
    if not layers:
        return None
    monkey.viewer.layers.selection.active = monkey.random.choice(layers)
    return monkey.viewer.layers.selection.active.name


@act(2, session=False)
def switch_image(monkey) -> str | None:
    """In the panel's list, as a user does."""
    box = monkey.hands.panel.image_section.image
    if box.count() < 2:
        return None
    box.setCurrentIndex(monkey.random.randrange(box.count()))
    box.activated.emit(box.currentIndex())
    return box.currentText()


@act(0.7, session=False)
def delete_image(monkey) -> str | None:
    images = monkey.images()
    if len(images) < 2:  # napari itself crashes without any
        return None
    layer = monkey.random.choice(images)
    monkey.viewer.layers.remove(layer)
    return layer.name


@act(1, session=False)
def add_image(monkey) -> str | None:
    """One of the images of the round that is not open."""
    return monkey.add_missing_image()


@act(0.5)
def change_transform(monkey) -> str:
    image = monkey.hands.segmentation.image
    image.translate = [t + monkey.random.uniform(-2, 2) for t in image.translate]
    return f"{image.translate.round(1).tolist()}"


@act(0.7, session=False)
def close_and_open_dock(monkey) -> str:
    return monkey.reopen()


@act(0.5, session=False)
def switch_theme(monkey) -> str:
    monkey.viewer.theme = "light" if monkey.viewer.theme == "dark" else "dark"
    return monkey.viewer.theme


@act(2, session=False)
def mode_button(monkey) -> str:
    mode = monkey.random.choice(list(monkey.hands.panel.modes.buttons))
    monkey.hands.press(monkey.hands.panel.modes.buttons[mode])
    return mode


@act(2, session=False)
def wait(monkey) -> str:
    milliseconds = monkey.random.choice((50, 200, 500))
    monkey.hands.qtbot.wait(milliseconds)
    return f"{milliseconds} ms"


def _wheel(canvas, delta: int) -> None:
    middle = QPointF(canvas.width() / 2, canvas.height() / 2)
    event = QWheelEvent(
        middle,
        QPointF(canvas.mapToGlobal(middle.toPoint())),
        QPoint(0, 0),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)
