"""Random walks on the voxel lattice: edge weights, the chance to come home, and the shapes that its thresholds give.

Arrays in, arrays out, in two or three dimensions; no images, no prompts.

References
----------
Grady, Random walks for image segmentation, IEEE TPAMI 28(11), 2006 (edge weights, seeds, the linear system);
Grady, Multilabel random walker image segmentation using prior models, CVPR 2005 (the diagonal term);
Andersen, Chung, Lang, Local graph partitioning using PageRank vectors, FOCS 2006 (walks that may end anywhere).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    prior: np.ndarray | None = None,
    tolerance: float = 1e-3,
    check: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Probability that a walker from each voxel meets an inside seed before an outside seed and before it gets lost.

    Solves ``(L + diag(leak)) p = leak * prior`` with p = 1 and 0 at the seeds, L being the lattice's Laplacian, by
    conjugate gradients preconditioned with the diagonal. The leak bounds the condition number, so that a few dozen
    steps do.

    Parameters
    ----------
    weights : sequence of ndarray
        From `edge_weights`.
    leak : ndarray of float32
        Rate of getting lost at each voxel, in the unit of the weights; positive.
    inside, outside : ndarray of bool
    prior : ndarray of float32, optional
        Probability that a walker who gets lost at a voxel counts as come home all the same; 0 without.
    tolerance : float
        Stop when the preconditioned residual has fallen to this part of its first value.
    check : callable
        Called at every step; may raise to end the computation.

    Returns
    -------
    ndarray of float32
    """
    free = ~(inside | outside)
    p = inside.astype(np.float32) if prior is None else np.where(free, prior, inside).astype(np.float32)
    diagonal = leak.copy()
    for axis, weight in enumerate(weights):
        near, far = neighbours(leak.ndim, axis)
        diagonal[near] += weight
        diagonal[far] += weight
    inverse = np.where(free, 1 / diagonal, 0).astype(np.float32)
    scratch = np.empty_like(p)
    residual = -_apply(weights, leak, p, scratch) * free
    if prior is not None:
        residual += leak * prior * free
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


def shapes(p: np.ndarray, thresholds: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Size and elongation of the set of voxels at or above each threshold, all in one pass.

    Parameters
    ----------
    p : ndarray
    thresholds : ndarray, (T,)
        Falling.
    spacing : sequence of float
        Of the voxels along each axis, in any unit.

    Returns
    -------
    sizes : ndarray of int, (T,)
        Voxels.
    elongations : ndarray, (T,)
        Logarithm of the ratio between the longest and the shortest principal semi-axis; 0 for a ball. The voxels' own
        extent counts, so that flat sets stay finite.
    """
    rank = np.searchsorted(-thresholds, -p.ravel())  # the first threshold at which a voxel is in
    taken = np.flatnonzero(rank < len(thresholds))
    rank = rank[taken]
    places = [line * step for line, step in zip(np.unravel_index(taken, p.shape), spacing, strict=True)]

    def total(values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(rank, values, minlength=len(thresholds)).cumsum()

    sizes = total()
    counts = np.maximum(sizes, 1)
    means = [total(place) / counts for place in places]
    covariance = np.empty((len(thresholds), p.ndim, p.ndim))
    for i in range(p.ndim):
        for j in range(p.ndim):
            covariance[:, i, j] = total(places[i] * places[j]) / counts - means[i] * means[j]
    covariance += np.diag(np.square(spacing)) / 12  # variance of a uniform density over one voxel
    variances = np.linalg.eigvalsh(covariance)
    return sizes, np.log(variances[:, -1] / variances[:, 0]) / 2
