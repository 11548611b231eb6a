"""The lines of boxes, which are as thin on the screen at any zoom."""

from __future__ import annotations

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import rectangle_of
from tests.phantoms import ball


def pixels(hands, scale: float) -> list[float]:
    """Widths of the lines on the canvas, the next one's last."""
    boxes = hands.writer.boxes
    return [width * scale * hands.camera.zoom for width in (*boxes.edge_width, boxes.current_edge_width)]


def test_lines_are_as_wide_at_any_zoom_and_on_the_next_image(open_plugin) -> None:
    scan = np.where(ball((200, 200), (60, 60), 30), 100, 0).astype(np.int16)
    hands = open_plugin(scan, scale=(0.5, 0.5))
    hands.camera.zoom = 0.3
    hands.mode("box")
    hands.writer.boxes.add_rectangles([rectangle_of(Box((30, 30), (90, 90)), None)])
    hands.settle()
    for zoom in (0.02, 0.3, 1, 12):
        hands.camera.zoom = zoom
        widths = pixels(hands, 0.5)
        assert len(widths) == 2 and all(1 < width < 3.5 for width in widths)
    assert len(hands.session.objects[1].prompts) == 1, "a new width is no prompt"

    finer = hands.viewer.add_image(scan[::-1], scale=(0.01, 0.01))
    hands.widget.coordinator.choose_image(finer)
    hands.settle()
    assert all(1 < width < 3.5 for width in pixels(hands, 0.01))
    layer = hands.writer.boxes
    hands.viewer.layers.remove(layer)
    width = layer.current_edge_width
    hands.camera.zoom = 0.001
    assert layer.current_edge_width == width, "nobody looks after it any more"
