"""What grey values tell of an object, and how it keeps a walk from leaking."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend.appearance import Appearance
from napari_sammed.backend.propagation import propagate
from napari_sammed.backend.slice_step import Rules, blend, candidate_boxes
from napari_sammed.backend.slicing import slice_of
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits
from napari_sammed.prompts import MaskPrompt
from tests.backend.boxes import Slices

OBJECT, SURROUNDINGS = 100.0, 60.0


def disc(radius: float, size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return rows**2 + columns**2 < radius**2


def noisy(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.where(mask, OBJECT, SURROUNDINGS) + np.random.default_rng(seed).normal(0, 8, mask.shape)


def test_tells_the_object_from_its_surroundings_on_another_slice():
    log_odds = Appearance([(noisy(disc(15)), disc(15))]).log_odds(noisy(disc(20), seed=1))
    assert (log_odds[disc(19)] > 0).mean() > 0.97
    assert (log_odds[~disc(21)] < 0).mean() > 0.97


@pytest.mark.parametrize("pixels", [np.full((64, 64), 5.0), np.full((64, 64), np.nan)], ids=["constant", "nan"])
def test_says_nothing_where_grey_values_say_nothing(pixels):
    assert np.array_equal(Appearance([(pixels, disc(15))]).log_odds(pixels), np.zeros_like(pixels))


def test_pixels_that_are_not_numbers_do_not_spread():
    pixels = noisy(disc(15))
    pixels[30:34, 30:34] = np.nan
    log_odds = Appearance([(pixels, disc(15))]).log_odds(pixels)
    assert np.isfinite(log_odds).all() and (log_odds[disc(13)] > -1).all()


def test_a_leak_into_the_surroundings_is_taken_back():
    body, leak = disc(15), np.zeros((64, 64), bool)
    leak[28:36, 44:60] = True
    answers = [(np.where(body | leak, 2.0, -2.0), 0.9), (np.where(body, 2.0, -2.0), 0.8)]
    nothing = blend(answers, np.zeros((64, 64)), body | leak, 1.0, Rules())
    assert nothing.mask[leak].mean() > 0.9  # the neighbour had leaked already, so the leaking answer is preferred
    log_odds = Appearance([(noisy(body), body)]).log_odds(noisy(body, seed=1))
    found = blend(answers, log_odds, body | leak, 1.0, Rules())
    assert found.mask[leak & ~body].mean() < 0.05
    assert found.mask[disc(14)].mean() > 0.97


def test_asks_for_a_box_around_what_has_grown():
    grid = Grid.plain((3, 64, 64), (1.0, 1.0, 1.0))
    wide = disc(13)
    wide[28:36, 40:50] = True  # grows to one side only, by more than any margin
    log_odds = Appearance([(noisy(disc(13)), disc(13))]).log_odds(noisy(wide, seed=1))
    rules = Rules(margins=(1 / 64, 3 / 64), growth=10 / 64)
    region = slice_of(grid, 0, 1)
    boxes = candidate_boxes(disc(13), log_odds, grid.box, region, 0, grid, rules)
    tight = Box.of_mask(wide[None]).shift((1, 0, 0))
    assert any(
        box.low[1] <= tight.low[1] and box.high[2] >= tight.high[2] and box.low[2] >= tight.low[2] - 2 for box in boxes
    )


class Leaky(Slices):
    """Answers every box with the object and, beyond slice 5, with everything else in the box."""

    def __init__(self, grey: np.ndarray, truth: np.ndarray) -> None:
        super().__init__(truth)
        self.grey = grey

    def pixels(self, region: Box) -> np.ndarray:
        return self.grey[region.slices].astype(np.float32)

    def restore(self, logits: Logits) -> np.ndarray:
        values = logits.values / 4
        return values if logits.region.box.low[0] <= 5 else np.maximum(values, np.where(values < 0, 0.5, values))


def test_a_walk_stays_in_the_object_when_the_network_leaks():
    truth = np.repeat(disc(15)[None], 11, 0)
    engine = Leaky(np.stack([noisy(flat, seed) for seed, flat in enumerate(truth)]), truth)
    walk = propagate(engine, [MaskPrompt(truth[:1], (0, 0, 0))], 0)
    mask = np.zeros(truth.shape, bool)
    mask[walk.scope.slices] = walk.mask
    for flat, expected in zip(mask, truth, strict=True):
        assert 2 * (flat & expected).sum() / (flat.sum() + expected.sum()) > 0.95
