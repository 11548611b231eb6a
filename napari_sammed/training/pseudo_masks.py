"""Masks of nobody's making: a volume falls into pieces of like grey values, from which SegVol learns beside real masks.

Felzenszwalb and Huttenlocher, Efficient graph-based image segmentation (2004), with a fixed cut instead of their scale;
Du et al., SegVol (2023), section 3.2; reference sheet ``segvol``, section 7. scikit-image has it for flat images only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage, sparse

from napari_sammed.geometry import Box

NOTHING = -1
"""Of voxels that are no part of a piece."""


def pieces(image: np.ndarray, *, sigma: float = 0.8, percentile: float = 25.0, least: int = 1000) -> np.ndarray:
    """Cut an image into pieces of voxels that differ little from their neighbours.

    Parameters
    ----------
    image : ndarray
        (z, y, x) or (y, x). Neighbours of a voxel are the next one along each axis, and the diagonal ones in a slice.
    sigma : float
        Of the Gaussian that smoothes before, voxels.
    percentile : float
        Of the differences that are not 0; neighbours that differ by less are in one piece.
    least : int
        Voxels; smaller pieces go, in the order of differences, to the neighbour that differs least.

    Returns
    -------
    ndarray of int32
        Numbers of pieces, 0 to n - 1, of the same shape.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, float), sigma)
    near, far, costs = (np.concatenate(each) for each in zip(*_edges(smooth), strict=True))
    changing = costs[costs != 0]
    cut = np.percentile(changing, percentile) if changing.size else 0.0
    within = costs < cut if changing.size else np.ones(len(costs), bool)
    count, found = _joined(smooth.size, near[within], far[within])
    near, far, costs = found[near[~within]], found[far[~within]], costs[~within]
    found = _without_small(found, count, near, far, costs, least)
    return found.reshape(smooth.shape).astype(np.int32)


def _edges(image: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Flat indices of neighbours, and by how much they differ, direction by direction."""
    numbers = np.arange(image.size).reshape(image.shape)
    steps = [tuple(int(a == axis) for a in range(image.ndim)) for axis in range(image.ndim)]
    steps += [(0,) * (image.ndim - 2) + diagonal for diagonal in ((1, 1), (1, -1))]
    for step in steps:
        one = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, image.shape, strict=True))
        other = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(step, image.shape, strict=True))
        yield numbers[one].ravel(), numbers[other].ravel(), np.abs(image[one] - image[other]).ravel()


def _joined(count: int, near: np.ndarray, far: np.ndarray) -> tuple[int, np.ndarray]:
    """How many pieces there are where these are joined, and the piece of each."""
    graph = sparse.coo_array((np.ones(len(near), np.int8), (near, far)), (count, count))
    return sparse.csgraph.connected_components(graph, directed=False)


def _without_small(
    found: np.ndarray, count: int, near: np.ndarray, far: np.ndarray, costs: np.ndarray, least: int
) -> np.ndarray:
    """Go through the edges between pieces, smallest difference first, and join two where either is too small.

    Only edges of a minimum spanning tree can join any: where another one is met, there was an edge on the way between
    its ends that did not, and so lies between pieces that were large enough.
    """
    apart = near != far
    order = np.argsort(costs[apart], kind="stable")
    low, high = np.sort(np.stack([near[apart][order], far[apart][order]]), axis=0)
    first = np.unique(low.astype(np.int64) * count + high, return_index=True)[1]  # the smallest of each two pieces
    ranks = sparse.csr_array((first + 1.0, (low[first], high[first])), (count, count))
    tree = sparse.csgraph.minimum_spanning_tree(ranks).tocoo()
    order = np.argsort(tree.data)
    sizes = np.bincount(found, minlength=count).tolist()
    root = list(range(count))

    def root_of(piece: int) -> int:
        while root[piece] != piece:
            root[piece] = piece = root[root[piece]]
        return piece

    for one, other in zip(tree.row[order].tolist(), tree.col[order].tolist(), strict=True):
        one, other = root_of(one), root_of(other)
        if sizes[one] < least or sizes[other] < least:
            root[other] = one
            sizes[one] += sizes[other]
    return np.unique([root_of(piece) for piece in range(count)], return_inverse=True)[1][found]


def with_real(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """First rule: where there is a real mask, it is the piece.

    Parameters
    ----------
    found : ndarray of int
        Pieces.
    labels : ndarray of int
        Of the same shape, 0 where nothing is marked.

    Returns
    -------
    ndarray of int32
        Real masks have numbers beyond those of all pieces.
    """
    return np.where(labels > 0, labels.astype(np.int32) + int(found.max()), found).astype(np.int32)


def without_rare(found: np.ndarray, share: float = 0.001) -> np.ndarray:
    """Second rule: pieces of less than a share of all voxels are none; `NOTHING` takes their place."""
    sizes = np.bincount(found.ravel() + 1)  # from that of `NOTHING` on
    return np.where(sizes[found + 1] < share * found.size, NOTHING, found).astype(np.int32)


def rounded(found: np.ndarray, share: float = 0.001) -> np.ndarray:
    """Third rule: each piece is opened and then closed by a cross of three voxels, which takes threads off and fills
    gaps; what then falls apart into less than a share of all voxels is left out.

    One piece after the other, so that those with higher numbers keep what two of them close.
    """
    result = found.copy()
    for number in np.unique(found[found != NOTHING]).tolist():
        mask = result == number
        box = Box.of_mask(mask)
        if box is None:
            continue  # all of it has become part of others
        around = box.grow(2).intersect(Box.of_shape(mask.shape)).slices
        inner = ndimage.binary_closing(ndimage.binary_opening(mask[around]))
        components, count = ndimage.label(inner)
        sizes = np.bincount(components.ravel(), minlength=count + 1)
        sizes[0] = 0
        inner = (sizes >= share * found.size)[components] & inner
        part = result[around]
        part[mask[around]] = NOTHING
        part[inner] = number
    return result


def cleaned(found: np.ndarray, labels: np.ndarray, share: float = 0.001) -> np.ndarray:
    """Pieces by all three rules, beside real masks."""
    return rounded(without_rare(with_real(found, labels), share), share)
