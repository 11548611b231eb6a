"""Which image of a layer is segmented: what the user says its axes are, and where the sliders of the viewer are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sammed.plugin.image.axes import COLOUR, SLIDER, Axes, channel_names, choices, steps_of
from napari_sammed.plugin.image.images import spatial_shape
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.views.frames import FrameSection

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sammed.plugin.image.image_view import ImageView

_REST = 200  # ms that a slider stays before the frame is segmented, so that leafing through a series is smooth


@dataclass
class _Chosen:
    """What the user chose for a layer."""

    axes: str = ""
    channel: str = SLIDER


class Frames:
    """Follows the sliders of the viewer through the frames of a layer. All of it belongs to the GUI thread.

    Parameters
    ----------
    viewer : napari viewer
    section : FrameSection
    on_leave : callable
        Called when the viewer begins to show another image of the layer than the one that is segmented.
    on_back : callable
        Called when it shows that one again, without having rested on another.
    on_turn : callable
        Called with the frame that is to be segmented from now on.
    on_axes : callable
        Called with the layer when the user has said what its axes are; asks for the image with `of`.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        section: FrameSection,
        *,
        on_leave: Callable[[], None],
        on_back: Callable[[], None],
        on_turn: Callable[[ImageView], None],
        on_axes: Callable[[Image], None],
    ) -> None:
        self.viewer = viewer
        self.view: ImageView | None = None
        self._section = section
        self._on_leave, self._on_back, self._on_turn, self._on_axes = on_leave, on_back, on_turn, on_axes
        self._chosen: dict[Any, _Chosen] = {}  # by the layers' own numbers, so that coming back finds it
        self._axes: Axes | None = None
        self._away = False
        self._rest = QTimer(section)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST)
        self._rest.timeout.connect(self.turn)
        section.axes_chosen.connect(lambda key: self._choose(axes=key, channel=SLIDER))
        section.channel_chosen.connect(lambda key: self._choose(channel=key))
        viewer.dims.events.current_step.connect(self._on_step)

    def close(self) -> None:
        """Follow no more."""
        self.viewer.dims.events.current_step.disconnect(self._on_step)
        self.of(None)

    def of(self, layer: Image | None) -> ImageView | None:
        """The image of a layer that the viewer shows; follows that layer from now on."""
        self._rest.stop()
        self._away = False
        self.view = self._axes = None
        if layer is not None:
            chosen = self._chosen.setdefault(layer.unique_id, _Chosen())
            offered = {axes.key: axes for axes in choices(layer)}
            self._axes = offered.get(chosen.axes) or next(iter(offered.values()))
            self.view = self._seen(layer)
            self._section.set_axes([Choice(key, axes.label) for key, axes in offered.items()], self._axes.key)
        else:
            self._section.set_axes((), "")
        self._show()
        return self.view

    def turn(self) -> None:
        """Segment what the viewer shows, without waiting for the slider to rest; nothing if that is done already."""
        self._rest.stop()
        if self.view is None or not self._fits:
            return
        seen = self._seen(self.view.layer)
        away, self._away = self._away, False
        if not seen.same(self.view):
            self.view = seen
            self._show()
            self._on_turn(seen)
        elif away:
            self._on_back()

    def go(self, step: int) -> bool:
        """Move the slider of the frames, or of the channels where there are none; whether there is such a frame."""
        axis = self._axis
        if axis is None:
            return False
        layer = self.view.layer
        steps = list(steps_of(layer, self.viewer.dims, self._axes))
        if not 0 <= steps[axis] + step < self._axes.shape[axis]:
            return False
        steps[axis] += step
        world = layer.data_to_world((*steps, *(0 for _ in range(self._axes.ndim))))
        self.viewer.dims.set_point(self.viewer.dims.ndim - layer.ndim + axis, world[axis])
        self.turn()
        return True

    def every(self) -> tuple[Axes, list[ImageView]]:
        """All images of the layer that is followed, of the channel that was chosen; and what its axes are."""
        layer = self.view.layer
        return self._axes, self._axes.views(layer, self._chosen[layer.unique_id].channel)

    @property
    def _axis(self) -> int | None:
        """The axis of the layer along which the next frame lies."""
        if self.view is None or self._axes is None:
            return None
        channel = self._chosen[self.view.layer.unique_id].channel
        letters = ("t", "c") if channel == SLIDER else ("t",)
        return next((self._axes.key.rindex(letter) for letter in letters if letter in self._axes.key), None)

    @property
    def _fits(self) -> bool:
        """Whether the layer is still what it was, and in the viewer; else something else is chosen soon."""
        layer = self.view.layer
        return self.viewer.dims.ndim >= layer.ndim and spatial_shape(layer) == self._axes.shape

    def _seen(self, layer: Image) -> ImageView:
        chosen = self._chosen[layer.unique_id]
        return self._axes.view(layer, steps_of(layer, self.viewer.dims, self._axes), chosen.channel)

    def _choose(self, **chosen: str) -> None:
        if self.view is None:
            return
        layer = self.view.layer
        for name, value in chosen.items():
            setattr(self._chosen[layer.unique_id], name, value)
        if "axes" in chosen:
            self._on_axes(layer)
        else:
            self.turn()

    def _on_step(self, event: Any = None) -> None:
        if self.view is None or not self.view.at or not self._fits:
            return
        elsewhere = not self._seen(self.view.layer).same(self.view)
        if elsewhere and not self._away:
            self._away = True
            self._on_leave()
        if self._away:
            self._rest.start()

    def _show(self) -> None:
        """What is chosen, in the panel."""
        axes, view = self._axes, self.view
        channels: list[Choice] = []
        if axes is not None and axes.channels:
            names = channel_names(view.layer, axes.channels)
            channels = [Choice(SLIDER, "As the slider", "The channel that the slider of the viewer is at")]
            channels += [Choice(str(i), name[:1].upper() + name[1:]) for i, name in enumerate(names)]
            if axes.channels == 3:
                channels.append(Choice(COLOUR, "All three, as colour", "Red, green and blue, in this order"))
        self._section.set_channels(channels, self._chosen[view.layer.unique_id].channel if channels else "")
        axis = self._axis
        last = axis is None or view.at[axis] is None or view.at[axis] + 1 >= axes.shape[axis]
        self._section.set_frame("" if view is None else view.frame, last=last)
