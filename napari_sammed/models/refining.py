"""How networks that take points, boxes and masks together are asked: SAM and SAM-Med2D."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.frames import Frame, in_slice
from napari_sammed.models.planar import PlanarModel, ranked, united
from napari_sammed.prompts import MaskPrompt, Point, Prompts

_SURE = 1e-3  # a mask prompt says 0.1 % or 99.9 %: as a logit -6.9 or 6.9, the range of the networks' own answers


class RefiningModel(PlanarModel):
    """A network whose answer is refined by further clicks: it takes its own earlier logits as a mask prompt."""

    box_with_mask: bool
    """Whether a mask prompt without points and boxes is accompanied by its bounding box."""

    @abstractmethod
    def mask_input(self, probability: np.ndarray) -> np.ndarray:
        """A map of probabilities as this network's mask prompt."""

    @abstractmethod
    def previous_input(self, logits: np.ndarray) -> np.ndarray:
        """Logits of this network as its mask prompt."""

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer points, boxes and masks; `alternatives` are the other readings of ambiguous prompts.

        Clicks refine `previous`, which is the mask prompt then, unless the newest prompt is itself a mask. Several
        boxes are parts of one object: each is answered with the points in it (and those that lie in no box), and the
        answers are united.

        Raises
        ------
        InputError
            For prompts that lie elsewhere, and if there are only negative points and nothing that they could correct.
        """
        points, boxes, masks = in_slice(prompts, embedding.region, self.card)
        frame = self.frame(embedding.region)
        mask = self._mask(frame, masks, previous if previous and previous.region == embedding.region else None, prompts)
        if not boxes and mask is None and not any(point.positive for point in points):
            raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
        if masks and self.box_with_mask and not points and not boxes:
            boxes = [_around(masks)]
        if len(boxes) > 1 and not points and mask is None:
            return united(self.decode_boxes(embedding, boxes))
        if len(boxes) < 2:
            return self._decode_one(embedding, frame, points, boxes, mask)
        parts = []
        for box in boxes:
            own = [p for p in points if box.contains(p.index) or not any(b.contains(p.index) for b in boxes)]
            parts.append(self._decode_one(embedding, frame, own, [box], mask))
        return united(parts)

    def _decode_one(
        self, embedding: Embedding, frame: Frame, points: list[Point], boxes: list[Box], mask: np.ndarray | None
    ) -> Logits:
        masks, iou = self.answer(
            embedding,
            points=frame.points(np.array([point.index for point in points])) if points else None,
            labels=np.array([int(point.positive) for point in points]) if points else None,
            boxes=frame.corners(boxes, last=self.last_corner) if boxes else None,
            mask=mask,
            multimask=self.always_three or (len(points) == 1 and not boxes and mask is None),
        )
        return ranked(masks[0], iou[0], embedding.region)

    def _mask(
        self, frame: Frame, masks: list[MaskPrompt], previous: Logits | None, prompts: Prompts
    ) -> np.ndarray | None:
        """The mask prompt: what the newest prompt says, what clicks refine, or what was handed over at first."""
        side = self.network.prompt_encoder.mask_input_size[0]
        newest_is_mask = isinstance(prompts.items[-1], MaskPrompt)
        if previous is not None and prompts.of(Point) and not newest_is_mask and previous.values.shape == (side, side):
            return self.previous_input(previous.values)
        if masks:
            return self.mask_input(frame.coverage(masks, side).clip(_SURE, 1 - _SURE))
        return None


def _around(masks: Sequence[MaskPrompt]) -> Box:
    box = masks[0].extent
    for mask in masks[1:]:
        box = box.union(mask.extent)
    return box


def logit(probability: np.ndarray) -> np.ndarray:
    """The inverse of the sigmoid."""
    return np.log(probability / (1 - probability))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits as probabilities, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits))
