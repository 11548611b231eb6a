"""The click network: clicks on slices and flat images, through LiteMedSAM's image encoder and a head of our own.

What the encoder sees is made as LiteMedSAM makes it; boxes are answered by LiteMedSAM's own decoder, clicks by
`napari_sammed.networks.click_head`, whose weights come with the package.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Region
from napari_sammed.models import registry
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.click_walk import seen, walked
from napari_sammed.models.frames import Frame, in_slice
from napari_sammed.models.litemedsam import FRAME, LiteMedSAM
from napari_sammed.models.storage import file_sha256
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.prompts import MaskPrompt, Point, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.networks import PromptableNetwork
    from napari_sammed.volume import Volume

HEAD = Path(__file__).with_name("click.safetensors")
"""The weights of the head, half precision."""

_MARGIN = 4  # pixels beyond the reach of a change
_SURE = 6.9  # logit of a mask that was handed over


class Click(LiteMedSAM):
    """A `napari_sammed.models.base.BoxModel` that also takes points and masks.

    One positive click alone gets three readings, the one of the highest expected IoU first. Every further click refines
    the answer so far; so do clicks on a mask that was handed over, and on the answer to a box.

    Parameters
    ----------
    network : PromptableNetwork
        LiteMedSAM with its weights.
    weights_hash : str
        sha256 of these.
    device : torch.device or str
    head : ClickHead, optional
        Another head than the one that comes with the package.
    """

    prefers_boxes = True
    """Whether boxes bring steadier answers than first clicks: these are then answered by a ladder of boxes
    (`napari_sammed.backend.reductions`), and closer looks ask with boxes as long as no click says otherwise."""

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        *,
        head: ClickHead | None = None,
    ) -> None:
        super().__init__(network, weights_hash, device)
        self.card = registry.card("click")
        if head is None:
            head = shipped_head()
            self.weights_hash = hashlib.sha256(f"{weights_hash} {file_sha256(HEAD)}".encode()).hexdigest()
        self.head = head.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        """Encode a slice, and keep the pixels that the encoder saw, for the eye and as samples for the walker."""
        pixels = self.network_input(image, region, window)
        features = self.network.image_encoder(pixels)
        samples = seen(pixels[0].cpu().numpy(), Frame.of(region, FRAME).shape)
        size = 4 * (features.numel() + pixels.numel()) + (0 if samples is None else 2 * samples.raw.nbytes)
        return Embedding((features, pixels, samples), region, image.grid, size)

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer points, boxes and masks; `alternatives` are the other readings of a single click.

        Raises
        ------
        InputError
            If there are only negative points and nothing that they could correct.
        """
        region = embedding.region
        points, boxes, masks = in_slice(prompts, region, self.card)
        if not points:
            return super().decode(embedding, Prompts((*boxes, *(mask.extent for mask in masks))), None)
        frame = Frame.of(region, FRAME)
        known = self._known(embedding, frame, prompts, boxes, masks, previous)
        if known is None and not any(point.positive for point in points):
            raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
        values, expected = self._ask(embedding, frame, points, known)
        readings = [Logits(v, region, float(e)) for v, e in zip(values, expected, strict=True)]
        if known is not None and isinstance(prompts.items[-1], Point):
            x, y = frame.points(np.array([points[-1].index]))[0]
            return replace(readings[0], values=near(known, values[0], (round(y), round(x))))
        if len(points) > 1 or known is not None:
            return readings[0]
        best, *others = sorted(readings[1:], key=lambda reading: -reading.score)
        return replace(best, alternatives=tuple(others))

    def _known(
        self,
        embedding: Embedding,
        frame: Frame,
        prompts: Prompts,
        boxes: list[Box],
        masks: list[MaskPrompt],
        previous: Logits | None,
    ) -> np.ndarray | None:
        """Logits (256, 256) that the clicks refine: the answer so far, a mask that was handed over, that to a box."""
        newest_is_mask = isinstance(prompts.items[-1], MaskPrompt)
        if previous is not None and previous.region == embedding.region and not newest_is_mask:
            return previous.values
        if masks:
            return _SURE * (2 * frame.coverage(masks, FRAME) - 1)
        return super().decode(embedding, Prompts(tuple(boxes)), None).values if boxes else None

    @torch.inference_mode()
    def _ask(
        self, embedding: Embedding, frame: Frame, points: list[Point], known: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        features, pixels, samples = embedding.features
        places = frame.points(np.array([p.index for p in points])).astype(np.float32)
        labels = np.array([p.positive for p in points], np.float32)
        before = None if known is None else F.avg_pool2d(torch.from_numpy(known)[None, None], 2)
        walks = walked(samples, places, labels, FRAME // 2, None if before is None else before[0, 0].numpy())
        given = (torch.from_numpy(array.copy())[None].to(self.device) for array in (places, labels, walks))
        places, labels, walks = given
        before = None if before is None else before.to(self.device)
        masks, iou = self.head(features, pixels, places, labels, before, walks)
        enlarged = F.interpolate(masks, scale_factor=2, mode="bilinear", align_corners=False)
        return enlarged[0].cpu().numpy(), iou[0].cpu().numpy()

    def _features(self, embedding: Embedding) -> Tensor:
        return embedding.features[0]


def near(before: np.ndarray, after: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The new answer around the change under a click, the one before elsewhere: a click means what lies about it.

    Around means as far from the change as the change is long, and a few pixels. After FocalClick's progressive merge
    (Chen et al., CVPR 2022, section 3.4), which keeps to the change itself.

    Parameters
    ----------
    before, after : ndarray of float32
        Logits, (h, w).
    place : tuple of int
        Row and column of the click; where nothing changed there, the new answer is taken whole.
    """
    changes, _ = ndimage.label((before > 0) ^ (after > 0))
    inside = tuple(min(max(p, 0), n - 1) for p, n in zip(place, changes.shape, strict=True))
    if not changes[inside]:
        return after
    change = changes == changes[inside]
    reach = np.sqrt(change.sum()) + _MARGIN
    return np.where(ndimage.distance_transform_edt(~change) <= reach, after, before)


def shipped_head() -> ClickHead:
    """The head with the weights that come with the package."""
    head = ClickHead()
    head.load_state_dict({key: value.float() for key, value in load_file(HEAD).items()})
    return head
