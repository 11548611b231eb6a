"""LiteMedSAM: boxes on slices, with a small TinyViT encoder (bowang-lab/MedSAM, branch LiteMedSAM, Apache-2.0).

The steps are those of the official ``CVPR24_LiteMedSAM_infer.py``: the longest side to 256 by area resampling, grey
values to 0..1 over the slice, zeros to the right and below; the box into that frame, truncated; logits cut to the
slice, enlarged bilinearly, positive inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.models import registry
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.planes import (
    Plane,
    fitted_scales,
    fitted_shape,
    flat,
    plane_axes,
    plane_of,
    slice_to_look_at,
    tiles,
)
from napari_sammed.models.resize import resize_area
from napari_sammed.networks import optimized
from napari_sammed.prompts import Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.networks import PromptableNetwork
    from napari_sammed.volume import Volume

FRAME = 256
_BATCH = 16  # boxes decoded at once; more only costs memory


class LiteMedSAM:
    """A `napari_sammed.models.base.BoxModel` and `ZoomingModel`.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("litemedsam")`` with its weights loaded.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    """

    def __init__(self, network: PromptableNetwork, weights_hash: str = "", device: torch.device | str = "cpu") -> None:
        self.card = registry.card("litemedsam")
        self.weights_hash = weights_hash
        self.device = torch.device(device)
        self.network = optimized(network.to(self.device).eval())

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        """The slice under the prompts, whole unless `within` is smaller; longest side 256 samples, square pixels."""
        box = slice_to_look_at(grid, prompts, within)
        plane = plane_of(grid, box)
        shape = [1] * grid.ndim
        for axis, size in zip(plane.axes, frame_shape(plane), strict=True):
            shape[axis] = size
        return Region.of_box(grid, box, shape)

    def windows(self, grid: Grid, part: Box) -> list[Region]:
        """The part enlarged to fill the frame, or where it has more pixels than that, pieces of it."""
        return [self.plan(grid, Prompts(), tile) for tile in tiles(grid, part, FRAME)]

    @torch.inference_mode()
    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        """Encode a slice. Grey values are mapped to 8 bits by the window's limits for the *whole* image."""
        features = self.network.image_encoder(self.network_input(image, region, window))
        return Embedding(features, region, image.grid, features.numel() * features.element_size())

    def network_input(self, image: Volume, region: Region, window: Window) -> Tensor:
        """A slice as the encoder sees it: (1, 3, 256, 256), 0..1."""
        return torch.from_numpy(self.slice_input(image, region, window))[None].to(self.device)

    def slice_input(self, image: Volume, region: Region, window: Window) -> np.ndarray:
        """The same as float32 of (3, 256, 256)."""
        plane = plane_of(image.grid, region.box)
        pixels = flat(image.part(region.box, region.grid.shape), region.box)
        pixels = window.apply(pixels, window.limits(image))
        return to_frame(resize_area(pixels, frame_shape(plane)))

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer boxes; those of several parts of one object are united. `previous` has no say in a box network."""
        parts = [box.intersect(embedding.region.box) for box in prompts.of(Box)]
        boxes = [part for part in parts if part is not None]
        if not boxes:
            raise InputError("LiteMedSAM needs a box that crosses the slice it looks at.")
        answers = self.decode_boxes(embedding, boxes)
        values = np.maximum.reduce([answer.values for answer in answers])
        return Logits(values, embedding.region, float(np.mean([answer.score for answer in answers])))

    @torch.inference_mode()
    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        """One answer a box, in order; the score is the predicted IoU. Boxes may reach beyond the region."""
        plane = plane_of(embedding.image, embedding.region.box)
        corners = torch.tensor([box_in_frame(box, plane) for box in boxes], dtype=torch.float32, device=self.device)
        answers = [self._decode(self._features(embedding), chunk) for chunk in corners.split(_BATCH)]
        return [
            Logits(values, embedding.region, score)
            for masks, scores in answers
            for values, score in zip(masks, scores, strict=True)
        ]

    def _features(self, embedding: Embedding) -> Tensor:
        return embedding.features

    def _decode(self, features: Tensor, corners: Tensor) -> tuple[np.ndarray, list[float]]:
        sparse, dense = self.network.prompt_encoder(points=None, boxes=corners, masks=None)
        masks, iou = self.network.mask_decoder(
            image_embeddings=features,
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0].float().cpu().numpy(), iou[:, 0].float().clamp(0, 1).tolist()

    def coarse(self, logits: Logits) -> np.ndarray:
        """Logits at the network's own resolution over ``region.box``, (rows, columns); cheaper than `restore`."""
        rows, columns = (logits.region.grid.shape[axis] for axis in plane_axes(logits.region.box))
        return logits.values[:rows, :columns]

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, float32 of shape ``region.box.shape``: cut and enlarged bilinearly."""
        box = logits.region.box
        shape = [box.shape[axis] for axis in plane_axes(box)]
        values = torch.from_numpy(np.ascontiguousarray(self.coarse(logits)))[None, None]
        return F.interpolate(values, shape, mode="bilinear", align_corners=False)[0, 0].numpy().reshape(box.shape)


def frame_shape(plane: Plane) -> tuple[int, int]:
    """Rows and columns that the resized slice takes in the 256 x 256 frame."""
    return fitted_shape(plane, FRAME)


def box_in_frame(box: Box, plane: Plane) -> tuple[int, int, int, int]:
    """A half-open box of the image as the network wants it: x0, y0, x1, y1 of its first and last pixel, truncated.

    The network has seen boxes inside its frame only, so they are cut to the slice.
    """
    rows, columns = fitted_scales(plane, FRAME)
    top, left, bottom, right = plane.corners(box)
    height, width = plane.shape
    x0, x1 = (min(max(x, 0), width - 1) for x in (left, right - 1))
    y0, y1 = (min(max(y, 0), height - 1) for y in (top, bottom - 1))
    return int(x0 * columns), int(y0 * rows), int(x1 * columns), int(y1 * rows)


def to_frame(pixels: np.ndarray) -> np.ndarray:
    """Network input (3, 256, 256) of a resized 8-bit slice, (rows, columns) or with 3 channels: 0..1, zero-padded."""
    values = pixels.astype(np.float32)
    low, high = values.min(), values.max()
    values = (values - low) / max(high - low, np.float32(1e-8))
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    frame = np.zeros((3, FRAME, FRAME), np.float32)
    frame[:, : values.shape[0], : values.shape[1]] = values.transpose(2, 0, 1)
    return frame
