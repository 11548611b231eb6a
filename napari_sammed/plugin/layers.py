"""The one class that writes napari layers: a layer of clicks, one of boxes and one of labels, beside the user's image.

The layers are a view of the session: it writes what the session says, and reports what the user changed in them. It
knows its layers by identity, so they may be renamed; one that the user deletes is made again when it is next needed.
The image layer is only ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.plugin.coordinates import between, box_of, displayed_axes, hidden_axis, seen_index, to_world
from napari_sammed.plugin.label_view import TRANSFORM, LabelView, like
from napari_sammed.plugin.prompt_looks import (
    BOX_COLOUR,
    same_but_numbers,
    style_next,
    write_boxes,
    write_numbers,
    write_points,
)
from napari_sammed.plugin.prompt_rows import NEW, Difference, Rows, box_rows, click_rows, difference, numbers_from
from napari_sammed.prompts import Point, Prompt, Prompts

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes


class Mode(StrEnum):
    """What a press on the canvas does."""

    NAVIGATE = "navigate"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    BOX = "box"


class LayerWriter:
    """The layers of one image.

    Parameters
    ----------
    viewer : napari viewer
    image : Image
        Never written to.
    on_prompts : callable
        Called when the user may have changed prompts; read them with `changes`.
    on_paint : callable
        Called when the user has painted in the labels.
    on_mode : callable
        Called with the new `Mode` when the user chose another tool or layer.
    keys : mapping of str to callable
        Key bindings for each of the layers; a layer's own keys go before the viewer's.

    Attributes
    ----------
    points, boxes, labels : layer or None
        None until they are needed, and after the user deleted them.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        *,
        on_prompts: Callable[[], None],
        on_paint: Callable[[], None],
        on_mode: Callable[[Mode], None],
        keys: Mapping[str, Callable[[Any], None]],
    ) -> None:
        self.viewer = viewer
        self.image = image
        self.points: Points | None = None
        self.boxes: Shapes | None = None
        self._view = LabelView(viewer, image, on_paint)
        self._on_prompts = on_prompts
        self._on_mode = on_mode
        self._keys = keys
        self._positive = True
        self._shown = {"points": Rows(), "boxes": Rows()}
        self._writing = False  # our own writing is no wish of the user
        self._unfinished = False  # a shape is being drawn, or rows dragged
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._report_mode)
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._follow_image)

    # ---- prompts -------------------------------------------------------------------------------------------------

    def show_prompts(self, prompts: Prompts) -> None:
        """Make the prompt layers show an object's prompts; leaves layers alone that do so already."""
        if self._unfinished:
            return  # the end of the drawing reports a change, and everything is shown again then
        self._writing = True
        try:
            if self.points is not None:
                rows = self._placed(click_rows(prompts), self.points)
                seen = self._seen_points()
                if same_but_numbers(seen, rows):
                    write_numbers(self.points, rows)
                    self.points.selected_data = set()  # napari selects each new click
                elif not self._shows("points", seen, rows):
                    write_points(self.points, rows, self._positive)
                self._shown["points"] = rows
            if self.boxes is not None:
                axis = hidden_axis(self.viewer.dims, self.image.ndim)
                rows = self._placed(box_rows(prompts, axis), self.boxes)
                seen = self._seen_boxes()
                if same_but_numbers(seen, rows):
                    write_numbers(self.boxes, rows)
                elif not self._shows("boxes", seen, rows):
                    write_boxes(self.boxes, rows)
                self._shown["boxes"] = rows
        finally:
            self._writing = False

    def changes(self, span: tuple[int, int] | None = None) -> tuple[list[Prompt], dict[int, Prompt | None]]:
        """What the user did to the prompts since they were shown.

        Parameters
        ----------
        span : tuple of int, optional
            First and last slice of new boxes across slices.

        Returns
        -------
        added : list of Prompt
            In index coordinates of the image.
        altered : dict of int to Prompt or None
            Number of the shown prompt -> what it should be now, None if it was deleted.
        """
        added: list[Prompt] = []
        altered: dict[int, Prompt | None] = {}
        if self._unfinished:
            return added, altered
        if self.points is not None:
            seen = self._seen_points()
            found = difference(self._shown["points"], seen)
            self._collect(found, seen, added, altered, self._point)
        if self.boxes is not None:
            seen = self._seen_boxes()
            found = difference(self._shown["boxes"], seen)
            self._collect(found, seen, added, altered, lambda rows, row: self._box(rows, row, span))
        return added, altered

    # ---- labels --------------------------------------------------------------------------------------------------

    @property
    def labels(self) -> Labels | None:
        """The label layer."""
        return self._view.layer

    def show_labels(self, box: Box | None, part: Callable[[Box], np.ndarray]) -> None:
        """Bring a part of the label layer up to date, the displayed slice at once and the rest with `finish`.

        Parameters
        ----------
        box : Box or None
            Where something may have changed; None for the whole image, at once. A layer that has to be made is filled
            whole.
        part : callable
            Gives the label image inside a box.
        """
        if self.labels is None:
            self._make_labels()
            box = None
        self._view.show(Box.of_shape(self.labels.data.shape) if box is None else box, part)
        if box is None:
            self._view.finish()

    def finish(self) -> None:
        """Do what can wait until the displayed slice has been painted."""
        self._view.finish()

    def painted_part(self) -> tuple[Box, np.ndarray] | None:
        """The part of the label layer that the user's last stroke can have touched, and its labels."""
        return self._view.painted_part()

    def select_label(self, label: int) -> None:
        """Make the brush paint an object's label."""
        if self.labels is not None and self.labels.selected_label != label:
            self.labels.selected_label = label

    def set_colours(self, colours: Mapping[int, str]) -> None:
        """Show objects in these colours (``#rrggbb``, or "transparent" for those that are hidden)."""
        self._view.set_colours(colours)

    # ---- tools ---------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What a press on the canvas does now."""
        active = self.viewer.layers.selection.active
        if active is not None and active is self.points and str(self.points.mode) == "add":
            return Mode.POSITIVE if self._positive else Mode.NEGATIVE
        if active is not None and active is self.boxes and str(self.boxes.mode) == "add_rectangle":
            return Mode.BOX
        return Mode.NAVIGATE

    def set_mode(self, mode: Mode) -> None:
        """Choose the tool; makes the layers that it needs."""
        if mode is Mode.NAVIGATE:
            for layer in (self.points, self.boxes):
                if layer is not None:
                    layer.mode = "pan_zoom"
        elif mode is Mode.BOX:
            self._make_layers()
            self.viewer.layers.selection.active = self.boxes
            self.boxes.mode = "add_rectangle"
        else:
            self._make_layers()
            self._positive = mode is Mode.POSITIVE
            style_next(self.points, self._positive)
            self.viewer.layers.selection.active = self.points
            self.points.mode = "add"
        self._report_mode()

    def close(self, *, keep_labels: bool = True) -> None:
        """Let go of the layers: the prompt layers are removed, the labels stay with the user."""
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.layers.selection.events.active.disconnect(self._report_mode)
        for name in TRANSFORM:
            getattr(self.image.events, name).disconnect(self._follow_image)
        for layer in self._own():
            for key in self._keys:
                layer.bind_key(key, None)
            if (layer is not self.labels or not keep_labels) and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._view.close()
        self.points = self.boxes = None

    # ---- inside --------------------------------------------------------------------------------------------------

    def _own(self) -> list[Layer]:
        return [layer for layer in (self.labels, self.boxes, self.points) if layer is not None]

    def _make_layers(self) -> None:
        """All of them before the first prompt: the first label layer of a viewer takes a second to make."""
        n = self.image.ndim
        if self.labels is None:
            self._make_labels()
        if self.boxes is None:
            self.boxes = self._added(
                self.viewer.add_shapes(
                    ndim=n,
                    name=f"{self.image.name} boxes",
                    features={"prompt": np.empty(0, int)},
                    feature_defaults={"prompt": NEW},
                    edge_color=BOX_COLOUR,
                    face_color="transparent",
                    edge_width=1,
                    **like(self.image),
                )
            )
            self.boxes.events.data.connect(self._on_rows)
            self.boxes.events.mode.connect(self._report_mode)
            self._shown["boxes"] = Rows()
        if self.points is None:
            self.points = self._added(
                self.viewer.add_points(
                    ndim=n,
                    name=f"{self.image.name} clicks",
                    features={"prompt": np.empty(0, int), "positive": np.empty(0, bool)},
                    feature_defaults={"prompt": NEW, "positive": self._positive},
                    size=8,
                    canvas_size_limits=(11, 15),
                    **like(self.image),
                )
            )
            style_next(self.points, self._positive)
            for event in (self.points.events.data, self.points.events.features):
                event.connect(self._on_rows)
            self.points.events.mode.connect(self._report_mode)
            self._shown["points"] = Rows()

    def _make_labels(self) -> None:
        active = self.viewer.layers.selection.active
        self._added(self._view.make())
        prompts = [layer for layer in (self.boxes, self.points) if layer is not None]
        if prompts:  # below the prompts, which must stay clickable and visible
            self.viewer.layers.move(
                self.viewer.layers.index(self.labels), min(self.viewer.layers.index(layer) for layer in prompts)
            )
        if active is not None:
            self.viewer.layers.selection.active = active

    def _added(self, layer: Any) -> Any:
        for key, function in self._keys.items():
            layer.bind_key(key, function, overwrite=True)
        return layer

    def _placed(self, rows: Rows, layer: Layer) -> Rows:
        """Rows in index coordinates of the image as data coordinates of a prompt layer."""
        places = tuple(between(self.image, layer, c).reshape(c.shape) for c in rows.coordinates)
        return Rows(rows.numbers, places, rows.positive)

    def _seen_points(self) -> Rows:
        features = self.points.features
        positive = tuple(bool(v) for v in features["positive"])
        return Rows(numbers_from(features["prompt"]), tuple(self.points.data), positive)

    def _seen_boxes(self) -> Rows:
        data = tuple(np.asarray(vertices) for vertices in self.boxes.data)
        return Rows(numbers_from(self.boxes.features["prompt"]), data, (True,) * len(data))

    def _shows(self, kind: str, seen: Rows, rows: Rows) -> bool:
        """Whether rows are in a layer already, and in the colours that we gave them."""
        return not difference(self._shown[kind], rows) and not difference(seen, rows)

    def _collect(
        self,
        found: Difference,
        seen: Rows,
        added: list[Prompt],
        altered: dict[int, Prompt | None],
        prompt_of: Callable[[Rows, int], Prompt],
    ) -> None:
        added += [prompt_of(seen, row) for row in found.added]
        altered.update({seen.numbers[row]: prompt_of(seen, row) for row in found.changed})
        altered.update(dict.fromkeys(found.removed))

    def _point(self, rows: Rows, row: int) -> Point:
        shown = displayed_axes(self.viewer.dims, self.image.ndim)
        index = seen_index(self.image, to_world(self.points, rows.coordinates[row]), shown)[0]
        return Point(tuple(map(float, index)), rows.positive[row])

    def _box(self, rows: Rows, row: int, span: tuple[int, int] | None) -> Box:
        vertices = between(self.boxes, self.image, rows.coordinates[row])
        flat = [a for a in range(vertices.shape[1]) if np.ptp(vertices[:, a]) < 0.5]
        axis = hidden_axis(self.viewer.dims, self.image.ndim)
        if self.image.ndim == 3 and axis not in flat and flat:
            axis = flat[0]
        return box_of(vertices, axis, span)

    # ---- what napari tells ---------------------------------------------------------------------------------------

    def _on_rows(self, event: Any) -> None:
        action = str(getattr(event, "action", "changed"))
        self._unfinished = action in ("adding", "changing", "removing")
        if not self._writing and not self._unfinished:
            self._on_prompts()

    def _report_mode(self, event: Any = None) -> None:
        self._on_mode(self.mode)

    def _follow_image(self, event: Any = None) -> None:
        for layer in self._own():
            for name in TRANSFORM:
                setattr(layer, name, getattr(self.image, name))

    def _on_removed(self, event: Any) -> None:
        if event.value is self.labels:
            self._view.forget()
        for name in ("points", "boxes"):
            if event.value is getattr(self, name):
                setattr(self, name, None)
                self._unfinished = False
        self._report_mode()
