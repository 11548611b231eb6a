"""What SAM, MedSAM and SAM-Med2D have in common: a slice in a square frame, prompts in it, masks of a quarter its size.

Each of them says how a slice gets into the frame (`PlanarModel.sampled`, `PlanarModel.network_input`), what its
decoder is asked, and how its logits get back (`PlanarModel.restore`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from napari_sammed.models.frames import Frame
from napari_sammed.models.planes import Plane, flat, plane_of, slice_to_look_at, tiles
from napari_sammed.networks import optimized
from napari_sammed.prompts import Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.networks import PromptableNetwork
    from napari_sammed.volume import Volume

_BATCH = 16  # boxes decoded at once; more only costs memory


class PlanarModel(ABC):
    """A `napari_sammed.models.base.BoxModel` around a network of SAM's make.

    Parameters
    ----------
    name : str
        Registry name.
    network : PromptableNetwork
        With its weights loaded.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    dtype : torch.dtype
        In which the image encoder multiplies matrices, see `napari_sammed.networks.optimized`.
    """

    has_half_precision = True
    """Whether `dtype` is an argument."""

    last_corner: int = 1
    """The second corner of a box is its last pixel (1), or one past it (0), as in the network's training."""

    always_three: bool = False
    """Whether the best of three readings is the answer to every prompt, boxes included."""

    def __init__(
        self,
        name: str,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.card = registry.card(name)
        self.weights_hash = weights_hash
        self.device = torch.device(device)
        self.network = optimized(network.to(self.device).eval(), dtype)
        # Embeddings of a half-precision encoder are worth no more than float16, in which they take half the memory.
        self.kept_as = torch.float32 if dtype == torch.float32 else torch.float16
        self.side = self.network.prompt_encoder.input_size[0]

    @abstractmethod
    def sampled(self, plane: Plane, whole: bool) -> tuple[int, int]:
        """Rows and columns that a slice takes in the frame; `whole` unless it is only a part of one."""

    @abstractmethod
    def frame(self, region: Region) -> Frame:
        """How a region lies in the network's input."""

    @abstractmethod
    def network_input(self, pixels: np.ndarray, frame: Frame) -> np.ndarray:
        """The network's input, float32 of shape (3, side, side), of 8-bit (rows, columns) or (rows, columns, 3)."""

    @abstractmethod
    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """See `napari_sammed.models.base.PromptableModel.decode`."""

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        """The slice under the prompts, whole unless `within` is smaller, with as many samples as the frame has."""
        box = slice_to_look_at(grid, prompts, within)
        plane = plane_of(grid, box)
        whole = all(box.shape[axis] == grid.shape[axis] for axis in plane.axes)
        shape = [1] * grid.ndim
        for axis, size in zip(plane.axes, self.sampled(plane, whole), strict=True):
            shape[axis] = size
        return Region.of_box(grid, box, shape)

    def windows(self, grid: Grid, part: Box) -> list[Region]:
        """The part enlarged to fill the frame, or where it has more pixels than that, pieces of it."""
        return [self.plan(grid, Prompts(), tile) for tile in tiles(grid, part, self.side)]

    @property
    def batch(self) -> int:
        """Regions to encode at once: several fill a GPU; a processor has enough to do with one."""
        return 1 if self.device.type == "cpu" else min((2048 // self.side) ** 2, 16)

    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        """Encode a slice. Grey values are mapped to 8 bits by the window's limits for the *whole* image.

        Raises
        ------
        InputError
            If the slice has voxels that are NaN or infinite.
        """
        return self.embed_many(image, [region], window)[0]

    @torch.inference_mode()
    def embed_many(self, image: Volume, regions: Sequence[Region], window: Window) -> list[Embedding]:
        """As `embed`, for several regions in one pass; one a region, in order."""
        limits = window.limits(image)
        inputs = np.stack([self.slice_input(image, region, window, limits) for region in regions])
        features = self.network.image_encoder(torch.from_numpy(inputs).to(self.device)).to(self.kept_as)
        # Copies, so that forgetting one embedding frees its memory.
        parts = [part.clone() if len(regions) > 1 else part for part in features.split(1)]
        return [
            Embedding(part, region, image.grid, part.numel() * part.element_size())
            for part, region in zip(parts, regions, strict=True)
        ]

    def slice_input(
        self, image: Volume, region: Region, window: Window, limits: tuple[float, float] | None = None
    ) -> np.ndarray:
        """The network's input of a region of an image; `limits` are the window's, where they are known."""
        limits = window.limits(image) if limits is None else limits
        frame = self.frame(region)
        pixels = flat(image.part(region.box, region.grid.shape), region.box)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError(
                f"The part from {region.box.low} to {region.box.high} of the image has voxels that are NaN or infinite."
            )
        return self.network_input(window.apply(pixels, limits), frame)

    def decode_boxes(self, embedding: Embedding, boxes: Sequence[Box]) -> list[Logits]:
        """One answer a box, in order; the score is the predicted IoU. Boxes may reach beyond the region."""
        corners = self.frame(embedding.region).corners(boxes, last=self.last_corner)
        masks, iou = self.answer(embedding, boxes=corners, multimask=self.always_three)
        best = iou.argmax(axis=1)
        return [
            Logits(masks[row, index], embedding.region, float(iou[row, index].clip(0, 1)))
            for row, index in enumerate(best)
        ]

    @torch.inference_mode()
    def answer(
        self,
        embedding: Embedding,
        *,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        multimask: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ask the decoder in the network's own terms, as ``predict_torch`` of the official predictors does.

        Parameters
        ----------
        embedding : Embedding
        points : ndarray, (N, 2), optional
            x, y in the frame; all of one object.
        labels : ndarray, (N,), optional
            1 inside, 0 outside, -1 nothing; for `points`.
        boxes : ndarray, (B, 4), optional
            x0, y0, x1, y1 in the frame, one object each; one of them only, if there are points.
        mask : ndarray, (side / 4, side / 4), optional
            The mask prompt, in the values that this network was trained with.
        multimask : bool
            Three readings of the prompts instead of one.

        Returns
        -------
        masks : ndarray of float32, (B, 1 or 3, side / 4, side / 4)
            Logits.
        iou : ndarray of float32, (B, 1 or 3)
            Predicted IoU, not limited to 0..1.

        Raises
        ------
        InputError
            Labels other than 1, 0 and -1; as many labels as points are needed. The official code ignores both.
        """
        clicks = None
        if points is not None:
            labels = np.asarray(labels)
            if labels.shape != (len(points),) or not np.isin(labels, (-1, 0, 1)).all():
                raise InputError(f"{len(points)} points need as many labels 1, 0 or -1, not {labels.tolist()}.")
            clicks = self._tensor(points)[None], self._tensor(labels)[None]
        dense = None if mask is None else self._tensor(mask)[None, None]
        chunks: Sequence[Tensor | None] = [None] if boxes is None else self._tensor(boxes).split(_BATCH)
        answers = [self._decode(embedding.features, clicks, chunk, dense, multimask) for chunk in chunks]
        masks, iou = (torch.cat(parts).float().cpu().numpy() for parts in zip(*answers, strict=True))
        return masks, iou

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)

    def _decode(
        self,
        features: Tensor,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        sparse, dense = self.network.prompt_encoder(points=points, boxes=boxes, masks=masks)
        return self.network.mask_decoder(
            image_embeddings=features.float(),
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )

    def coarse(self, logits: Logits) -> np.ndarray:
        """Logits at the network's own resolution over ``region.box``, (rows, columns); cheaper than `restore`."""
        return logits.values[self.frame(logits.region).slices_at(logits.values.shape[0])]

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, float32 of shape ``region.box.shape``.

        Enlarged to the frame, cut to the slice, resized to the image's pixels; both bilinear
        (``Sam.postprocess_masks`` of segment-anything).
        """
        frame = self.frame(logits.region)
        values = torch.from_numpy(np.ascontiguousarray(logits.values))[None, None]
        values = F.interpolate(values, (frame.side, frame.side), mode="bilinear", align_corners=False)
        values = F.interpolate(values[(..., *frame.slices)], frame.size, mode="bilinear", align_corners=False)
        return values[0, 0].numpy().reshape(logits.region.box.shape)


def ranked(masks: np.ndarray, iou: np.ndarray, region: Region) -> Logits:
    """Readings of one object, (n, h, w) and their predicted IoU (n,), as the best one with the others beside it."""
    order = np.argsort(-iou, kind="stable")
    scores = iou.clip(0, 1)
    best, *others = (Logits(masks[i], region, float(scores[i])) for i in order)
    return Logits(best.values, region, best.score, tuple(others))


def united(parts: Sequence[Logits]) -> Logits:
    """The parts of one object as one answer, with their mean score."""
    values = np.maximum.reduce([part.values for part in parts])
    return Logits(values, parts[0].region, float(np.mean([part.score for part in parts])))
