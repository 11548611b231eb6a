"""Random walks on the voxel lattice: edge weights, the chance to come home, and what each threshold of it would cut.

Arrays in, arrays out, in two or three dimensions; no images, no prompts.

References
----------
Grady, Random walks for image segmentation, IEEE TPAMI 28(11), 2006 (edge weights, seeds, the linear system);
Grady, Multilabel random walker image segmentation using prior models, CVPR 2005 (the diagonal term);
Andersen, Chung, Lang, Local graph partitioning using PageRank vectors, FOCS 2006 (walks that may end anywhere, sweeps).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_MAX_STEPS = 500  # of conjugate gradients; about 60 are usual


def neighbours(ndim: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index an array with these two to get, element by element, the two ends of every edge along an axis."""
    near = [slice(None)] * ndim
    far = [slice(None)] * ndim
    near[axis], far[axis] = slice(None, -1), slice(1, None)
    return tuple(near), tuple(far)


def edge_weights(grey: np.ndarray, spacing: Sequence[float], beta: float, least: float) -> list[np.ndarray]:
    """How easily a walker crosses from a voxel to the next one.

    Parameters
    ----------
    grey : ndarray of float32
        Grey values in units of the noise.
    spacing : sequence of float
        Distance of neighbouring voxels along each axis, in any unit.
    beta : float
        An edge of contrast d weighs ``exp(-beta d²)``, over the square of its length in units of the shortest one.
    least : float
        Added before that, so that no voxel is cut off.

    Returns
    -------
    list of ndarray
        For each axis, the weights of the edges along it: shape as `grey`, one fewer along that axis.
    """
    shortest = min(spacing)
    weights = []
    for axis, length in enumerate(spacing):
        contrast = np.diff(grey, axis=axis)
        weight = (np.exp(-beta * contrast * contrast) + least) * (shortest / length) ** 2
        weights.append(weight.astype(np.float32, copy=False))
    return weights


def walk(
    weights: Sequence[np.ndarray],
    leak: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    tolerance: float = 1e-3,
    check: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Probability that a walker from each voxel meets an inside seed before an outside seed and before it gets lost.

    Solves ``(L + diag(leak)) p = 0`` with p = 1 and 0 at the seeds, L being the lattice's Laplacian, by conjugate
    gradients preconditioned with the diagonal. The leak bounds the condition number, so that a few dozen steps do.

    Parameters
    ----------
    weights : sequence of ndarray
        From `edge_weights`.
    leak : ndarray of float32
        Rate of getting lost at each voxel, in the unit of the weights; positive.
    inside, outside : ndarray of bool
    tolerance : float
        Stop when the preconditioned residual has fallen to this part of its first value.
    check : callable
        Called at every step; may raise to end the computation.

    Returns
    -------
    ndarray of float32
    """
    free = ~(inside | outside)
    p = inside.astype(np.float32)
    diagonal = leak.copy()
    for axis, weight in enumerate(weights):
        near, far = neighbours(leak.ndim, axis)
        diagonal[near] += weight
        diagonal[far] += weight
    inverse = np.where(free, 1 / diagonal, 0).astype(np.float32)
    scratch = np.empty_like(p)
    residual = -_apply(weights, leak, p, scratch) * free
    step = inverse * residual
    energy = first = float(np.vdot(residual, step))
    direction = step
    for _ in range(_MAX_STEPS):
        if energy <= tolerance**2 * first:
            break
        check()
        image = _apply(weights, leak, direction, scratch)
        image *= free
        length = energy / float(np.vdot(direction, image))
        p += length * direction
        residual -= length * image
        step = inverse * residual
        previous, energy = energy, float(np.vdot(residual, step))
        direction = step + (energy / previous) * direction
    return p


def _apply(weights: Sequence[np.ndarray], leak: np.ndarray, p: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``(L + diag(leak)) p``, written into `out`."""
    np.multiply(leak, p, out=out)
    for axis, weight in enumerate(weights):
        near, far = neighbours(p.ndim, axis)
        flow = weight * (p[far] - p[near])
        out[far] += flow
        out[near] -= flow
    return out


@dataclass(frozen=True)
class Sweep:
    """What every threshold of a probability map would give; all arrays as long as `thresholds`.

    Parameters
    ----------
    thresholds : ndarray
        Falling.
    sizes : ndarray
        Voxels at or above the threshold.
    faces : ndarray
        Edges from such a voxel to another one.
    cuts : ndarray
        Sum of the weights of these edges: the lower the mean, the clearer the boundary.
    """

    thresholds: np.ndarray
    sizes: np.ndarray
    faces: np.ndarray
    cuts: np.ndarray


def sweep(p: np.ndarray, weights: Sequence[np.ndarray], thresholds: np.ndarray) -> Sweep:
    """Try all thresholds at once, in one pass over the edges.

    An edge is cut by the thresholds between the values of its two ends, so it counts from the first of these to the
    first that takes in both.
    """
    count = len(thresholds)
    rank = np.searchsorted(-thresholds, -p.ravel()).reshape(p.shape)  # the first threshold at which a voxel is in
    sizes = np.bincount(rank.ravel(), minlength=count + 1)[:count].cumsum()
    changes = np.zeros((2, count + 1))
    for axis, weight in enumerate(weights):
        near, far = neighbours(p.ndim, axis)
        crossed = rank[near] != rank[far]
        ends = np.sort(np.stack([rank[near][crossed], rank[far][crossed]]), axis=0)
        for row, values in enumerate((None, weight[crossed])):
            starts, stops = (np.bincount(end, values, minlength=count + 1) for end in ends)
            changes[row] += starts - stops
    faces, cuts = changes[:, :count].cumsum(axis=1)
    return Sweep(thresholds, sizes, faces, cuts)
