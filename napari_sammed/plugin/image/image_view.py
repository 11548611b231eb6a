"""The image that is being segmented, as a part of a napari layer: all of it, or one frame of a layer with more axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.plugin.image.array_part import part_of
from napari_sammed.plugin.image.coordinates import matrix_of

if TYPE_CHECKING:
    from napari.layers import Image

_NOTHING = 1e-6  # of the largest entry of a matrix; less is rounding


@dataclass(frozen=True, eq=False)
class ImageView:
    """One flat image or volume of an image layer: its last two or three axes, at one place along those before.

    It stands in for a layer that has those axes alone, at full resolution: what the plugin asks of image layers can
    be asked of it. napari puts layers that have fewer axes than the viewer onto its last ones, so that layers `like`
    it lie over it, and over the other frames too.

    Parameters
    ----------
    layer : Image
        Only ever read.
    ndim : int
        Axes of the image: 2, or 3 for a volume.
    at : tuple of int or None
        Index along each axis before those; None for the one axis whose three entries are red, green and blue.
    frame : str
        What to call the frame ("frame 3", "frame 3, DAPI"); empty if the layer is one image.
    """

    layer: Image
    ndim: int
    at: tuple[int | None, ...] = ()
    frame: str = ""

    @classmethod
    def whole(cls, layer: Image) -> ImageView:
        """A layer that is one image."""
        return cls(layer, layer.ndim)

    def same(self, other: ImageView) -> bool:
        """Whether another one is the same image."""
        return self.beside(other) and self.at == other.at

    def beside(self, other: ImageView) -> bool:
        """Whether another one is a frame of the same layer, so that layers over the one lie over the other as well."""
        return self.layer is other.layer and self.ndim == other.ndim

    # ---- voxels --------------------------------------------------------------------------------------------------

    @property
    def levels(self) -> list[Any]:
        """The voxels at each level of resolution, the finest first, as arrays that read no more than is asked of them.

        With a last axis for colours. Of arrays in memory they are views.
        """
        arrays = list(self.layer.data) if self.layer.multiscale else [self.layer.data]
        return [part_of(array, self.at) for array in arrays]

    @property
    def data(self) -> Any:
        """The voxels at full resolution."""
        return self.levels[0]

    multiscale = False

    @property
    def rgb(self) -> bool:
        """Whether it has colours."""
        return bool(self.layer.rgb) or None in self.at

    # ---- what layers have ----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.layer.name

    @property
    def title(self) -> str:
        """The layer's name, and what the frame is called."""
        return f"{self.layer.name}, {self.frame}" if self.frame else self.layer.name

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the layer."""
        return self.layer.metadata

    @property
    def source(self) -> Any:
        """Where napari has the layer from."""
        return self.layer.source

    @property
    def events(self) -> Any:
        """Of the layer."""
        return self.layer.events

    @property
    def contrast_limits(self) -> Sequence[float]:
        """Of the layer."""
        return self.layer.contrast_limits

    @property
    def corner_pixels(self) -> np.ndarray:
        """First and last index in view, (2, ndim), at full resolution."""
        corners = self.layer.corner_pixels[:, -self.ndim :]
        if not self.layer.multiscale:
            return corners
        step = self.layer.downsample_factors[self.layer.data_level][len(self.at) : self.layer.ndim]
        return np.array([np.floor(corners[0] * step), np.ceil((corners[1] + 1) * step) - 1]).astype(int)

    # ---- where it lies -------------------------------------------------------------------------------------------

    def data_to_world(self, index: Sequence[float]) -> tuple[float, ...]:
        """Position of an index in the viewer's world, along the axes of the image."""
        return tuple(self.layer.data_to_world((*(0 for _ in self.at), *index)))[len(self.at) :]

    @property
    def mixes_axes(self) -> bool:
        """Whether the layer's transform leads from the axes of the image to others, or from there into it.

        Such frames have no place that a layer of fewer axes could share.
        """
        matrix, k = matrix_of(self.layer)[:-1, :-1], len(self.at)
        return bool(max(np.abs(matrix[:k, k:]).max(initial=0), np.abs(matrix[k:, :k]).max(initial=0)) > _NOTHING)

    @property
    def units(self) -> tuple[Any, ...]:
        """Of its axes."""
        return tuple(self.layer.units)[-self.ndim :]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """Of its axes."""
        return tuple(self.layer.axis_labels)[-self.ndim :]

    @property
    def scale(self) -> np.ndarray:
        """As napari has it; of a frame, (1, 1, ...) unless its axes are those of the world."""
        return self._transform["scale"]

    @property
    def translate(self) -> np.ndarray:
        """As napari has it; see `scale`."""
        return self._transform["translate"]

    @property
    def rotate(self) -> np.ndarray:
        """As napari has it; of a frame, none."""
        return self._transform["rotate"]

    @property
    def shear(self) -> np.ndarray:
        """As napari has it; of a frame, none."""
        return self._transform["shear"]

    @property
    def affine(self) -> Any:
        """As napari has it; of a frame, the whole transform unless its axes are those of the world."""
        return self._transform["affine"]

    @property
    def _transform(self) -> dict[str, Any]:
        """Of whole layers their own. Of frames one with the same matrix: napari's parts cannot be cut to some axes."""
        if not self.at:
            return {name: getattr(self.layer, name) for name in ("scale", "translate", "rotate", "shear", "affine")}
        n = self.ndim
        matrix = matrix_of(self)
        scale, straight = np.diagonal(matrix)[:n], np.diag(np.diagonal(matrix[:n, :n]))
        aligned = np.abs(matrix[:n, :n] - straight).max() <= _NOTHING * np.abs(scale).max()
        return {
            "scale": scale if aligned else np.ones(n),
            "translate": matrix[:n, n] if aligned else np.zeros(n),
            "rotate": np.eye(n),
            "shear": np.zeros(n * (n - 1) // 2),
            "affine": np.eye(n + 1) if aligned else matrix,
        }
