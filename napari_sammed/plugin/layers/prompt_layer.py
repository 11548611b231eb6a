"""What the layers of clicks, of boxes and of strokes have in common: a view of an object's prompts that users change.

A layer shows prompts as rows (`napari_sammed.plugin.layers.prompt_rows`), and what the user did is the difference
between the rows that were shown and those that are there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sammed.plugin.image.coordinates import between, point_at_seen
from napari_sammed.plugin.layers.label_view import follow, like, place
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.layers.prompt_looks import same_but_numbers, write_numbers
from napari_sammed.plugin.layers.prompt_rows import Rows, difference
from napari_sammed.prompts import Prompt, Prompts

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_sammed.plugin.image.image_view import ImageView


class PromptLayer(ABC):
    """A napari layer that shows an object's prompts of one kind.

    Parameters
    ----------
    viewer : napari viewer
    image : ImageView
        Never written to.
    on_rows : callable
        Called when the user may have changed the rows.
    on_mode : callable
        Called when the layer's own mode has changed.

    Attributes
    ----------
    layer : layer or None
        None until it is needed, and after the user deleted it.
    unfinished : bool
        A shape is being drawn, or rows are being dragged.
    title : str
        Of the layer, after the image's name.
    """

    title: str

    def __init__(
        self, viewer: ViewerModel, image: ImageView, *, on_rows: Callable[[], None], on_mode: Callable[..., None]
    ) -> None:
        self.viewer = viewer
        self.image = image
        self.layer: Any = None
        self.unfinished = False
        self._on_rows = on_rows
        self._on_mode = on_mode
        self._shown = Rows()
        self._writing = False  # our own writing is no wish of the user

    def make(self, at: int) -> Layer:
        """Add the layer, with nothing in it, at a place of the layer list."""
        self.layer = self._made()
        point_at_seen(self.layer, self, self.viewer.dims)
        self.viewer.layers.insert(at, self.layer)
        self._shown = Rows()
        self.layer.events.data.connect(self._report_rows)
        self.layer.events.set_data.connect(self._notice_rows)
        self.layer.events.mode.connect(self._report_mode)
        return self.layer

    def forget(self) -> None:
        """The layer is gone."""
        self.layer = None
        self.unfinished = False

    def turn_to(self, image: ImageView, on_rows: Callable[[], None]) -> None:
        """Belong to another frame of the same layer from now on."""
        self.image, self._on_rows = image, on_rows

    def move_to(self, image: ImageView) -> None:
        """Lie where another image layer does, above it, and be called after it."""
        self.image = image
        layers, layer = self.viewer.layers, self.layer
        if layer is not None:
            layer.name = f"{image.name} {self.title}"
            layer.visible = True
            place(layer, self._transform())
            if layers.index(layer) < layers.index(image.layer):
                layers.move(layers.index(layer), len(layers))

    def needed_for(self, prompts: Prompts) -> bool:
        """Whether there are prompts of this kind."""
        return len(self._rows(prompts)) > 0

    def blank(self) -> None:
        """Show nothing for a moment; what is shown then is no wish of the user to take everything away."""
        if self.layer is not None and not self.unfinished:
            if len(self._seen()):  # writing nothing over nothing takes as long
                with self._own_writing():
                    self._write(Rows())
            self._shown = Rows()

    def show(self, prompts: Prompts) -> None:
        """Show an object's prompts; leaves a layer alone that does so already."""
        if self.layer is None:
            return
        if not self._writable:
            self.blank()
            return
        rows = self._placed(self._rows(prompts))
        with self._own_writing():
            seen = self._seen()
            if same_but_numbers(seen, rows):
                self._number(rows)
            elif self._has_sketches() or difference(self._shown, rows) or difference(seen, rows):
                self._write(rows)
            self._shown = rows

    def changes(self, span: tuple[int, int] | None) -> tuple[list[Prompt], dict[int, Prompt | None]]:
        """What the user did since the prompts were shown; see `LayerWriter.changes`."""
        if self.layer is None:
            return [], {}
        seen = self._seen()
        found = difference(self._shown, seen)
        altered: dict[int, Prompt | None] = {seen.numbers[row]: self._prompt(seen, row, span) for row in found.changed}
        altered.update(dict.fromkeys(found.removed))
        return [self._prompt(seen, row, span) for row in found.added], altered

    def follow_image(self) -> None:
        """Go where the image has been moved."""
        if self.layer is not None:
            follow(self.layer, self._transform())

    def leave(self) -> None:
        """Have a press on the canvas move it, as far as this layer is concerned."""
        if self.layer is not None:
            self.layer.mode = "pan_zoom"

    def flip_selected(self) -> bool:
        """Turn the selected prompts into the other kind; whether there are any that have two kinds."""
        return False

    @property
    @abstractmethod
    def mode(self) -> Mode:
        """What a press on the canvas does while this layer is the active one."""

    @abstractmethod
    def enter(self, mode: Mode) -> None:
        """Have presses on the canvas give prompts of this kind; the layer is there and active."""

    @abstractmethod
    def _made(self) -> Layer:
        """A new, empty layer, not in the viewer yet."""

    @abstractmethod
    def _rows(self, prompts: Prompts) -> Rows:
        """The prompts of this kind, in index coordinates of the image."""

    @abstractmethod
    def _seen(self) -> Rows:
        """What is in the layer, in its data coordinates."""

    @abstractmethod
    def _write(self, rows: Rows) -> None:
        """Make the layer show rows, in its data coordinates."""

    @abstractmethod
    def _prompt(self, rows: Rows, row: int, span: tuple[int, int] | None) -> Prompt:
        """The prompt that a row of the layer means."""

    @property
    def _writable(self) -> bool:
        """Whether napari can add rows now; if not, they are shown when the viewer shows slices again."""
        return True

    def _transform(self) -> dict[str, Any]:
        """The layer's place, as keyword arguments of a napari layer: that of the image."""
        return like(self.image)

    def _number(self, rows: Rows) -> None:
        """Number the rows of the layer, which shows them already."""
        write_numbers(self.layer, rows)

    def _has_sketches(self) -> bool:
        """Whether there are rows that are no prompts."""
        return False

    @contextmanager
    def _own_writing(self) -> Iterator[None]:
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _placed(self, rows: Rows) -> Rows:
        """Rows in index coordinates of the image as data coordinates of the layer."""
        places = tuple(between(self.image, self.layer, c).reshape(c.shape) for c in rows.coordinates)
        return replace(rows, coordinates=places)

    def _flip(self, rows: list[int]) -> bool:
        """Turn rows of a layer with the feature ``positive`` into the other kind; whether there are any."""
        if rows:
            self.layer.features.loc[rows, "positive"] = ~self.layer.features.loc[rows, "positive"].astype(bool)
            self._on_rows()
        return bool(rows)

    def _report_mode(self, event: Any = None) -> None:
        self._on_mode()

    def _report_rows(self, event: Any) -> None:
        self.unfinished = str(getattr(event, "action", "changed")) in ("adding", "changing", "removing")
        if not self._writing and not self.unfinished:
            self._on_rows()

    def _notice_rows(self, event: Any = None) -> None:
        """napari pastes rows without telling of them; it only draws the layer anew."""
        if not self._writing and not self.unfinished and len(self.layer.data) != len(self._shown):
            self._on_rows()
