"""MedSAM: boxes on slices of medical images (bowang-lab/MedSAM, Apache-2.0).

The steps are those of the official ``MedSAM_Inference.py``: the slice stretched to 1024 x 1024 whatever its shape
(scikit-image, cubic, cut to 8 bits), grey values to 0..1 over the slice; the box stretched alike; *probabilities*
resized to the image, above one half inside. SAM's own steps give bad masks with these weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from skimage.transform import resize

from napari_sammed.geometry import Region
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.frames import Frame, in_slice
from napari_sammed.models.planar import PlanarModel, united
from napari_sammed.models.planes import Plane
from napari_sammed.prompts import Prompts

if TYPE_CHECKING:
    from napari_sammed.networks import PromptableNetwork


class MedSAM(PlanarModel):
    """A `napari_sammed.models.base.BoxModel`.

    Since the slice is stretched, the size of its pixels in mm does not matter. The network was trained on boxes of up
    to 20 pixels (of 1024) too wide on each side, never too narrow.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("medsam")`` with its weights loaded.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    dtype : torch.dtype
        As of `PlanarModel`.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__("medsam", network, weights_hash, device, dtype)

    def sampled(self, plane: Plane, whole: bool) -> tuple[int, int]:
        """The whole frame."""
        return self.side, self.side

    def frame(self, region: Region) -> Frame:
        """All of it."""
        return Frame.of(region, self.side)

    def network_input(self, pixels: np.ndarray, frame: Frame) -> np.ndarray:
        """Stretched, then the darkest value 0 and the brightest 1, all channels together."""
        values = stretch(pixels, frame.shape).astype(np.float32)
        low, high = values.min(), values.max()
        values = (values - low) / max(high - low, np.float32(1e-8))
        return np.ascontiguousarray(
            np.broadcast_to(values[..., None] if values.ndim == 2 else values, (*frame.shape, 3)).transpose(2, 0, 1)
        )

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer boxes; those of several parts of one object are united. `previous` has no say in a box network."""
        _, boxes, _ = in_slice(prompts, embedding.region, self.card)
        return united(self.decode_boxes(embedding, boxes))

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, float32 of shape ``region.box.shape``: of probabilities resized bilinearly."""
        box = logits.region.box
        values = torch.sigmoid(torch.from_numpy(np.ascontiguousarray(logits.values)))[None, None]
        size = self.frame(logits.region).size
        values = F.interpolate(values, size, mode="bilinear", align_corners=False)
        return torch.logit(values[0, 0], eps=1e-7).numpy().reshape(box.shape)


def stretch(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize 8-bit pixels, (rows, columns) or with channels, by cubic splines, smoothed if shrinking; cut to 8 bits.

    Channels go one by one, and grey once: the official code gives scikit-image the channels as a third axis, which
    takes many times longer for the same numbers. The result stays between the darkest and the brightest input.
    """
    planes = [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
    resized = [resize(plane, shape, order=3, preserve_range=True, anti_aliasing=True, clip=False) for plane in planes]
    values = (resized[0] if pixels.ndim == 2 else np.stack(resized, -1)).clip(pixels.min(), pixels.max())
    return values.astype(np.uint8)
