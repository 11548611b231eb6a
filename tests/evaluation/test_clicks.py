"""The simulated user on boxes, whose middles are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.errors import InputError
from napari_sammed.evaluation.clicks import click_through, innermost, next_click
from napari_sammed.prompts import Point


def bar(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in sides)] = True
    return mask


def test_innermost_voxel_of_a_cube_is_its_middle() -> None:
    assert innermost(bar((20, 20, 20), (4, 9), (6, 11), (8, 13)), (1, 1, 1)) == (6, 8, 10)


def test_spacing_decides_which_part_is_thicker() -> None:
    mask = bar((30, 30), (2, 9), (2, 28)) | bar((30, 30), (2, 28), (2, 7))
    assert innermost(mask, (1.0, 1.0))[1] > 2 and innermost(mask, (1.0, 1.0))[0] <= 7
    row, column = innermost(mask, (1.0, 9.0))  # columns are 9 mm wide now: the upright bar is the thicker one
    assert column < 7
    assert row > 9


def test_border_of_the_array_counts_as_boundary() -> None:
    assert innermost(np.ones((9, 9), bool), (1, 1)) == (4, 4)


def test_empty_mask_has_no_innermost_voxel() -> None:
    with pytest.raises(InputError, match="empty"):
        innermost(np.zeros((4, 4), bool), (1, 1))


def test_first_click_is_in_the_middle_of_the_structure() -> None:
    truth = bar((20, 20), (5, 12), (5, 12))
    assert next_click(np.zeros_like(truth), truth, (1, 1)) == Point((8, 8), True)


def test_largest_mistake_is_corrected_with_its_sign() -> None:
    truth = bar((40, 40), (5, 15), (5, 15))
    missed = bar((40, 40), (5, 8), (5, 15))
    leaked = bar((40, 40), (20, 29), (20, 29))
    assert next_click((truth & ~missed) | leaked, truth, (1, 1)) == Point((24, 24), False)
    assert next_click(truth & ~missed, truth, (1, 1)).positive
    assert missed[tuple(int(i) for i in next_click(truth & ~missed, truth, (1, 1)).index)]


def test_touching_mistakes_of_different_sign_are_two_mistakes() -> None:
    truth, mask = bar((20, 20), (4, 14), (4, 10)), bar((20, 20), (4, 14), (7, 14))
    click = next_click(mask, truth, (1, 1))  # 4 columns leaked beside 3 missed ones
    assert not click.positive and mask[tuple(int(i) for i in click.index)]


def test_user_stops_when_the_answer_is_right() -> None:
    truth = bar((10, 10), (2, 8), (2, 8))
    rounds = list(click_through(lambda clicks: truth, truth, (1, 1), count=5))
    assert len(rounds) == 1


def test_user_hands_over_all_clicks_so_far() -> None:
    truth = bar((20, 20), (2, 9), (2, 18))
    seen = [len(clicks) for clicks, _ in click_through(lambda clicks: np.zeros_like(truth), truth, (1, 1), count=3)]
    assert seen == [1, 2, 3]
