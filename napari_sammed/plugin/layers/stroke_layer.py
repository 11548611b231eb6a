"""The layer of strokes that brush and eraser have painted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_sammed.plugin.image.coordinates import between, displayed_axes, hidden_axis, seen_index
from napari_sammed.plugin.image.images import spatial_shape
from napari_sammed.plugin.layers.freehand import Freehand, simplified
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.layers.prompt_layer import PromptLayer
from napari_sammed.plugin.layers.prompt_looks import shapes_can_be_added, style_next_stroke, write_strokes
from napari_sammed.plugin.layers.prompt_rows import NEW, SKETCH, THIN, Rows, numbers_from, stroke_rows
from napari_sammed.plugin.views.brush import LARGEST, SMALLEST, USUAL
from napari_sammed.prompts import Prompt, Prompts, Stroke

_STEP = 1.2  # of the size, at a turn of the wheel


class StrokeLayer(PromptLayer):
    """A Shapes layer: a path as wide as the brush for each stroke, a disc for a dab; ``positive`` says which kind.

    While the left button is down, napari's own tool for paths sketches a stroke, which ends when the button goes up.
    What counts is the way of the mouse, of which napari keeps a vertex every few pixels only.

    Attributes
    ----------
    size : float
        Diameter of the brush in voxels.
    on_size : callable
        Told of the new size when wheel or keys have changed it.
    """

    title = "strokes"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.size: float = USUAL
        self.on_size: Callable[[float], None] = lambda _: None
        self._positive = True
        self._painted: list[Stroke] = []  # by the user, and not shown yet as the session has them
        self._freehand = Freehand(self._on_drawn, self._on_drawing)
        self._quiet = False  # we change the layer's mode for a moment

    @property
    def mode(self) -> Mode:
        if str(self.layer.mode) != "add_path":
            return Mode.NAVIGATE
        return Mode.BRUSH if self._positive else Mode.ERASER

    def enter(self, mode: Mode) -> None:
        self._positive = mode is Mode.BRUSH
        self.layer.mode = "add_path"
        self._get_ready()

    def set_size(self, size: float) -> None:
        """Make the brush so wide, in voxels; sizes beyond the smallest and the largest mean those."""
        if self.unfinished:
            return
        self.size = min(max(round(size), SMALLEST), LARGEST)
        if self.layer is not None and self.mode is not Mode.NAVIGATE:
            self._get_ready()
        self.on_size(self.size)

    def flip_selected(self) -> bool:
        """Turn the selected strokes into the other kind; whether there are any."""
        return self._flip(sorted(self.layer.selected_data))

    def show(self, prompts: Prompts) -> None:
        super().show(prompts)
        self._painted.clear()

    def changes(self, span: tuple[int, int] | None) -> tuple[list[Prompt], dict[int, Prompt | None]]:
        added, altered = super().changes(span)
        return [*added, *self._painted], altered

    def blank(self) -> None:
        super().blank()
        self._painted.clear()

    def forget(self) -> None:
        super().forget()
        self._painted.clear()

    def _made(self) -> Any:
        from napari.layers import Shapes

        layer = Shapes(
            ndim=self.image.ndim,
            name=f"{self.image.name} {self.title}",
            features={"prompt": np.empty(0, int), "positive": np.empty(0, bool)},
            feature_defaults={"prompt": NEW, "positive": True},
            **self._transform(),
        )
        layer.events.features.connect(self._report_rows)
        layer.events.edge_width.connect(self._report_rows)
        layer.mouse_wheel_callbacks.append(self._on_wheel)
        for key, factor in (("[", 1 / _STEP), ("]", _STEP)):  # as in napari's label layers
            layer.bind_key(key, lambda _, factor=factor: self._grow(factor), overwrite=True)
        return layer

    @property
    def _writable(self) -> bool:
        return shapes_can_be_added(self.layer, self.viewer.dims)

    def _rows(self, prompts: Prompts) -> Rows:
        return stroke_rows(prompts)

    def _seen(self) -> Rows:
        features = self.layer.features
        data, shapes, widths = self.layer.data, self.layer.shape_type, self.layer.edge_width
        numbers = numbers_from(features["prompt"])
        kept = [row for row, number in enumerate(numbers) if number != SKETCH]
        return Rows(
            tuple(numbers[row] for row in kept),
            tuple(np.asarray(data[row]) for row in kept),
            tuple(bool(features["positive"].iloc[row]) for row in kept),
            tuple(0.0 if str(shapes[row]) == "ellipse" else float(widths[row]) for row in kept),
        )

    def _has_sketches(self) -> bool:
        return SKETCH in numbers_from(self.layer.features["prompt"])

    def _write(self, rows: Rows) -> None:
        drawing = self.mode
        write_strokes(self.layer, rows)
        if drawing is not Mode.NAVIGATE:
            self._get_ready()

    def _prompt(self, rows: Rows, row: int, span: tuple[int, int] | None) -> Stroke:
        vertices = between(self.layer, self.image, rows.coordinates[row])
        radius = 0.0 if rows.widths[row] == THIN else rows.widths[row] / 2
        flat = [axis for axis in range(vertices.shape[1]) if np.ptp(vertices[:, axis]) < 0.5]
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        if self.image.ndim == 3 and axis not in flat and flat:
            axis = flat[0]
        if rows.widths[row] == 0:  # a disc, by its corners
            plane = [other for other in range(vertices.shape[1]) if other != axis]
            radius = float(np.ptp(vertices[:, plane], axis=0).mean()) / 2
            vertices = vertices.mean(axis=0, keepdims=True)
        points = tuple(map(tuple, vertices.tolist()))
        return Stroke(points, rows.positive[row], radius, axis if radius else None)

    # ---- drawing -------------------------------------------------------------------------------------------------

    def _get_ready(self) -> None:
        """The next stroke looks as it will count, the cursor is as large as the brush, and the way is followed."""
        with self._own_writing():
            style_next_stroke(self.layer, self._positive, self.size)
        self._freehand.follow(self.layer)
        scale = np.abs([self.layer.scale[axis] for axis in displayed_axes(self.viewer.dims, self.image.ndim)])
        self.layer.cursor_size = float(self.size * scale.min())
        self.layer.cursor = "circle"

    def _on_drawing(self) -> None:
        self.unfinished = True

    def _on_drawn(self, way: np.ndarray) -> None:
        """The button is up: napari's sketch is over, and what was drawn is a stroke."""
        shown = displayed_axes(self.viewer.dims, self.image.ndim)
        places = seen_index(self.image, way, shown)
        inside = ((places >= -0.5) & (places < np.subtract(spatial_shape(self.image), 0.5))).all(axis=1)
        if inside.any():  # a stroke may lead out of the image
            points = tuple(map(tuple, simplified(places[inside], list(shown)).tolist()))
            axis = hidden_axis(self.viewer.dims, self.image.ndim)
            self._painted.append(Stroke(points, self._positive, self.size / 2, axis))
        self._quiet = True
        try:  # ends the sketch: after a short way napari would follow the mouse until the next click
            self.layer.mode = "pan_zoom"
            self.layer.mode = "add_path"
        finally:
            self._quiet = False
        self._get_ready()
        self.unfinished = False
        self._on_rows()

    def _grow(self, factor: float) -> None:
        size = round(self.size * factor)
        self.set_size(size if size != self.size else self.size + (1 if factor > 1 else -1))

    def _on_wheel(self, layer: Any, event: Any) -> None:
        if "Shift" not in event.modifiers or self.mode is Mode.NAVIGATE:
            return
        turn = max(event.delta, key=abs)  # some systems turn a wheel with Shift into a sideways one
        if turn:
            self._grow(_STEP if turn > 0 else 1 / _STEP)
        event.handled = True

    # ---- what napari tells ---------------------------------------------------------------------------------------

    def _report_rows(self, event: Any) -> None:
        if not self._freehand.drawing and not self._quiet:
            super()._report_rows(event)

    def _notice_rows(self, event: Any = None) -> None:
        if not self._freehand.drawing and not self._quiet:
            super()._notice_rows(event)

    def _report_mode(self, event: Any = None) -> None:
        if self._quiet:
            return
        if self.mode is not Mode.NAVIGATE:
            self._get_ready()
        else:
            with self._own_writing():
                self.layer.feature_defaults = {"prompt": NEW, "positive": self._positive}
        super()._report_mode(event)
