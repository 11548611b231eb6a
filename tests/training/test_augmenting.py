"""Images and masks are varied together, by the given random numbers alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from napari_sammed.errors import InputError
from napari_sammed.training.augmenting import Variation, vary_slice, vary_volume

PLAIN = Variation(flips=False, turns=False, rotation=0, zoom=0, brightness=0, contrast=0, noise=0, chance=1)


def only(**what) -> Variation:
    return Variation(**{**vars(PLAIN), **what})


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """A block that no flip or turn brings back onto itself."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(size // 5 + axis, size // 2 + axis) for axis, size in enumerate(shape))] = True
    return mask


def varied(mask: np.ndarray, variation: Variation | None, seed: int, **rest):
    vary = vary_slice if mask.ndim == 2 else vary_volume
    return vary(mask * 100.0, mask, np.random.default_rng(seed), variation, **rest)


@pytest.mark.parametrize("shape", [(40, 40), (40, 56), (20, 24, 24)])
def test_image_and_mask_stay_together(shape):
    mask = blob(shape)
    seen = set()
    for seed in range(12):
        image, marked = varied(mask, only(flips=True, turns=True, rotation=20, zoom=0.1, chance=0.5), seed)
        assert image.shape == marked.shape == shape and image.dtype == np.float32 and marked.dtype == bool
        assert ((image > 50) != marked).sum() <= 0.05 * mask.sum()
        assert 0.6 * mask.sum() < marked.sum() < 1.5 * mask.sum()
        seen.add(marked.tobytes())
    assert len(seen) > 8


def test_the_same_random_numbers_vary_the_same_way_and_no_others_are_touched():
    image = np.random.default_rng(0).normal(100, 30, (32, 32))
    mask = blob((32, 32))
    kept = image.copy()
    states = (np.random.get_state()[1].copy(), torch.get_rng_state())
    first, second, other = (vary_slice(image, mask, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
    assert (first[0] != other[0]).any()
    assert (np.random.get_state()[1] == states[0]).all() and (torch.get_rng_state() == states[1]).all()
    assert (image == kept).all() and (mask == blob((32, 32))).all()
    generator = np.random.default_rng(1)
    vary_slice(image, mask, generator)
    assert (vary_slice(image, mask, generator)[0] != first[0]).any(), "the next draw is another one"


def test_colours_stay_with_their_pixels():
    pixels = np.stack([np.full((30, 40), value, np.uint8) for value in (10, 100, 200)], -1)
    pixels[:5, :5] = 0
    image, _ = vary_slice(pixels, np.zeros((30, 40), bool), np.random.default_rng(0), only(flips=True, rotation=10))
    assert image.shape == (30, 40, 3) and (np.abs(image[15, 20] - (10, 100, 200)) < 1e-3).all()


def test_flips_and_turns_are_exact():
    mask = blob((16, 16, 16))
    values = np.random.default_rng(0).normal(size=mask.shape).astype(np.float32)
    found = set()
    for seed in range(10):
        image, marked = vary_volume(values, mask, np.random.default_rng(seed), only(flips=True, turns=True, chance=0.5))
        assert sorted(image.ravel()) == sorted(values.ravel()) and marked.sum() == mask.sum()
        found.add(marked.tobytes())
    assert len(found) > 6


def test_nothing_is_sheared_where_slices_are_thick():
    mask = blob((20, 20, 20))
    spacing = (5.0, 1.0, 1.0)
    for seed in range(5):
        _, marked = varied(mask, only(rotation=30, turns=True), seed, spacing=spacing)
        assert marked.any((1, 2)).tolist() == mask.any((1, 2)).tolist(), "slices stay slices"
        assert (marked != mask).any()
    sagittal = [varied(mask, only(rotation=30), seed, spacing=(1.0, 1.0, 5.0))[1] for seed in range(5)]
    assert all(marked.any((0, 1)).tolist() == mask.any((0, 1)).tolist() for marked in sagittal)
    _, everywhere = varied(mask, only(rotation=30), 0)
    assert everywhere.any((1, 2)).tolist() != mask.any((1, 2)).tolist()


def test_labels_are_kept_as_they_are():
    labels = np.zeros((24, 24), np.uint16)
    labels[4:12, 4:12], labels[12:20, 12:20] = 7, 300
    for seed in range(5):
        _, marked = vary_slice(labels, labels, np.random.default_rng(seed), only(rotation=30, zoom=0.2))
        assert marked.dtype == np.uint16 and set(np.unique(marked)) == {0, 7, 300}


def test_grey_values_change_by_what_is_said():
    image = np.random.default_rng(0).normal(100, 30, (64, 64))
    mask = np.zeros(image.shape, bool)

    def change(seed: int, **what) -> np.ndarray:
        found, marked = vary_slice(image, mask, np.random.default_rng(seed), only(**what))
        assert not marked.any() and np.isfinite(found).all()
        return found - image

    shifts = [change(seed, brightness=0.5) for seed in range(20)]
    assert all(np.ptp(shift) < 1e-3 and abs(shift.mean()) <= 15.01 for shift in shifts)
    assert np.ptp([shift.mean() for shift in shifts]) > 10
    for seed in range(5):
        gamma = change(seed, contrast=0.3) + image
        assert np.isclose([gamma.min(), gamma.max()], [image.min(), image.max()], atol=0.1).all()
        assert (np.argsort(gamma.ravel()) == np.argsort(image.ravel())).mean() > 0.9
    deviations = [change(seed, noise=0.2).std() for seed in range(20)]
    assert max(deviations) < 6.5 and np.ptp(deviations) > 2


def test_nothing_is_done_where_nothing_is_wished_and_flat_grey_stays_finite():
    image = np.full((20, 20), 3.0)
    mask = blob((20, 20))
    found, marked = vary_slice(image, mask, np.random.default_rng(0), PLAIN)
    assert (found == image).all() and (marked == mask).all()
    for seed in range(5):
        assert np.isfinite(vary_slice(image, mask, np.random.default_rng(seed), Variation(chance=1))[0]).all()


def test_shapes_that_do_not_fit():
    random = np.random.default_rng(0)
    for image, mask in itertools.product([(20, 20)], [(20, 21), (20, 20, 3), (1, 20, 20)]):
        with pytest.raises(InputError, match="cannot be varied together"):
            vary_slice(np.zeros(image), np.zeros(mask, bool), random)
    with pytest.raises(InputError, match=r"\(20, 20, 20, 3\)"):
        vary_volume(np.zeros((20, 20, 20, 3)), np.zeros((20, 20, 20), bool), random)
