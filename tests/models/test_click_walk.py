"""Walks for the click network: they keep to edges, mend answers about the clicks, know their place in the frame."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.models.click_walk import MAPS, seen, walked

SIDE = 64  # of the encoder's input; the maps have half of it
ROWS, COLUMNS = np.indices((SIDE, SIDE))
LEFT = np.hypot(ROWS - 32, COLUMNS - 18) < 11
RIGHT = np.hypot(ROWS - 32, COLUMNS - 46) < 11


@pytest.fixture(scope="module")
def samples():
    """Two bright discs of the same grey value on dark ground, in a frame whose lower quarter is padding."""
    random = np.random.default_rng(0)
    pixels = np.where(LEFT | RIGHT, 0.8, 0.2) + random.normal(0, 0.02, (SIDE, SIDE))
    pixels[48:] = 0
    return seen(np.repeat(pixels[None], 3, axis=0).astype(np.float32), (48, SIDE))


def maps(samples, clicks: dict[tuple[float, float], int], before: np.ndarray | None = None) -> np.ndarray:
    """Maps for clicks, x and y, and whether they are inside."""
    points, labels = np.array(list(clicks), np.float32).reshape(-1, 2), np.array(list(clicks.values()), np.float32)
    return walked(samples, points, labels, SIDE // 2, before)


def halved(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3)) > 0.5


def iou(mask: np.ndarray, wanted: np.ndarray) -> float:
    return (mask & wanted).sum() / (mask | wanted).sum()


def test_padding_is_not_seen(samples):
    assert samples.raw.shape == (24, 32)
    assert (maps(samples, {(18, 32): 1})[:, 24:] == 0).all()


def test_a_walk_from_a_click_stays_within_edges(samples):
    fine, coarse, mended = maps(samples, {(18, 32): 1})
    found = fine > 0
    assert iou(found, halved(LEFT)) > 0.85
    assert not (found & halved(RIGHT)).any()
    np.testing.assert_array_equal(coarse > 0, found)
    assert not mended.any(), "there is no answer that could be mended"


def test_a_negative_click_ends_the_walk(samples):
    alone, with_other = (maps(samples, clicks)[0] for clicks in ({(18, 32): 1}, {(18, 32): 1, (18, 24): 0}))
    assert with_other[12, 9] < 0 < alone[12, 9]
    assert with_other[16, 9] > 0


def test_an_answer_is_mended_about_the_click_and_kept_elsewhere(samples):
    before = np.where(halved(LEFT), 4, -4).astype(np.float32)
    mended = maps(samples, {(18, 32): 1, (46, 32): 1}, before)[2] > 0
    wanted = halved(LEFT | RIGHT)
    assert iou(mended, wanted) > 0.85
    taken = maps(samples, {(18, 32): 0}, np.where(wanted, 4, -4).astype(np.float32))[2] > 0
    assert iou(taken, halved(RIGHT)) > 0.85, "the disc under the click is taken away, the other one stays"


def test_a_click_that_agrees_changes_nothing(samples):
    before = np.where(halved(LEFT), 4, -4).astype(np.float32)
    assert iou(maps(samples, {(18, 32): 1}, before)[2] > 0, before > 0) > 0.97


def test_without_anything_to_start_from_there_are_no_maps(samples):
    nothing = np.zeros((MAPS, SIDE // 2, SIDE // 2), np.float32)
    np.testing.assert_array_equal(maps(samples, {(0, 0): -1}), nothing)
    np.testing.assert_array_equal(maps(samples, {(18, 32): 0}), nothing)
    np.testing.assert_array_equal(maps(samples, {(0, 0): -1, (18, 32): 1}), maps(samples, {(18, 32): 1}))


def test_an_image_without_contrast_has_no_walks():
    assert seen(np.full((3, SIDE, SIDE), 0.5, np.float32), (SIDE, SIDE)) is None
    assert not maps(None, {(18, 32): 1}).any()


def test_clicks_at_the_rim_and_slices_one_pixel_wide_are_no_trouble():
    pixels = np.zeros((3, SIDE, SIDE), np.float32)
    pixels[:, :, 0] = np.linspace(0, 1, SIDE)
    narrow = seen(pixels, (SIDE, 1))
    assert narrow.raw.shape == (32, 1)
    assert np.isfinite(maps(narrow, {(0, 0): 1, (0.4, 63.4): 0, (-0.5, -0.5): 1})).all()
