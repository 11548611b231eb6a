"""What a model without prompts found: a label layer in the colours of the classes, and a legend beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_sammed import messages
from napari_sammed.plugin.image.images import spatial_shape
from napari_sammed.plugin.layers.helpers import keeping_active
from napari_sammed.plugin.layers.label_view import like
from napari_sammed.plugin.views.classes import ClassRow

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

    from napari_sammed.backend.base import ClassMap
    from napari_sammed.plugin.desk import Desk
    from napari_sammed.session import Session

COLOURS = (
    "#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4",
    "#469990", "#dcbeff", "#9a6324", "#fffac8", "#800000", "#aaffc3", "#808000", "#ffd8b1", "#000075", "#a9a9a9",
)  # fmt: skip
"""Of classes 1, 2, ..., over and over: the same class always has the same colour."""

_LEFT_KEY = "sammed_classes"  # in the metadata of a map that was left: numbers of layers, hash of the image; the map


class ClassView:
    """The class map of one image layer, as the viewer and the panel show it.

    Parameters
    ----------
    desk : Desk

    Attributes
    ----------
    found : ClassMap or None
        The latest one.
    layer : Labels or None
        It stays with the user.
    """

    def __init__(self, desk: Desk) -> None:
        self.viewer = desk.viewer
        self.image = desk.image
        self.found: ClassMap | None = None
        self.layer: Labels | None = None
        self._desk = desk
        self._section = desk.panel.classes
        self._sizes: dict[str, int] = {}
        self._taken: frozenset[str] | None = None
        self._hash = ""  # of the image, once its session is open
        self._section.set_classes(())

    def ask(self, session: Session) -> None:
        """Have the chosen model label the whole image."""
        found = session.automatic(self._section.model.key, progress=self._desk.answers.progress)
        self._desk.answers.expect(found, lambda classes: self._on_found(classes, session))

    def take(self, session: Session, name: str) -> None:
        """Make one of the classes that were found an object.

        Raises
        ------
        InputError
            If nothing of it was found.
        """
        if self.found is not None:
            session.take_over(self.found, name)
            self._desk.say(f"{name[:1].upper()}{name[1:]} is an object now: correct it with clicks.")

    def show(self, found: ClassMap, session: Session) -> None:
        """Show what was found in a layer of its own, below all others but the image."""
        self._use(found)
        labels = np.zeros(spatial_shape(self.image), np.uint8)
        labels[found.box.slices] = found.labels
        title = session.backend.card(found.model).title
        layers = self.viewer.layers
        if self.layer is not None and self.layer in layers:
            self.layer.data = labels
            self.layer.name = f"{self.image.title} {title}"
        else:
            from napari.layers import Labels

            self.layer = Labels(labels, name=f"{self.image.title} {title}", opacity=0.4, **like(self.image))
        self.layer.features = pd.DataFrame(  # napari names the class under the pointer
            {"index": range(len(found.classes) + 1), "class": ["background", *found.classes]}
        )
        self.refresh(session)
        if self.layer not in layers:  # with its colours, as others would be drawn first
            with keeping_active(self.viewer):
                layers.insert(layers.index(self.image.layer) + 1, self.layer)

    def refresh(self, session: Session) -> None:
        """Show which classes are objects by now: those have colours of their own, so the map leaves them out."""
        if not self._hash:
            self._hash = session.image.hash
            self._come_back()
        if self.found is None:
            return
        taken = _taken(session) & frozenset(self.found.classes)
        if taken == self._taken:
            return
        self._taken = taken
        if self.layer is not None:
            self.layer.colormap = _colormap(self.found.classes, taken)
        rows = [
            ClassRow(name, messages.size(self._sizes[name], session.image.grid), _rgba(number), name in taken)
            for number, name in enumerate(self.found.classes)
        ]
        self._section.set_classes(rows)

    def close(self) -> None:
        """Leave the layer to the user; hidden if it is of one frame, as it would lie over the others too."""
        self._section.set_classes(())
        if self.layer is not None:
            self.layer.metadata[_LEFT_KEY] = self._numbers(self.layer), self.found
            if self.image.at:
                self.layer.visible = False

    def _come_back(self) -> None:
        """Go on with the map of this image that was left, if it is still there."""
        for layer in self.viewer.layers:
            numbers, found = layer.metadata.get(_LEFT_KEY, (None, None))
            if numbers == self._numbers(layer):
                del layer.metadata[_LEFT_KEY]
                self.layer, layer.visible = layer, True
                self._use(found)

    def _numbers(self, layer: Layer) -> tuple[Any, ...]:
        """By which a map is known again, and no copy of it."""
        return self.image.layer.unique_id, self._hash, layer.unique_id

    def _use(self, found: ClassMap) -> None:
        self.found = found
        self._sizes = found.counts
        self._taken = None

    def _on_found(self, found: ClassMap, session: Session) -> None:
        self.show(found, session)
        self._desk.say(messages.classified(found, session.backend.card(found.model).title), " ".join(found.notes))


def _taken(session: Session) -> frozenset[str]:
    """Names under which masks were taken over into objects that are still there."""
    objects = session.objects
    return frozenset(a.name for a in session.history.done if a.do == "take" and a.label in objects)


def _rgba(number: int) -> tuple[float, float, float, float]:
    from napari.utils.colormaps.standardize_color import transform_color

    return tuple(float(v) for v in transform_color(COLOURS[number % len(COLOURS)])[0])


def _colormap(classes: tuple[str, ...], hidden: frozenset[str]) -> object:
    from napari.utils import DirectLabelColormap

    colours = {i + 1: "transparent" if name in hidden else _rgba(i) for i, name in enumerate(classes)}
    return DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **colours})
