"""Objects of encoded pictures, turned and mirrored anew each time, as the click network learns from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.models.click_walk import seen, walked
from napari_sammed.models.litemedsam import FRAME, to_frame
from napari_sammed.models.wandering import Samples
from napari_sammed.training.click_pictures import Encoded

OBJECTS = 4
"""Masks of a picture in one step."""

_LEAST = 6  # cells of a mask at half the frame's size


@dataclass
class Drawn:
    """Objects of one picture, ready for the network.

    Parameters
    ----------
    features : Tensor
        (1, 256, 64, 64).
    pixels : Tensor
        (1, 3, 256, 256).
    targets : Tensor
        (B, 128, 128), the share of each cell that is inside.
    samples : Samples or None
        What a random walker sees.
    """

    features: Tensor
    pixels: Tensor
    targets: Tensor
    samples: Samples | None

    def to(self, device: torch.device) -> Drawn:
        """The same with its tensors there."""
        tensors = (tensor.to(device) for tensor in (self.features, self.pixels, self.targets))
        return Drawn(*tensors, self.samples)

    def walks(self, points: Tensor, labels: Tensor, before: Tensor | None) -> Tensor:
        """Random walks from each object's clicks, about its answer before (B, 1, 128, 128), as the head takes them."""
        answers = [None] * len(points) if before is None else before[:, 0].numpy()
        given = zip(points.numpy(), labels.numpy(), answers, strict=True)
        return torch.from_numpy(np.stack([walked(self.samples, p, k, FRAME // 2, b) for p, k, b in given]))


def draw(picture: Encoded, random: np.random.Generator, objects: int = OBJECTS, *, plain: bool = False) -> Drawn | None:
    """Some objects of a picture; None if it has none that is large enough.

    Parameters
    ----------
    picture : Encoded
    random : Generator
    objects : int
        How many, or fewer.
    plain : bool
        Neither turned nor mirrored.
    """
    shares = F.avg_pool2d(torch.from_numpy(picture.masks).float(), 2)
    large = np.flatnonzero((shares > 0.5).sum((1, 2)).numpy() >= _LEAST)
    if not len(large):
        return None
    chosen = random.choice(large, objects, replace=len(large) < objects)
    drawn = Drawn(
        torch.from_numpy(picture.features).float()[None],
        torch.from_numpy(to_frame(picture.pixels))[None],
        shares[chosen],
        None,
    )
    shape = picture.pixels.shape[:2]
    if not plain:
        shape = _turn(drawn, shape, random)
    drawn.samples = seen(drawn.pixels[0].numpy(), shape)
    return drawn


def _turn(drawn: Drawn, shape: tuple[int, int], random: np.random.Generator) -> tuple[int, int]:
    """Mirror, and turn by a quarter, what is in the frame, as far as it stays in its corner; its rows and columns."""
    maps = (drawn.features, drawn.pixels, drawn.targets)
    mirrored = [axis - 2 for axis, length in enumerate(shape) if length == FRAME and random.random() < 0.5]
    maps = [map_.flip(mirrored) for map_ in maps]
    if random.random() < 0.5:
        maps, shape = [map_.transpose(-1, -2).contiguous() for map_ in maps], shape[::-1]
    drawn.features, drawn.pixels, drawn.targets = maps
    return shape
