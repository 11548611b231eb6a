"""Random walks from the clicks over the pixels that the encoder saw, as maps for the click network's head."""

from __future__ import annotations

import numpy as np

from napari_sammed.intensity import luma
from napari_sammed.models.seeds import balls
from napari_sammed.models.wandering import SEED_RADIUS, Samples, denoised, logit, mend, usual_threshold, wander
from napari_sammed.networks.click_head import SQUASHED

MAPS = 3
"""A walk from the clicks alone, its logits above those of the usual threshold, squashed finely and coarsely; and one
that mends the answer so far."""

_FINE, _COARSE = 1.5, 6.0  # logits that are squashed to 0.76
_MOST = 10.0  # logits of the answer so far, at most

_FLAT = np.ones(2)  # spacing: samples are square


def seen(pixels: np.ndarray, shape: tuple[int, int]) -> Samples | None:
    """What the walker sees: half as many pixels as the encoder, without the padding; None if they are all the same.

    Parameters
    ----------
    pixels : ndarray of float32
        (3, rows, columns), the encoder's input.
    shape : tuple of int
        Its rows and columns that are not padding.
    """
    rows, columns = (max(length // 2, 1) for length in shape)
    halves = pixels.reshape(3, pixels.shape[1] // 2, 2, pixels.shape[2] // 2, 2).mean((2, 4))
    raw = luma(np.moveaxis(halves[:, :rows, :columns], 0, -1)).astype(np.float32)
    return None if raw.min() == raw.max() else denoised(raw)


def walked(
    samples: Samples | None, points: np.ndarray, labels: np.ndarray, side: int, before: np.ndarray | None = None
) -> np.ndarray:
    """Where a walker comes home to a positive click rather than to a negative one or not at all.

    Parameters
    ----------
    samples : Samples or None
        From `seen`.
    points : ndarray
        (N, 2), x and y in pixels of the encoder's input, the centre of the first one being 0.
    labels : ndarray
        (N,): 1 inside of the object, 0 outside, -1 no click.
    side : int
        Rows, and columns, of the maps.
    before : ndarray of float32, optional
        Logits (side, side) of the answer so far.

    Returns
    -------
    ndarray of float32
        (`MAPS`, side, side), -1..1; 0 where there is no walk: in the padding, without a positive click or an answer so
        far, and everywhere in an image without contrast.
    """
    maps = np.zeros((MAPS, side, side), np.float32)
    if samples is None or not (labels >= 0).any():
        return maps
    rows, columns = samples.raw.shape
    places = np.clip(np.floor((points[:, ::-1] + 0.5) / 2), 0, (rows - 1, columns - 1)).astype(int)
    positive = places[labels == 1]
    inside = balls(positive, _FLAT, samples.raw.shape, SEED_RADIUS)
    outside = balls(places[labels == 0], _FLAT, samples.raw.shape, SEED_RADIUS) & ~inside
    if len(positive):
        found = wander(samples, _FLAT, inside, outside, positive)
        above = logit(found.p) - logit(usual_threshold(len(positive)))
        maps[0, :rows, :columns] = np.tanh(above / _FINE)
        maps[1, :rows, :columns] = np.tanh(above / _COARSE)
    if before is not None:
        answer = 1 / (1 + np.exp(-before[:rows, :columns].clip(-_MOST, _MOST)))
        p = mend(samples, _FLAT, inside, outside, places[labels >= 0], answer)
        maps[2, :rows, :columns] = np.tanh(logit(p) / SQUASHED)
    return maps
