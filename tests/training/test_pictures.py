"""Pictures to learn from: masks stay on what they mark, whatever is done to the picture, and draws repeat."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.training.invented import invent
from napari_sammed.training.pictures import LEAST, SIDE, Source, disturbed, fitted, largest, smooth_noise


def _source(kind: str = "8-bit", **settings) -> Source:
    """Thick slices: a bright slab (label 1) and a brighter bar (label 2) on black."""
    labels = np.zeros((6, 60, 80), np.uint8)
    labels[1:5, 10:40, 20:60] = 1
    labels[1:5, 20:30, 30:70] = 2
    return Source(np.array([0, 120, 250])[labels].astype(np.float32), labels, (4.0, 1.0, 1.0), kind, **settings)


@pytest.mark.parametrize("kind", ["8-bit", "mr"])
def test_masks_lie_on_what_they_mark(kind):
    source = _source(kind, planes=(0, 1, 2))
    for number in range(30):
        picture = source.picture(np.random.default_rng(number))
        assert max(picture.pixels.shape[:2]) == SIDE
        assert picture.pixels.dtype == np.uint8
        assert picture.masks.shape[1:] == picture.pixels.shape[:2]
        assert all(LEAST <= mask.sum() <= 0.8 * mask.size for mask in picture.masks)


def test_a_label_keeps_its_grey_value():
    values = np.zeros((50, 40))
    values[10:30, 5:25] = 1
    picture = fitted(values, values[None] > 0)
    assert picture.pixels.shape == (256, 205)
    assert picture.pixels[picture.masks[0]].mean() > 245
    assert picture.pixels[~picture.masks[0]].mean() < 6


def test_draws_repeat_and_differ():
    source = _source()
    one, again, other = (source.picture(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.pixels, again.pixels)
    np.testing.assert_array_equal(one.masks, again.masks)
    assert one.pixels.shape != other.pixels.shape or (one.pixels != other.pixels).any()


def test_groups_are_structures_too():
    masks = _source(groups=[(1, 2)], single=False)._masks(np.array([[0, 1], [2, 2]]), np.random.default_rng(1))
    np.testing.assert_array_equal(masks[0], [[False, True], [True, True]])


def test_specks_and_backgrounds_are_left_out():
    masks = np.zeros((3, 256, 256), bool)
    masks[0, :5, :5] = masks[1] = masks[2, :50, :50] = True
    kept = fitted(np.zeros((256, 256)), masks).masks
    np.testing.assert_array_equal(kept, masks[2:])


@pytest.mark.parametrize("odd", [False, True])
def test_invented_things_can_be_seen(odd):
    random = np.random.default_rng(5)
    found = 0
    for _ in range(12):
        picture = invent(random, odd=odd)
        pixels = picture.pixels.astype(float)
        assert np.isfinite(pixels).all()
        for mask in picture.masks:
            found += 1
            assert mask.sum() >= LEAST
    assert found >= 12


def test_real_anatomy_is_bent_but_kept():
    anatomy = np.zeros((80, 80), np.int32)
    anatomy[20:60, 10:40], anatomy[30:50, 45:70] = 5, 9
    counts = [len(invent(np.random.default_rng(seed), anatomy).masks) for seed in range(10)]
    assert sum(counts) >= 10


def test_disturbances_keep_the_range():
    random = np.random.default_rng(0)
    for shape in ((40, 50), (40, 50, 3)):
        for _ in range(40):
            values = disturbed(np.full(shape, 0.5), random)
            assert values.shape[:2] == shape[:2]
            assert values.min() >= 0
            assert values.max() <= 1


def test_smooth_noise_is_smooth():
    field = smooth_noise((100, 120), 30, np.random.default_rng(0))
    assert field.shape == (100, 120)
    assert abs(field.mean()) < 1e-6
    assert abs(field.std() - 1) < 1e-6
    assert np.abs(np.diff(field, axis=0)).max() < 0.5


def test_largest_piece():
    mask = np.zeros((9, 9), bool)
    mask[0, 0], mask[4:8, 4:8] = True, True
    assert largest(mask).sum() == 16
