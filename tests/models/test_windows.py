"""Windows that cover a part of an image: inside it, everywhere, overlapping by half, blended without a seam."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.geometry import Box
from napari_sammed.models.windows import covering, importance

CASES = {
    "one window": (Box((10, 10), (20, 30)), (64, 64), Box.of_shape((100, 100)), 1),
    "at the rim": (Box((0, 80), (20, 100)), (64, 64), Box.of_shape((100, 100)), 1),
    "several": (Box((5, 10, 0), (35, 300, 511)), (32, 256, 256), Box.of_shape((40, 512, 512)), 6),
    "image smaller than a window": (Box((2, 3), (9, 9)), (64, 8), Box.of_shape((10, 200)), 1),
    "a slice": (Box((7, 0, 0), (8, 500, 300)), (1, 256, 256), Box.of_shape((30, 512, 512)), 6),
    "odd": (Box((1, 2), (100, 58)), (33, 7), Box((0, 1), (101, 60)), 108),
}


@pytest.mark.parametrize(("part", "shape", "limit", "count"), CASES.values(), ids=CASES)
def test_windows_cover_the_part_inside_the_limit(part, shape, limit, count):
    boxes = covering(part, shape, limit)
    wanted = tuple(map(min, shape, limit.shape))
    seen = np.zeros(limit.shape, int)
    for box in boxes:
        assert box.shape == wanted
        assert box.intersect(limit) == box
        seen[box.shift([-low for low in limit.low]).slices] += 1
    assert (seen[part.shift([-low for low in limit.low]).slices] > 0).all()
    assert len(set(boxes)) == len(boxes)
    assert len(boxes) == count


def test_a_smaller_part_lies_in_the_middle_of_its_window():
    (box,) = covering(Box((40, 40), (50, 50)), (30, 20), Box.of_shape((100, 100)))
    assert box == Box((30, 35), (60, 55))


@pytest.mark.parametrize("shape", [(32, 256, 256), (1, 64, 64), (7,), (1,)])
def test_importance_falls_from_the_middle_and_never_vanishes(shape):
    weights = importance(shape)
    assert weights.shape == shape
    assert weights.dtype == np.float32
    assert weights.min() > 0
    middle = tuple(size // 2 for size in shape)
    assert weights[middle] == weights.max() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(weights, np.flip(weights), rtol=1e-5)
    assert weights[(0,) * len(shape)] <= weights[middle]
