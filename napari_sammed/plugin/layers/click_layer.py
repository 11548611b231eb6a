"""The layer of clicks."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sammed.plugin.image.coordinates import between, hidden_axis
from napari_sammed.plugin.layers.label_view import marks_like
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.layers.prompt_layer import PromptLayer
from napari_sammed.plugin.layers.prompt_looks import style_next, write_points
from napari_sammed.plugin.layers.prompt_rows import NEW, Rows, click_rows, numbers_from
from napari_sammed.prompts import Point, Prompts


class ClickLayer(PromptLayer):
    """A Points layer; the feature ``positive`` says what a click means."""

    title = "clicks"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._positive = True

    @property
    def mode(self) -> Mode:
        if str(self.layer.mode) != "add":
            return Mode.NAVIGATE
        return Mode.POSITIVE if self._positive else Mode.NEGATIVE

    def enter(self, mode: Mode) -> None:
        self._positive = mode is Mode.POSITIVE
        style_next(self.layer, self._positive)
        self.layer.mode = "add"

    def flip_selected(self) -> bool:
        return self._flip(sorted(self.layer.selected_data))

    def _made(self) -> Any:
        from napari.layers import Points

        layer = Points(
            ndim=self.image.ndim,
            name=f"{self.image.name} {self.title}",
            features={"prompt": np.empty(0, int), "positive": np.empty(0, bool)},
            feature_defaults={"prompt": NEW, "positive": self._positive},
            size=8,
            canvas_size_limits=(11, 15),
            **self._transform(),
        )
        style_next(layer, self._positive)
        layer.events.features.connect(self._report_rows)
        return layer

    def _transform(self) -> dict[str, Any]:
        return marks_like(self.image)

    def _rows(self, prompts: Prompts) -> Rows:
        return click_rows(prompts)

    def _seen(self) -> Rows:
        features = self.layer.features
        positive = tuple(bool(v) for v in features["positive"])
        return Rows(numbers_from(features["prompt"]), tuple(self.layer.data), positive)

    def _write(self, rows: Rows) -> None:
        write_points(self.layer, rows, self._positive)

    def _number(self, rows: Rows) -> None:
        super()._number(rows)
        self.layer.selected_data = set()  # napari selects each new click

    def at(self, world: np.ndarray) -> Point | None:
        """The click that a press at a position of the viewer's world would give; None while there is no layer."""
        return None if self.layer is None else self._click(self.layer.world_to_data(world), self._positive)

    def _prompt(self, rows: Rows, row: int, span: tuple[int, int] | None) -> Point:
        return self._click(rows.coordinates[row], rows.positive[row])

    def _click(self, place: np.ndarray, positive: bool) -> Point:
        """In index coordinates of the image, from data coordinates of the layer."""
        index = between(self.layer, self.image, place)[0]
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        if axis is not None:
            index[axis] = np.rint(index[axis])
        return Point(tuple(map(float, index)), positive)
