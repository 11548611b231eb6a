"""Which model and which slice a prompt goes to, where the user leaves it open."""

from __future__ import annotations

from typing import Any

from napari_sammed.backend.base import Backend
from napari_sammed.backend.slicing import extent_of, in_region, slice_region, spans_slices
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.registry import default_for
from napari_sammed.prompts import Prompt, Prompts
from napari_sammed.session.actions import Action
from napari_sammed.session.history import History
from napari_sammed.session.parts import part_for

_MARGIN = 0.25  # of the object's length, on both sides, where nobody says where to look closer
_LEAST_MARGIN = 3  # voxels

AUTO = "auto"
"""As a model's name: let the session choose by image and prompt."""


class Routing:
    """Answers for one image, by what its history says about the object.

    Parameters
    ----------
    grid : Grid
        Of the image.
    backend : Backend
    history : History
    whole : bool
        Whether models look at whole slices and volumes; else at a part around the prompts or in view.

    Attributes
    ----------
    view : Box or None
        The part of the image that the user sees, of a volume on the displayed slice; None if nobody says.
    """

    def __init__(self, grid: Grid, backend: Backend, history: History, whole: bool = True) -> None:
        self.view: Box | None = None
        self._grid = grid
        self._backend = backend
        self._history = history
        self._whole = whole

    def model(self, name: str, prompt: Prompt, label: int | None) -> str:
        """The registry name for a prompt; "auto" stays with the object's last model.

        Raises
        ------
        InputError
            For a model that takes no prompts.
        """
        if name == AUTO:
            last = None if label is None else self._last(label, adopted=True)
            return last.model if last is not None else default_for(self._grid.ndim, prompt)
        card = self._backend.card(name)
        if not card.prompts:
            raise InputError(
                f"{card.title} takes no prompts, it labels a whole image at once: use it with the command auto, or "
                "choose another model."
            )
        return card.name

    def place(self, name: str, prompt: Prompt, axis: int | None, label: int | None) -> dict[str, Any]:
        """Region and zoom of a question: the slice of a 2D model, and the part that is being looked at closer.

        A prompt inside the part that was looked at closer last, with the same model, is answered there as well.
        """
        region = self.region(name, prompt, axis)
        if region is None and self._grid.ndim == 3 and 3 not in self._backend.card(name).dimensions:
            return {"region": None}
        closer = None if label is None else self._looking_at(label, name, prompt)
        if closer is None:
            return {"region": region if self._whole else self.part(name, prompt, region, label)}
        return {"region": closer if region is None else region.intersect(closer), "zoom": True}

    def part(self, name: str, prompt: Prompt, slab: Box | None, label: int | None) -> Box:
        """The part of a large image that a prompt is answered in; see `napari_sammed.session.parts`."""
        limit = slab or self._grid.box
        known = () if label is None else self._history.standing(label).values()
        last = None
        for action in self._history.done:
            if action.label == label and action.asks and not action.zoom and action.do in ("prompt", "replace"):
                inside = action.model == name and action.region is not None
                last = action.region if inside and action.region.intersect(limit) == action.region else last
        return part_for(self._grid, prompt, limit, self.view, known, last)

    def _looking_at(self, label: int, name: str, prompt: Prompt) -> Box | None:
        """The part that an object was looked at closer in, if a prompt lies in it and nothing else came between."""
        for action in reversed(self._history.done):
            if action.label != label or not action.asks:
                continue
            if not action.zoom or action.model != name:
                return None
            if action.do in ("refine", "adopt"):
                extent = extent_of(prompt)
                return action.region if extent.intersect(action.region) == extent else None
        return None

    def around(self, label: int, name: str) -> Box:
        """Where to look closer if nobody says where: around mask and prompts, since a mask may fall short of its box.

        Raises
        ------
        InputError
            If there is neither.
        """
        state = self._history.objects[label]
        positive = [item for item in state.prompts if getattr(item, "positive", True)]
        extent = Prompts((*positive, *([] if state.mask is None else [state.mask]))).extent
        if extent is None:
            raise InputError(f"{state.name} has neither a mask nor a prompt to look closer at: click or draw a box.")
        extent = extent.intersect(self._grid.box) or extent
        margin = [max(round(_MARGIN * size), _LEAST_MARGIN) for size in extent.shape]
        if self._grid.ndim == 3 and 3 not in self._backend.card(name).dimensions:
            margin[self.last_axis(label)] = 0
        return extent.grow(margin).intersect(self._grid.box)

    def region(self, name: str, prompt: Prompt, axis: int | None) -> Box | None:
        """The slice that a 2D model is asked about; None for 3D models, flat images and boxes over several slices."""
        if self._grid.ndim == 2 or 3 in self._backend.card(name).dimensions:
            return None
        region = slice_region(self._grid, prompt, axis)
        across = region.thin_axes[0] if axis is None else axis
        return None if spans_slices(prompt, across) else region

    def planar_model(self, name: str | None, label: int) -> str:
        """A model for walking through slices: the one named, else the object's last one, else the default."""
        if name is not None:
            return name
        last = self._last(label, adopted=True)
        if last is not None and 2 in self._backend.card(last.model).dimensions:
            return last.model
        return default_for(2, self._grid.box)

    def last_axis(self, label: int) -> int:
        """The axis across the slices that the object was prompted on."""
        last = self._last(label)
        if last is not None and last.region is not None and len(last.region.thin_axes) == 1:
            return last.region.thin_axes[0]
        prompt = self._grid.box if last is None or last.prompt is None else last.prompt
        return slice_region(self._grid, prompt).thin_axes[0]

    def again(self, name: str, label: int) -> dict[str, Any]:
        """Where to put an object's standing prompts to any model: where the object was asked about last."""
        asked = [a for a in self._history.done if a.label == label and a.asks and a.do != "propagate"]
        planar = self._grid.ndim == 3 and 3 not in self._backend.card(name).dimensions
        axis = self.last_axis(label) if planar else None
        if asked[-1].zoom:
            part = asked[-1] if planar else next((a for a in reversed(asked) if a.do == "refine"), asked[-1])
            return {"region": part.region, "axis": axis, "zoom": True}
        prompt = list(self._history.standing(label).values())[-1]
        region, before = self.region(name, prompt, axis), asked[-1].region
        if self._whole or (region is None and planar):
            return {"region": region}
        limit = region or self._grid.box
        if before is not None and before.intersect(limit) == before and (planar or not before.thin_axes):
            return {"region": before}
        return {"region": self.part(name, prompt, region, label)}

    def after_removal(self, label: int, target: int) -> dict[str, Any]:
        """Model, window and region to ask again when a prompt goes; empty if no question needs it.

        The latest later question that knew the prompt is asked again, if prompts are left where it looked.
        """
        left = Prompts(tuple(p for t, p in self._history.standing(label).items() if t != target))
        for question in reversed(self._history.stale(target, label)):
            if left if question.region is None else in_region(left, question.region):
                return _same_place(question)
        return {}

    def after_replacement(self, label: int, target: int, prompt: Prompt, axis: int | None) -> dict[str, Any]:
        """Model, window and region to ask when a prompt is replaced by another one."""
        given = self._history.given(target)[-1]
        if axis is None and given.region is not None and given.region.thin_axes:
            axis = given.region.thin_axes[0]
        place = self.place(given.model, prompt, axis, label)
        later = [a for a in self._history.stale(target, label) if a.region == place["region"]]
        last = later[-1] if later else given
        return {"model": last.model, "window": last.window, **place}

    def _last(self, label: int, *, adopted: bool = False) -> Action | None:
        """The object's last question that gave a prompt, or, with `adopted`, put another model's answer in place."""
        asked = [a for a in self._history.done if a.label == label and a.asks]
        kept = [a for a in asked if a.prompt is not None or (adopted and a.do == "adopt")]
        return kept[-1] if kept else None


def _same_place(question: Action) -> dict[str, Any]:
    return {
        "model": question.model,
        "window": question.window,
        "region": question.region,
        "zoom": question.zoom,
        "axis": question.axis,
    }
