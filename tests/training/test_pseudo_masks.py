"""Pieces of like grey values: as scikit-image has them in flat images, as the definition has them in volumes; and the
three rules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from napari_sammed.models.segvol_windows import WindowRegion, measured, network_input
from napari_sammed.training import pseudo_masks
from napari_sammed.training.pseudo_masks import NOTHING, cleaned, pieces, rounded, with_real, without_rare
from napari_sammed.volume import read_volume


def same_parts(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label maps cut an image in the same way, whatever the numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


def plainly(image: np.ndarray, sigma: float, percentile: float, least: int) -> np.ndarray:
    """The definition, edge by edge."""
    smooth = ndimage.gaussian_filter(image.astype(float), sigma)
    edges = []
    for place in np.ndindex(image.shape):
        for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, -1)):
            other = tuple(np.add(place, step))
            if all(0 <= i < n for i, n in zip(other, image.shape, strict=True)):
                edges.append((abs(smooth[place] - smooth[other]), place, other))
    edges.sort(key=lambda edge: edge[0])
    cut = np.percentile([cost for cost, *_ in edges if cost], percentile)
    labels = np.arange(image.size).reshape(image.shape)
    for joins in (
        lambda cost, a, b: cost < cut,
        lambda cost, a, b: min((labels == a).sum(), (labels == b).sum()) < least,
    ):
        for cost, one, other in edges:
            if labels[one] != labels[other] and joins(cost, labels[one], labels[other]):
                labels[labels == labels[other]] = labels[one]
    return labels


class TestPieces:
    @pytest.mark.parametrize("least", [1, 10, 60])
    @pytest.mark.parametrize("seed", range(3))
    def test_flat_images_are_joined_as_by_scikit_image(self, seed, least):
        image = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 50)), 2)
        # Scale 0 leaves nothing but the joining of small pieces, and so does a cut below all differences.
        expected = felzenszwalb(image, scale=0, sigma=0.8, min_size=least, channel_axis=None)
        found = pieces(image, sigma=0.8, percentile=0, least=least)
        assert same_parts(found, expected) and len(np.unique(found)) > 1

    def test_plateaus_are_those_of_scikit_image(self):
        image = np.kron(np.random.default_rng(0).permutation(30).reshape(5, 6), np.ones((8, 8))) / 30
        expected = felzenszwalb(image, scale=1e-9, sigma=0, min_size=1, channel_axis=None)
        assert same_parts(pieces(image, sigma=0, percentile=0, least=1), expected) and expected.max() == 29

    @pytest.mark.parametrize("seed", range(3))
    def test_volumes_are_cut_as_defined(self, seed):
        image = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(5, 9, 8)), 1)
        found = pieces(image, percentile=25, least=12)
        assert same_parts(found, plainly(image, 0.8, 25, 12)) and 2 < len(np.unique(found)) < 31
        assert np.bincount(found.ravel()).min() >= 12

    def test_slices_are_joined_along_their_axis_but_not_across_corners(self):
        image = np.random.default_rng(0).permutation(3 * 4 * 4).reshape(3, 4, 4) * 10.0
        image[0, 1, 1] = image[1, 1, 1] = image[1, 2, 2] = image[2, 1, 2] = 1e4
        found = pieces(image, sigma=0, percentile=0, least=1)
        assert found.max() + 1 == image.size - 2
        assert found[0, 1, 1] == found[1, 1, 1] == found[1, 2, 2] != found[2, 1, 2]

    def test_one_grey_value_is_one_piece(self):
        assert not pieces(np.full((3, 4, 5), 7.0)).any()


class TestRules:
    def test_real_masks_take_the_place_of_pieces(self):
        found = np.repeat([0, 1, 2], 4).reshape(3, 4)
        labels = np.zeros((3, 4), np.uint8)
        labels[1, :2], labels[2, 3] = 1, 4
        assert with_real(found, labels).tolist() == [[0, 0, 0, 0], [3, 3, 1, 1], [2, 2, 2, 6]]

    def test_pieces_that_are_rare_are_none(self):
        found = np.zeros((10, 10, 10), np.int32)
        found[0, 0, :4], found[5, 5, :5] = 1, 2
        found[9, 9, 9] = NOTHING
        cut = without_rare(found, 0.005)
        assert (cut[0, 0, :4] == NOTHING).all() and (cut[5, 5, :5] == 2).all() and cut[9, 9, 9] == NOTHING
        assert np.array_equal(cut == 0, found == 0)

    def test_pieces_are_opened_and_closed_and_lose_what_falls_off(self):
        found = np.full((20, 30, 30), NOTHING, np.int32)
        found[5:15, 5:15, 5:15] = 0
        found[10, 10, 15:22] = 0  # a thread
        found[8:11, 8:11, 22:25] = 0  # and what hangs on it, which falls off
        found[9, 9, 9] = NOTHING  # a hole
        result = rounded(found, share=0.005)
        assert (result[10, 10, 17:] == NOTHING).all() and (result[8:11, 8:11, 22:25] == NOTHING).all()
        kept = rounded(found, share=0.0001)
        assert (kept[9, 9, 23] == 0) and (kept[10, 10, 17:21] == NOTHING).all()
        whole = found == 0
        opened = ndimage.binary_closing(ndimage.binary_opening(whole))
        assert np.array_equal(kept == 0, opened)

    def test_pieces_at_the_border_are_as_of_whole_arrays(self):
        found = (
            np.random.default_rng(0).integers(0, 2, (6, 8, 9)).repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.int32)
        )
        first = ndimage.binary_closing(ndimage.binary_opening(found == 0))
        assert np.array_equal((rounded(np.where(found == 0, 0, NOTHING).astype(np.int32), 0.0)) == 0, first)

    def test_all_rules(self):
        found = np.zeros((20, 20, 20), np.int32)
        found[:2, :2, :2] = 1
        labels = np.zeros(found.shape, np.uint8)
        labels[8:14, 8:14, 8:14] = 1
        result = cleaned(found, labels, share=0.01)
        assert set(np.unique(result)) == {NOTHING, 0, 2} and (result[10, 10, 10], result[0, 0, 0]) == (2, NOTHING)
        assert (result == 2).sum() > 150


def test_pieces_of_a_ct_keep_to_its_edges(shared):
    image = read_volume(shared / "data" / "3d_ct_torso_multiorgan" / "image.nii.gz")
    limits, foreground = measured(image)
    seen = network_input(image, WindowRegion.showing(image.grid, foreground, (16, 96, 96)), limits)
    found = pieces(seen, least=100)
    inside = sum(seen[found == number].var() * (found == number).sum() for number in np.unique(found)) / seen.size
    assert 10 < found.max() < 500 and inside < 0.3 * seen.var()
    left = pseudo_masks.cleaned(found, np.zeros_like(found))
    assert 5 < len(np.unique(left)) <= found.max() + 2 and (left >= 0).mean() > 0.5
