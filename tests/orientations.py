"""Volumes in every orientation: the 48 axis permutations and flips, and random oblique grids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from napari_sammed.geometry import Grid
from napari_sammed.volume import Volume

ALL_48 = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
"""(permutation, flips) for `reorient`."""


def reorient(volume: Volume, permutation: Sequence[int], flips: Sequence[bool]) -> Volume:
    """The same voxels at the same places, stored along other axes.

    Parameters
    ----------
    volume : Volume
    permutation : sequence of int
        New axis i is old axis ``permutation[i]``.
    flips : sequence of bool
        Whether new axis i runs backwards.
    """
    n = volume.grid.ndim
    channels = range(n, volume.array.ndim)
    turned = volume.array.transpose(*permutation, *channels)
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    # old index = to_old @ new index, homogeneous
    to_old = np.zeros((n + 1, n + 1))
    to_old[n, n] = 1
    for new, (old, flip) in enumerate(zip(permutation, flips, strict=True)):
        to_old[old, new] = -1 if flip else 1
        to_old[old, n] = volume.grid.shape[old] - 1 if flip else 0
    grid = Grid.from_affine(turned.shape[:n], volume.grid.affine @ to_old)
    return Volume(turned, grid, name=volume.name, modality=volume.modality)


def rotation(rng: np.random.Generator) -> np.ndarray:
    """A random proper rotation matrix, (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def oblique_grids(count: int = 20, shape: Sequence[int] = (9, 12, 15), seed: int = 0) -> Iterator[Grid]:
    """Random tilted, anisotropic grids; every other one is a mirror image."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        affine = np.eye(4)
        affine[:3, :3] = rotation(rng)[:, ::-1] * rng.uniform(0.4, 7.5, 3)
        affine[:3, 3] = rng.uniform(-300, 300, 3)
        if number % 2:
            affine[:, 0] *= -1
        yield Grid.from_affine(tuple(shape), affine)
