"""Models that know the true mask: the geometry of the real ones (plan, windows, restore) without their networks.

Each answers inside its region with the truth sampled on the region's grid, so that whatever is missing from a
backend's answer was lost by geometry::

    backend = LocalBackend(models={"sam-med3d": oracle.cube(truth), "litemedsam": oracle.slices(truth)})

A truth is a volume of 0 and 1 on the image's grid. `encoded` of each model lists the regions that it looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sammed.geometry import Box, Region
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.litemedsam import FRAME, LiteMedSAM
from napari_sammed.models.planes import plane_axes
from napari_sammed.models.resampling import resample
from napari_sammed.models.sam_med3d import SAMMed3D
from napari_sammed.models.segvol import SegVol
from napari_sammed.models.segvol_windows import WindowRegion
from napari_sammed.models.zooming import WindowPrompts
from napari_sammed.volume import Volume

SURE = 10.0
"""The logit of a sample inside of the truth; outside it is the negative."""


def cube(truth: Volume, side: int = 128) -> CubeOracle:
    """SAM-Med3D that knows a mask and sees cubes of `side` samples at 1.5 mm."""
    return CubeOracle(truth, side)


def slices(truth: Volume) -> SliceOracle:
    """LiteMedSAM that knows a mask; takes boxes."""
    return SliceOracle(truth)


def windows(truth: Volume, window: tuple[int, int, int] = (32, 256, 256)) -> WindowOracle:
    """SegVol that knows a mask; takes clicks and boxes."""
    return WindowOracle(truth, window)


class CubeOracle(SAMMed3D):
    """See `cube`."""

    def __init__(self, truth: Volume, side: int) -> None:
        self.card = registry.card("sam-med3d")
        self.weights_hash = "oracle"
        self.newest_only = False
        self.side = side
        self.mask_shape = (side,) * 3
        self.truth = truth
        self.encoded: list[Region] = []

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        self.encoded.append(region)
        return _known(self.truth, image, region)

    def answer(
        self,
        embedding: Embedding,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> np.ndarray:
        return embedding.features


class SliceOracle(LiteMedSAM):
    """See `slices`."""

    def __init__(self, truth: Volume) -> None:
        self.card = registry.card("litemedsam")
        self.weights_hash = "oracle"
        self.truth = truth
        self.encoded: list[Region] = []

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        self.encoded.append(region)
        known = _known(self.truth, image, region)
        # Sure up to the surface, or what blends opinions would settle it.
        values = np.clip(4 * known.features, -SURE, SURE)
        return Embedding(values, region, image.grid, known.nbytes)

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        region = embedding.region
        rows, columns = (region.grid.shape[axis] for axis in plane_axes(region.box))
        frame = np.full((FRAME, FRAME), -SURE, np.float32)
        frame[:rows, :columns] = embedding.features.reshape(rows, columns)
        return [Logits(frame, region, 1.0)] * len(boxes)


class WindowOracle(SegVol):
    """See `windows`."""

    def __init__(self, truth: Volume, window: tuple[int, int, int]) -> None:
        self.card = registry.card("segvol")
        self.weights_hash = "oracle"
        self.window = window
        self.truth = truth
        self.encoded: list[Region] = []

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        self.encoded.append(region)
        shown = (
            region if isinstance(region, WindowRegion) else WindowRegion.showing(image.grid, region.box, self.window)
        )
        return _known(self.truth, image, shown)

    def answer(self, features: np.ndarray, prompts: WindowPrompts) -> np.ndarray:
        return features


def _known(truth: Volume, image: Volume, region: Region) -> Embedding:
    """The truth on a region's grid as logits: linear between voxels, so that surfaces stay between samples."""
    values = SURE * (2 * resample(truth.array.astype(np.float32), truth.grid, region.grid) - 1)
    return Embedding(values, region, image.grid, values.nbytes)
