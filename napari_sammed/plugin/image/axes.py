"""What the axes of an image layer are: which of them make an image, and whether those before count frames or channels.

A layer of one image has two axes (three with depth). One with more is a series of images, its frames (time points,
positions, a stack of unrelated pictures), or has channels, or both. Nobody but the user can know for sure; where the
axes have names, those say it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.plugin.image.image_view import ImageView
from napari_sammed.plugin.image.images import spatial_shape

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image

SLIDER = "slider"
"""Segment the channel that the slider of the viewer is at."""

COLOUR = "colour"
"""Take the three channels for red, green and blue."""

CHANNEL_NAMES_KEY = "channel_names"
"""Where a layer's metadata may hold the names of its channels, in order."""

_TIMES = " \N{MULTIPLICATION SIGN} "
_FRAME, _CHANNEL, _SINGLE, _SPACE = "t", "c", "1", "s"
_MEANINGS = {
    **dict.fromkeys(("t", "time", "times", "timepoint", "frame", "frames", "p", "position", "scene", "series"), _FRAME),
    **dict.fromkeys(("c", "ch", "channel", "channels", "wavelength", "stain"), _CHANNEL),
    **dict.fromkeys(("z", "depth", "slice", "slices", "plane", "planes"), _SPACE),
}
"""Names of axes, in lower case -> what they are."""


@dataclass(frozen=True)
class Axes:
    """What each axis of a layer is.

    Parameters
    ----------
    key : str
        A letter an axis: t (frames), c (channels), 1 (an axis of one entry that is left out), s (of the image).
    shape : tuple of int
        Entries of each axis.
    """

    key: str
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Axes of an image."""
        return self.key.count(_SPACE)

    @property
    def channels(self) -> int:
        """How many there are; 0 without an axis of channels."""
        return self.shape[self.key.index(_CHANNEL)] if _CHANNEL in self.key else 0

    @property
    def series(self) -> bool:
        """Whether there is more than one image."""
        return _FRAME in self.key or _CHANNEL in self.key

    @property
    def label(self) -> str:
        """For people, and short: "12 frames x 2 channels, 3D", with a real multiplication sign."""
        words = {_FRAME: "frames", _CHANNEL: "channels"}
        parts = [f"{n} {words[letter]}" for letter, n in zip(self.key, self.shape, strict=True) if letter in words]
        if parts:
            return f"{_TIMES.join(parts)}, {'3D' if self.ndim == 3 else 'flat'}"
        depth = self.shape[-3] if self.ndim == 3 else 0
        return f"Volume of {depth} slice{'s' * (depth > 1)}" if depth else "Flat image"

    def view(self, layer: Image, steps: Sequence[int], channel: str = SLIDER) -> ImageView:
        """The image at some place.

        Parameters
        ----------
        layer : Image
        steps : sequence of int
            Index along each axis of the layer that is not of the image.
        channel : str
            `SLIDER`, `COLOUR` or the number of a channel.
        """
        at: list[int | None] = []
        names: list[str] = []
        for letter, step in zip(self.key[: len(self.shape) - self.ndim], steps, strict=True):
            if letter == _CHANNEL:
                step = None if channel == COLOUR else step if channel == SLIDER else int(channel)
                names.append("in colour" if step is None else channel_names(layer, self.channels)[step])
            elif letter == _FRAME:
                names.append(f"frame {step}")
            at.append(step)
        return ImageView(layer, self.ndim, tuple(at), ", ".join(names))

    def views(self, layer: Image, channel: str = SLIDER) -> list[ImageView]:
        """The images at all places, in order; parameters are those of `view`."""
        before = self.shape[: len(self.shape) - self.ndim]
        places = itertools.product(*map(range, before))
        return list({view.at: view for view in (self.view(layer, steps, channel) for steps in places)}.values())


def steps_of(layer: Image, dims: Dims, axes: Axes) -> tuple[int, ...]:
    """Where the sliders of the viewer are along the axes before those of the image; the nearest entry, beyond them."""
    count = layer.ndim - axes.ndim
    index = layer.world_to_data(dims.point[dims.ndim - layer.ndim :])[:count]
    return tuple(int(min(max(np.rint(i), 0), n - 1)) for i, n in zip(index, axes.shape, strict=False))


def choices(layer: Image) -> list[Axes]:
    """What the axes of a layer can be, the likeliest first."""
    shape = spatial_shape(layer)
    return [Axes(key, shape) for key in dict.fromkeys((_likeliest(layer, shape), *_possible(layer, shape)))]


def channel_names(layer: Image, count: int) -> list[str]:
    """What to call the channels of a layer."""
    names = layer.metadata.get(CHANNEL_NAMES_KEY)
    if isinstance(names, (list, tuple)) and len(names) == count:
        return [str(name) for name in names]
    return [f"channel {number}" for number in range(count)]


def _possible(layer: Image, shape: Sequence[int]) -> Iterator[str]:
    for ndim in (3, 2):
        if ndim > len(shape):
            continue
        before = [_FRAME if n > 1 else _SINGLE for n in shape[: len(shape) - ndim]]
        many = [axis for axis, letter in enumerate(before) if letter == _FRAME]
        colours = (None,) if layer.rgb else (None, *many)
        for channel in colours:
            yield "".join(_CHANNEL if axis == channel else letter for axis, letter in enumerate(before)) + _SPACE * ndim


def _likeliest(layer: Image, shape: Sequence[int]) -> str:
    """By the names of the axes; without those the last three are a volume, and those before it count frames."""
    n = len(shape)
    meanings = [_MEANINGS.get(str(label).lower()) for label in layer.axis_labels]
    if n == 2:
        return _SPACE * 2
    flat = meanings[-3] in (_FRAME, _CHANNEL) or (shape[-3] == 1 and n > 3)
    before = n - (2 if flat else 3)
    key = [
        _SINGLE if size == 1 else _CHANNEL if meaning == _CHANNEL and not layer.rgb else _FRAME
        for size, meaning in itertools.islice(zip(shape, meanings, strict=True), before)
    ]
    while key.count(_CHANNEL) > 1:
        key[key.index(_CHANNEL)] = _FRAME
    return "".join(key) + _SPACE * (n - before)
