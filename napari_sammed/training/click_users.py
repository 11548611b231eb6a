"""Who clicks in training: users who correct the largest mistake of several objects at once, and what they begin with.

Faster and less exact than `napari_sammed.evaluation.users`: on maps of half the frame's size, with random depth.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sammed.geometry import Box
from napari_sammed.networks import PromptableNetwork
from napari_sammed.training.pictures import smooth_noise

_RUNGS = 0.5  # share of the boxes that are rungs of a ladder


class Clicker:
    """Simulated users of several objects at once, on maps of half the frame's size.

    Parameters
    ----------
    targets : ndarray of bool
        (B, h, w).
    random : Generator or None
        Without, clicks are in the very middle of the largest mistake.
    """

    def __init__(self, targets: np.ndarray, random: np.random.Generator | None) -> None:
        self.targets, self._random = targets, random
        self.points = np.zeros((len(targets), 0, 2), np.float32)
        self.labels = np.zeros((len(targets), 0), np.float32)

    def click(self, masks: np.ndarray) -> tuple[Tensor, Tensor]:
        """One more click for each object; all of them so far, as the network takes them."""
        points, labels = zip(*(self._next(m, t) for m, t in zip(masks, self.targets, strict=True)), strict=True)
        self.points = np.concatenate([self.points, np.array(points, np.float32)[:, None]], axis=1)
        self.labels = np.concatenate([self.labels, np.array(labels, np.float32)[:, None]], axis=1)
        return torch.from_numpy(self.points), torch.from_numpy(self.labels)

    def _next(self, mask: np.ndarray, target: np.ndarray) -> tuple[tuple[float, float], int]:
        best: tuple[int, np.ndarray, int] | None = None
        for wrong, label in ((target & ~mask, 1), (mask & ~target, 0)):
            pieces, count = ndimage.label(wrong)
            if count:
                sizes = np.bincount(pieces.ravel())[1:]
                if best is None or sizes.max() > best[0]:
                    best = int(sizes.max()), pieces == int(sizes.argmax()) + 1, label
        if best is None:
            return (0.0, 0.0), -1
        depth = ndimage.distance_transform_edt(np.pad(best[1], 1))[1:-1, 1:-1]
        least = depth.max() * (1 - 1e-6) if self._random is None else depth.max() * self._random.uniform(0, 1) ** 0.5
        places = np.argwhere(depth >= max(least, 0.5))
        row, column = places[0 if self._random is None else int(self._random.integers(len(places)))]
        jitter = 0.5 if self._random is None else self._random.uniform(0, 1)
        return (2 * (column + jitter) - 0.5, 2 * (row + jitter) - 0.5), best[2]


def mistaken(target: np.ndarray, others: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A mask that is wrong in the ways of networks: another edge, a neighbour taken along, a part left out.

    Parameters
    ----------
    target : ndarray of bool
        (h, w).
    others : ndarray of bool
        (n, h, w), masks of the same picture.
    random : Generator
    """
    depth = ndimage.distance_transform_edt(target) - ndimage.distance_transform_edt(~target)
    wave = smooth_noise(target.shape, random.uniform(5, 40), random) + random.normal(0, 0.5)
    mask = depth + wave * random.uniform(0, 0.5) * depth.max() > 0
    if random.random() < 0.3:
        mask |= others[int(random.integers(len(others)))]
    if random.random() < 0.3:
        centre = np.argwhere(target)[int(random.integers(target.sum()))]
        rows, columns = np.indices(target.shape)
        radius = random.uniform(0.3, 1) * np.sqrt(target.sum())
        mask ^= target & (np.hypot(rows - centre[0], columns - centre[1]) < radius)
    return mask


@torch.no_grad()
def boxed(
    network: PromptableNetwork, features: Tensor, targets: np.ndarray, clicks: np.ndarray, random: np.random.Generator
) -> Tensor:
    """What a box network says to boxes that were meant to hold the targets, or to rungs of a ladder around clicks.

    Parameters
    ----------
    network : PromptableNetwork
    features : Tensor
        (1, C, h, w).
    targets : ndarray of bool
        (B, 2 h, 2 w).
    clicks : ndarray
        (B, 2), x and y in pixels of the frame.
    random : Generator

    Returns
    -------
    Tensor
        Logits, (B, 1, 2 h, 2 w).
    """
    corners = []
    care = random.uniform(0.1, 1)  # the last boxes are nearly right, and so are the answers to them
    for target, click in zip(targets, clicks, strict=True):
        box = Box.of_mask(target)
        low, high = 2 * np.array(box.low), 2 * np.array(box.high)
        sides = (high - low).astype(float)
        if random.random() < _RUNGS:
            centre = click[::-1]
            sides[:] = max(sides.max(), 8) * np.exp(random.normal(0, 0.5))
        else:
            centre = (low + high) / 2 + care * random.normal(0, 0.08, 2) * sides
            sides *= np.exp(care * random.normal(0, 0.25, 2))
        (top, left), (bottom, right) = (centre - sides / 2).clip(0, 255), (centre + sides / 2).clip(0, 255)
        corners.append((left, top, right, bottom))
    sparse, dense = network.prompt_encoder(boxes=torch.tensor(corners, dtype=torch.float32, device=features.device))
    masks, _ = network.mask_decoder(
        image_embeddings=features,
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return F.avg_pool2d(masks, 2)
