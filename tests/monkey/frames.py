"""Layers that are a series of images or have channels: their slider, what the axes are, objects taken along."""

from __future__ import annotations

from qtpy.QtWidgets import QApplication

from tests.monkey.acts import act


@act(4)
def turn_to_frame(monkey) -> str | None:
    """Move the slider of the frames, quickly or so that it rests."""
    view, dims = monkey.hands.segmentation.view, monkey.viewer.dims
    if not view.at:
        return None
    first = dims.ndim - view.layer.ndim
    axis = first + monkey.random.randrange(len(view.at))
    steps = [monkey.random.randrange(dims.nsteps[axis]) for _ in range(monkey.random.choice((1, 1, 3)))]
    for step in steps:
        dims.set_current_step(axis, step)
        QApplication.processEvents()
    if monkey.random.random() < 0.6:
        monkey.hands.qtbot.wait(300)
    return f"{steps} along {axis}"


@act(2.5)
def copy_to_next(monkey) -> str | None:
    section = monkey.hands.panel.frames
    if section.isHidden() or not section.copy_button.isEnabled():
        return None
    monkey.hands.press(section.copy_button)
    return section.where.text()


@act(1)
def choose_axes_or_channel(monkey) -> str | None:
    section = monkey.hands.panel.frames
    chooser = monkey.random.choice((section.axes, section.channel))
    if chooser.count() < 2:
        return None
    chooser.setCurrentIndex(monkey.random.randrange(chooser.count()))
    chooser.activated.emit(chooser.currentIndex())
    return chooser.currentText()
