"""SAM-Med2D: points, boxes and masks on slices of medical images, 256 x 256 pixels (OpenGVLab/SAM-Med2D, Apache-2.0).

The steps are those in which the network was trained and evaluated: mean and deviation of natural images, the slice
stretched to 256 x 256 by nearest pixels, or put in the middle of zeros where it is smaller. The official *predictor*
(``predictor_sammed.py``) stretches small images too, and leaves the order of colours to its caller, although the
training read them as blue, green, red; `SAMMed2D` can do both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sammed.geometry import Region
from napari_sammed.models.frames import Frame
from napari_sammed.models.planes import Plane, square_ratios
from napari_sammed.models.refining import RefiningModel, sigmoid
from napari_sammed.models.sam import normalised

if TYPE_CHECKING:
    from napari_sammed.networks import PromptableNetwork


class SAMMed2D(RefiningModel):
    """A `napari_sammed.models.base.BoxModel` that also takes points and masks.

    The network always gives three readings, and the one of the highest predicted IoU is the answer. Its mask prompt is
    a map of probabilities, not of logits: the sigmoid of its earlier answer, or the share of each cell that a mask
    covers, within 0.1 and 99.9 %.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("sam-med2d")``, with or without adapters, with its weights loaded.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    as_trained : bool
        True: whole slices smaller than 256 x 256 lie in the middle of zeros, and colours are fed in reverse, as in
        training. False: every slice is stretched and colours are fed in order, as the official predictor does.
    dtype : torch.dtype
        As of `PlanarModel`.

    Notes
    -----
    A zoomed-in part is always stretched, or zooming in would show nothing more. Slices with oblong pixels are
    enlarged to square ones before they are called small.
    """

    box_with_mask = False  # trained on rounds with a mask and nothing else
    last_corner = 0
    always_three = True

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        *,
        as_trained: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__("sam-med2d", network, weights_hash, device, dtype)
        self.as_trained = as_trained

    def sampled(self, plane: Plane, whole: bool) -> tuple[int, int]:
        """The whole frame, or as many as a small slice has."""
        ratios = square_ratios(plane)
        rows, columns = (int(size * ratio + 0.5) for size, ratio in zip(plane.shape, ratios, strict=True))
        small = self.as_trained and whole and rows < self.side and columns < self.side
        return (rows, columns) if small else (self.side, self.side)

    def frame(self, region: Region) -> Frame:
        """In the middle."""
        return Frame.of(region, self.side, centred=True)

    def network_input(self, pixels: np.ndarray, frame: Frame) -> np.ndarray:
        """Resized, normalised, then padded: the padding has the mean colour."""
        resized = resize_nearest(pixels, frame.shape)
        if self.as_trained and resized.ndim == 3:
            resized = resized[..., ::-1]
        values = np.zeros((3, frame.side, frame.side), np.float32)
        values[(slice(None), *frame.slices)] = normalised(resized).transpose(2, 0, 1)
        return values

    def mask_input(self, probability: np.ndarray) -> np.ndarray:
        """SAM-Med2D takes probabilities."""
        return probability

    def previous_input(self, logits: np.ndarray) -> np.ndarray:
        """SAM-Med2D takes the probabilities of its logits."""
        return sigmoid(logits)


def resize_nearest(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize like ``cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_NEAREST)``."""
    rows, columns = (_sources(old, new) for old, new in zip(pixels.shape, shape, strict=False))
    return pixels[rows[:, None], columns]


def _sources(old: int, new: int) -> np.ndarray:
    """Source index of each target pixel; OpenCV's two divisions round differently from one."""
    return np.minimum(np.floor(np.arange(new) * (1 / (new / old))).astype(int), old - 1)
