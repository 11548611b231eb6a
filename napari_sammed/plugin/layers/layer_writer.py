"""The one class that writes napari layers: layers of clicks, strokes, boxes and labels, beside the user's image.

The layers are a view of the session: it writes what the session says, and reports what the user changed in them. It
knows its layers by identity, so they may be renamed; one that the user deletes is made again when it is next needed.
The image layer is only ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.plugin.image.images import by_region
from napari_sammed.plugin.layers.box_layer import BoxLayer
from napari_sammed.plugin.layers.click_layer import ClickLayer
from napari_sammed.plugin.layers.helpers import HelperLayers, keeping_active
from napari_sammed.plugin.layers.label_view import TRANSFORM, LabelView, follow, like
from napari_sammed.plugin.layers.large_labels import LargeLabelView
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.layers.on_slice import OnSlice
from napari_sammed.plugin.layers.prompt_layer import PromptLayer
from napari_sammed.plugin.layers.stroke_layer import StrokeLayer
from napari_sammed.plugin.layers.taking_away import hide_and_take_away
from napari_sammed.plugin.settings.keys import Keyboard
from napari_sammed.prompts import Point, Prompt, Prompts

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Points, Shapes

    from napari_sammed.plugin.image.image_view import ImageView

__all__ = ["LayerWriter", "Mode"]


class LayerWriter:
    """The layers of one image.

    Parameters
    ----------
    viewer : napari viewer
    image : ImageView
        Never written to.
    on_prompts : callable
        Called when the user may have changed prompts; read them with `changes`.
    on_paint : callable
        Called when the user has painted in the labels.
    on_mode : callable
        Called with the new `Mode` when the user chose another tool or layer.
    keys : Keyboard
        Binds keys on each of the layers; a layer's own keys go before the viewer's.

    Attributes
    ----------
    points, boxes, strokes, labels : layer or None
        None until they are needed, and after the user deleted them.
    brush : StrokeLayer
        What `strokes` is painted with.
    labels_due : bool
        A tool has been chosen, and the label layer is to be made with `make_labels`.
    helpers : HelperLayers
        Layers in which other things are shown for a moment.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: ImageView,
        *,
        on_prompts: Callable[[], None],
        on_paint: Callable[[], None],
        on_mode: Callable[[Mode], None],
        keys: Keyboard,
    ) -> None:
        self.viewer = viewer
        self.image = image
        self.labels_due = False
        self._attached = False
        self._prompting = False  # a tool has been chosen
        self._deleted: set[PromptLayer] = set()  # by the user, since a tool was chosen
        self._making = False
        self._on_mode = on_mode
        self._keys = keys
        self.helpers = HelperLayers(viewer, image)
        told = {"on_rows": on_prompts, "on_mode": self._report_mode}
        self._boxes = BoxLayer(viewer, image, **told)
        self.brush = StrokeLayer(viewer, image, **told)
        self._clicks = ClickLayer(viewer, image, **told)
        self._on_slice = OnSlice(viewer, lambda: self.image, lambda: self.mode is Mode.BOX)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._report_mode)
        self._attach(image, on_paint)

    def turn_to(
        self,
        image: ImageView,
        *,
        on_prompts: Callable[[], None],
        on_paint: Callable[[], None],
        on_mode: Callable[[Mode], None],
    ) -> None:
        """Keep the layers for another frame, or after `let_go` for another image; what the user draws is its now."""
        self._on_mode = on_mode
        self.helpers.turn_to(image)
        if self._attached:
            self.image = image
            self._view.turn_to(image, on_paint)
        else:
            self._attach(image, on_paint)
        for kind in self._kinds:
            kind.turn_to(image, on_prompts)

    def let_go(self) -> None:
        """Belong to no image any more, and show no prompts; the labels stay with the user."""
        if not self._attached:
            return
        self._attached = self.labels_due = False
        for name in TRANSFORM:
            getattr(self.image.events, name).disconnect(self._follow_image)
        if self.labels is not None:
            self._keys.release(self.labels)
        self._view.close()
        for kind in self._kinds:
            kind.leave()
            kind.blank()

    def fits(self, image: ImageView) -> bool:
        """Whether another image can have the layers: their dimensions cannot be changed, and nothing may be drawn."""
        return image.ndim == self.image.ndim and not self._unfinished

    def blank(self, box: Box | None) -> None:
        """Show nothing of an image whose objects lie in a box; None if there are none."""
        for kind in self._kinds:
            kind.blank()
        if box is not None and self.labels is not None:
            self._view.blank(box)

    # ---- prompts -------------------------------------------------------------------------------------------------

    @property
    def points(self) -> Points | None:
        """The layer of clicks."""
        return self._clicks.layer

    @property
    def boxes(self) -> Shapes | None:
        """The layer of boxes."""
        return self._boxes.layer

    @property
    def strokes(self) -> Shapes | None:
        """The layer of what brush and eraser have painted."""
        return self.brush.layer

    def flip_selected(self) -> bool:
        """Turn the selected prompts of the active layer into the other kind; whether there are any."""
        active = self.viewer.layers.selection.active
        return any([kind.flip_selected() for kind in self._kinds if kind.layer is not None and kind.layer is active])

    def show_prompts(self, prompts: Prompts) -> bool:
        """Make the prompt layers show an object's prompts; leaves layers alone that do so already.

        At most one layer is made, as that takes a moment: False if there should be more, and the caller comes back.
        """
        if self._unfinished:
            return True  # the end of the drawing reports a change, and everything is shown again then
        kinds = self._kinds if self._prompting else ()
        missing = [k for k in kinds if k.layer is None and k not in self._deleted and k.needed_for(prompts)]
        if missing:
            self._make(missing[-1])
        for kind in self._kinds:
            kind.show(prompts)
        return len(missing) < 2

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
        for kind in () if self._unfinished else self._kinds:
            new, other = kind.changes(span)
            added += new
            altered.update(other)
        return added, altered

    def click_at(self, world: np.ndarray) -> Point | None:
        """The click that a press at a position of the viewer's world would give; None while there is no such layer."""
        return self._clicks.at(world)

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
            self.make_labels()
            box = None
        self._view.show(Box.of_shape(self.labels.data.shape) if box is None else box, part)
        if box is None:
            self._view.finish()

    def make_labels(self) -> None:
        """Add the label layer, with nothing in it, below the prompts, which must stay clickable and visible."""
        self.labels_due = False
        self._add(self._view.make, [kind.layer for kind in self._kinds])

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
        kinds = (kind for kind in self._kinds if kind.layer is not None and kind.layer is active)
        return next((kind.mode for kind in kinds), Mode.NAVIGATE)

    def set_mode(self, mode: Mode) -> None:
        """Choose the tool; makes its layer. The labels are due then: the first of a viewer take half a second."""
        if mode is Mode.NAVIGATE:
            for kind in self._kinds:
                kind.leave()
        else:
            self._prompting = True
            self._deleted.clear()
            self.labels_due = self.labels is None
            brushing = mode in (Mode.BRUSH, Mode.ERASER)
            kind = self._boxes if mode is Mode.BOX else self.brush if brushing else self._clicks
            if kind.layer is None:
                self._make(kind)
            self.viewer.layers.selection.active = kind.layer
            kind.enter(mode)
        self._report_mode()

    @property
    def own(self) -> list[Layer]:
        """All layers of it that are in the viewer, the labels last."""
        return [layer for layer in self._own() if layer is not self.labels and layer in self.viewer.layers] + [
            layer for layer in (self.labels,) if layer is not None and layer in self.viewer.layers
        ]

    def close(self) -> None:
        """Let go of the layers: those of prompts, and helpers, are taken away soon; the labels stay with the user."""
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.layers.selection.events.active.disconnect(self._report_mode)
        self.let_go()
        prompts = self._own()
        for layer in prompts:
            self._keys.release(layer)
        self._on_slice.close()
        going = [*prompts, *self.helpers.close()]
        for kind in self._kinds:
            kind.forget()
        hide_and_take_away(self.viewer, going)

    # ---- inside --------------------------------------------------------------------------------------------------

    @property
    def _kinds(self) -> tuple[PromptLayer, ...]:
        """The layers of prompts, the topmost last."""
        return self.brush, self._boxes, self._clicks

    @property
    def _unfinished(self) -> bool:
        return any(kind.unfinished for kind in self._kinds)

    def _own(self) -> list[Layer]:
        layers = (self.labels, *(kind.layer for kind in self._kinds))
        return [layer for layer in layers if layer is not None]

    def _attach(self, image: ImageView, on_paint: Callable[[], None]) -> None:
        self.image = image
        self._view = (LargeLabelView if by_region(image) else LabelView)(self.viewer, image, on_paint)
        for name in TRANSFORM:
            getattr(image.events, name).connect(self._follow_image)
        for kind in self._kinds:
            kind.move_to(image)
        self._deleted.clear()
        self._prompting = any(kind.layer is not None for kind in self._kinds)
        self._attached = True

    def _make(self, kind: PromptLayer) -> None:
        self._add(kind.make, [other.layer for other in self._kinds[self._kinds.index(kind) + 1 :]])

    def _add(self, make: Callable[[int], Layer], above: Sequence[Layer | None]) -> None:
        """Add a layer below others, and keep the one active that is."""
        layers = self.viewer.layers
        at = min((layers.index(layer) for layer in above if layer is not None), default=len(layers))
        self._making = True
        try:
            with keeping_active(self.viewer):
                layer = make(at)
        finally:
            self._making = False
        self._keys.bind(layer)

    # ---- what napari tells ---------------------------------------------------------------------------------------

    def _report_mode(self, event: Any = None) -> None:
        if not self.helpers.making and not self._making:  # else another layer is active for a moment only
            self._on_slice.align()
            self._on_mode(self.mode)

    def _follow_image(self, event: Any = None) -> None:
        if self.labels is not None:
            follow(self.labels, like(self.image))
        for kind in self._kinds:
            kind.follow_image()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.labels:
            self._view.forget()
        for kind in self._kinds:
            if event.value is kind.layer:
                kind.forget()
                self._deleted.add(kind)
        self._report_mode()
