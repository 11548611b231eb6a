"""The layer of boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.plugin.image.coordinates import between, box_of, hidden_axis
from napari_sammed.plugin.image.in_view import camera_of, canvas_pixel
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.layers.prompt_layer import PromptLayer
from napari_sammed.plugin.layers.prompt_looks import BOX_COLOUR, shapes_can_be_added, write_boxes
from napari_sammed.plugin.layers.prompt_rows import NEW, Rows, box_rows, numbers_from
from napari_sammed.prompts import Prompts

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_sammed.plugin.image.image_view import ImageView


_WIDTH = 2.0  # of the lines, pixels of the canvas
_OFF = 1.5  # times as wide or as narrow as that they may be: each change takes a moment, and the zoom has many steps


class BoxLayer(PromptLayer):
    """A Shapes layer with a rectangle on each slice that a box reaches.

    napari gives lines a width in voxels: in a large image they would be too thin to be seen, and in a small one hide
    what they are around.
    """

    title = "boxes"

    def make(self, at: int) -> Layer:
        layer = super().make(at)
        camera_of(self.viewer).events.zoom.connect(self._follow_zoom)
        return layer

    def forget(self) -> None:
        if self.layer is not None:
            camera_of(self.viewer).events.zoom.disconnect(self._follow_zoom)
        super().forget()

    def move_to(self, image: ImageView) -> None:
        super().move_to(image)
        if self.layer is not None:
            self._follow_zoom()

    @property
    def mode(self) -> Mode:
        return Mode.BOX if str(self.layer.mode) == "add_rectangle" else Mode.NAVIGATE

    def enter(self, mode: Mode) -> None:
        self.layer.mode = "add_rectangle"

    def _made(self) -> Any:
        from napari.layers import Shapes

        return Shapes(
            ndim=self.image.ndim,
            name=f"{self.image.name} {self.title}",
            features={"prompt": np.empty(0, int)},
            feature_defaults={"prompt": NEW},
            edge_color=BOX_COLOUR,
            face_color="transparent",
            edge_width=self._width,
            **self._transform(),
        )

    @property
    def _writable(self) -> bool:
        return shapes_can_be_added(self.layer, self.viewer.dims)

    @property
    def _width(self) -> float:
        return _WIDTH * canvas_pixel(self.viewer, self.image)

    def _follow_zoom(self, event: Any = None) -> None:
        width, shown = self._width, self.layer.current_edge_width
        if not self.unfinished and not width / _OFF < shown < width * _OFF:
            self.layer.edge_width = width
            self.layer.current_edge_width = width  # of those to come; and this has napari draw it

    def _rows(self, prompts: Prompts) -> Rows:
        return box_rows(prompts, hidden_axis(self.viewer.dims, self.image.ndim))

    def _seen(self) -> Rows:
        data = tuple(np.asarray(vertices) for vertices in self.layer.data)
        return Rows(numbers_from(self.layer.features["prompt"]), data, (True,) * len(data))

    def _write(self, rows: Rows) -> None:
        write_boxes(self.layer, rows, self.layer.current_edge_width)

    def _prompt(self, rows: Rows, row: int, span: tuple[int, int] | None) -> Box:
        vertices = between(self.layer, self.image, rows.coordinates[row])
        flat = [a for a in range(vertices.shape[1]) if np.ptp(vertices[:, a]) < 0.5]
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        if self.image.ndim == 3 and axis not in flat and flat:
            axis = flat[0]
        return box_of(vertices, axis, span)
