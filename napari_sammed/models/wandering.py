"""Random walks on grey values: how the tissue around the prompts looks, and the chance to come home to them.

No images and no prompts; arrays of samples in two or three dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.models.lattice import edge_weights, neighbours, walk
from napari_sammed.models.seeds import balls

_DENOISING = 0.7  # weight of the total variation, in units of the noise
SEED_RADIUS = 1.7  # samples that a click stands for
_TEXTURE_RADIUS = 3.0  # samples around a click that show how much its tissue varies
_BETA = 25.0  # a step in grey value of 1 / sqrt(25) of that variation weighs 1 / e
_LEAST_WEIGHT = 3e-3
_LEAK = 0.02  # rate of getting lost where nothing looks like the clicks
_LEAST_LEAK = 1e-3
_ALIKE = 4.0  # variations away from a click's grey value that still look alike
_THRESHOLD = 0.13  # usual chance at the boundary, after one click
_THRESHOLD_FROM_MORE = 0.2  # after more clicks or a stroke: there are more places to come home to


@dataclass(frozen=True)
class Samples:
    """A region as the walker sees it.

    Parameters
    ----------
    raw, smooth : ndarray of float32
        Grey values as sampled, and denoised.
    noise : float
        Standard deviation of the noise.
    """

    raw: np.ndarray
    smooth: np.ndarray
    noise: float


@dataclass(frozen=True)
class Walk:
    """What became of the walkers.

    Parameters
    ----------
    p : ndarray of float32
        For each sample, the chance to come home to a positive prompt.
    inside, outside : ndarray of bool
        The seeds.
    texture : float
        How much the tissue around the positive prompts varies.
    levels : list of float
        Grey values of these.
    """

    p: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    texture: float
    levels: list[float]


def denoised(raw: np.ndarray) -> Samples:
    """Grey values (not all the same) and what they are without their noise."""
    from skimage.restoration import denoise_tv_chambolle

    noise = _noise(raw)
    smooth = denoise_tv_chambolle(raw / noise, weight=_DENOISING, max_num_iter=30) * noise
    return Samples(raw, smooth.astype(np.float32), noise)


def wander(
    samples: Samples,
    spacing: Sequence[float],
    inside: np.ndarray,
    outside: np.ndarray,
    centres: np.ndarray,
    check: Callable[[], None] = lambda: None,
) -> Walk:
    """Let walkers start everywhere.

    Parameters
    ----------
    samples : Samples
    spacing : sequence of float
        Distance of the samples along each axis, in any unit.
    inside, outside : ndarray of bool
        Seeds.
    centres : ndarray of int, (N, ndim)
        Samples that show what the object looks like.
    check : callable
        Called now and then; may raise to end the computation.
    """
    scale = np.array(spacing) / min(spacing)
    texture, levels = _look(samples, centres, scale)
    unlike = np.min([np.abs(samples.smooth - level) for level in levels], axis=0) / (_ALIKE * texture)
    leak = _LEAST_LEAK + _LEAK * (1 - np.exp(-0.5 * unlike**2))
    weights = edge_weights(samples.smooth / texture, spacing, _BETA, _LEAST_WEIGHT)
    p = walk(weights, leak.astype(np.float32), inside, outside, check=check)
    return Walk(p, inside, outside, texture, levels)


def mend(
    samples: Samples,
    spacing: Sequence[float],
    inside: np.ndarray,
    outside: np.ndarray,
    centres: np.ndarray,
    answer: np.ndarray,
) -> np.ndarray:
    """Let walkers start everywhere who know an answer: where one gets lost, it is asked whether that is the object.

    So the answer stays as it is but for what lies, within the same edges, about seeds that contradict it.

    Parameters
    ----------
    samples, spacing, inside, outside
        As for `wander`.
    centres : ndarray of int, (N, ndim)
        Samples that show how much the tissue varies.
    answer : ndarray of float32
        For each sample, the chance that it is in the object.

    Returns
    -------
    ndarray of float32
        For each sample, the chance to come home, or to get lost in the object.
    """
    texture, _ = _look(samples, centres, np.array(spacing) / min(spacing))
    weights = edge_weights(samples.smooth / texture, spacing, _BETA, _LEAST_WEIGHT)
    return walk(weights, np.full(samples.raw.shape, _LEAST_LEAK, np.float32), inside, outside, prior=answer)


def usual_threshold(places: int) -> float:
    """Usual chance to come home at the boundary of an object, from so many places to come home to."""
    return _THRESHOLD if places == 1 else _THRESHOLD_FROM_MORE


def logit(p: np.ndarray | float) -> np.ndarray | float:
    """Of chances, which are kept off 0 and 1."""
    p = np.clip(p, 1e-9, 1 - 1e-7)
    return np.log(p / (1 - p))


def _noise(raw: np.ndarray) -> float:
    """Standard deviation of the noise: the usual contrast of neighbours, those that are equal left out."""
    contrasts = []
    for axis in range(raw.ndim):
        near, far = neighbours(raw.ndim, axis)
        contrasts.append(np.abs(raw[far] - raw[near]).ravel())
    contrast = np.concatenate(contrasts)
    return float(np.median(contrast[contrast > 0])) / 0.6745 / 2**0.5  # 0.6745: median of |x|, x standard normal


def _look(samples: Samples, centres: np.ndarray, scale: np.ndarray) -> tuple[float, list[float]]:
    """How much the tissue around the clicks varies, and the grey value of each click."""
    textures, levels = [], []
    for centre in centres:
        near = balls(centre[None], scale, samples.raw.shape, _TEXTURE_RADIUS)
        values = samples.raw[near]
        textures.append(np.median(np.abs(values - np.median(values))) / 0.6745)
        core = balls(centre[None], scale, samples.raw.shape, SEED_RADIUS)
        levels.append(float(np.median(samples.smooth[core])))
    floor = 0.1 * samples.noise
    return max(float(np.median(textures)), floor), levels
