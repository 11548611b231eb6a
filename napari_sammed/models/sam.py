"""SAM: points, boxes and masks on slices of any image (facebookresearch/segment-anything, Apache-2.0).

The steps are those of the official ``SamPredictor``: the longest side to 1024 (Pillow's bilinear filter on 8 bits),
mean and deviation of natural images, zeros to the right and below; coordinates scaled alike; logits enlarged to the
frame, cut, resized to the image, positive inside. One difference: samples are made square in mm, which is the same
for square pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from napari_sammed.geometry import Region
from napari_sammed.models.frames import Frame
from napari_sammed.models.planes import Plane, fitted_shape
from napari_sammed.models.refining import RefiningModel, logit

if TYPE_CHECKING:
    from napari_sammed.networks import PromptableNetwork

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of ImageNet, on 0..255; red, green, blue
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)
_NAMES = {768: "sam-vit-b", 1024: "sam-vit-l", 1280: "sam-vit-h"}  # by width of the image encoder


class SAM(RefiningModel):
    """A `napari_sammed.models.base.BoxModel` that also takes points and masks.

    One positive click alone is ambiguous: it gets three readings, best predicted IoU first. Everything else gets one
    answer, from the decoder's token for unambiguous prompts. A mask prompt becomes logits: those of the share of each
    cell that it covers, at most 6.9 in size; if it comes alone, its bounding box goes with it, since SAM was not
    trained on masks without points or boxes.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create`` of ``"sam-vit-b"``, ``"sam-vit-l"`` or ``"sam-vit-h"`` with its weights loaded; which of
        them it is shows in its width.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    dtype : torch.dtype
        As of `PlanarModel`.
    """

    box_with_mask = True

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        width = network.image_encoder.patch_embed.proj.out_channels
        super().__init__(_NAMES.get(width, "sam-vit-b"), network, weights_hash, device, dtype)

    def sampled(self, plane: Plane, whole: bool) -> tuple[int, int]:
        """The longest side fills the frame."""
        return fitted_shape(plane, self.side)

    def frame(self, region: Region) -> Frame:
        """In the top left corner."""
        return Frame.of(region, self.side)

    def network_input(self, pixels: np.ndarray, frame: Frame) -> np.ndarray:
        """Resized, normalised, then padded: the padding has the mean colour."""
        resized = resize_bilinear(pixels, frame.shape)
        values = np.zeros((3, frame.side, frame.side), np.float32)
        values[(slice(None), *frame.slices)] = normalised(resized).transpose(2, 0, 1)
        return values

    def mask_input(self, probability: np.ndarray) -> np.ndarray:
        """SAM takes logits."""
        return logit(probability)

    def previous_input(self, logits: np.ndarray) -> np.ndarray:
        """SAM takes its logits as they are."""
        return logits


def resize_bilinear(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize 8-bit pixels, (rows, columns) or (rows, columns, 3), with Pillow's bilinear filter (smooth if shrinking).

    Grey is resized once; the official code resizes three equal channels, with the same result.
    """
    return np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BILINEAR))


def normalised(pixels: np.ndarray) -> np.ndarray:
    """Pixels 0..255, grey or colour, as (rows, columns, 3) of float32 around 0."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return (pixels.astype(np.float32) - PIXEL_MEAN) / PIXEL_STD
