"""Dice on masks whose overlap can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.errors import InputError
from napari_sammed.evaluation.metrics import dice


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0),
        ([1, 1, 1, 0], [0, 1, 1, 1], 2 / 3),
        ([1, 0, 0, 0], [1, 1, 1, 0], 0.5),
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),
        ([0, 0, 0, 0], [0, 1, 0, 0], 0.0),
    ],
)
def test_dice_is_twice_the_overlap_over_the_sum(first: list[int], second: list[int], expected: float) -> None:
    assert dice(np.array(first, bool), np.array(second, bool)) == pytest.approx(expected)


def test_dice_refuses_masks_that_numpy_would_broadcast() -> None:
    with pytest.raises(InputError, match=r"\(3, 1\).*\(3, 3\)"):
        dice(np.ones((3, 1), bool), np.ones((3, 3), bool))
