"""Area resampling against the golden slice and against values worked out with OpenCV 4.11."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from napari_sammed.models.resize import resize_area, resize_mask
from tests.golden import Golden

# Source shape, target shape, and the CRC-32 of what OpenCV 4.11 makes of `noise(source)` with INTER_AREA.
OPENCV = [
    ((512, 512), (256, 256), 0x362A1B5D),
    ((90, 120, 3), (48, 64), 0xD8AEA3BE),
    ((290, 320), (232, 256), 0x2AE91D86),
    ((120, 120), (40, 40), 0x73675873),
    ((101, 122), (212, 256), 0xF90E56C5),
    ((128, 128), (256, 256), 0x8CFB385C),
    ((60, 55, 3), (256, 235), 0xC7875125),
    ((255, 255), (256, 256), 0x4DF3A001),
]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(("source", "target", "crc"), OPENCV, ids=[f"{s}-{t}" for s, t, _ in OPENCV])
def test_noise_as_opencv(source, target, crc):
    assert zlib.crc32(resize_area(noise(source), target).tobytes()) == crc


def test_golden_slice(shared):
    golden = Golden(shared / "goldens" / "lite_medsam.npz")
    expected = golden["out.pre.resized_uint8"]
    assert np.array_equal(resize_area(golden["in.image_gray"], expected.shape), expected)


def test_one_axis_shrinks_while_the_other_grows():
    image = noise((8, 4))
    expected = resize_area(resize_area(image, (4, 4)), (4, 6))
    assert np.array_equal(resize_area(image, (4, 6)), expected)


def test_same_shape_is_a_copy():
    image = noise((5, 7))
    result = resize_area(image, (5, 7))
    assert np.array_equal(result, image)
    assert result is not image


def test_mask_pixel_needs_more_than_half():
    mask = np.zeros((6, 9), bool)
    mask[:3, :5] = True  # 3 x 3 cells: full, 6 of 9, none
    mask[3:4, :3] = True  # 3 of 9
    assert resize_mask(mask, (2, 3)).tolist() == [[True, True, False], [False, False, False]]
