"""Pictures in reports show what is marked, large enough to be seen, and what is around it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from napari_sammed.evaluation.plots import picture
from napari_sammed.geometry import Grid
from napari_sammed.volume import Volume


def pixels(address: str) -> np.ndarray:
    """(rows, columns, 3), of a data address."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")).astype(int)


def coloured(found: np.ndarray) -> np.ndarray:
    return np.ptp(found, axis=-1) > 12


def ramp(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Volume:
    array = np.broadcast_to(np.linspace(0, 2000, shape[-1]).astype(np.int16), shape)
    return Volume(array, Grid.plain(shape, spacing))


@pytest.mark.parametrize("corner", [(0, 0), (380, 380), (200, 10)])
def test_what_is_small_fills_a_part_of_the_picture(corner):
    image, mask = ramp((400, 400), (1.0, 1.0)), np.zeros((400, 400), bool)
    rows, columns = (slice(start, start + 16) for start in corner)
    mask[rows, columns] = True
    found = pixels(picture(image, mask, mask))
    there = coloured(found)
    assert 0.015 < there.mean() < 0.08, "16 of 100 pixels, not of 400"
    assert found.shape[0] == found.shape[1]
    beside = np.argwhere(there).mean(0) / found.shape[:2]
    assert all(
        abs(at - (0.08 if low == 0 else 0.92 if low == 380 else 0.5)) < 0.1 or low == 10
        for at, low in zip(beside, corner, strict=True)
    )


def test_grey_values_are_those_of_the_whole_image():
    image, mask = ramp((400, 400), (1.0, 1.0)), np.zeros((400, 400), bool)
    mask[200:210, 300:310] = True
    greys = pixels(picture(image, mask, mask))[5, :, 0]
    assert greys.min() > 150 and greys.max() < 235, "from the 255th to the 355th of 400 columns"


def test_slices_are_cut_in_their_plane_and_volumes_along_all_axes():
    image, mask = ramp((40, 200, 200), (5.0, 1.0, 1.0)), np.zeros((40, 200, 200), bool)
    mask[18:22, 90:110, 90:110] = True
    flat = pixels(picture(image, mask[20], mask[20], 20))
    assert flat.shape[0] == flat.shape[1] and 0.08 < coloured(flat).mean() < 0.16, "20 of 60 pixels"
    assert 0.05 < coloured(pixels(picture(image, mask, mask))).mean() < 0.3


def test_all_is_shown_where_nothing_is_marked_or_much():
    image, nothing = ramp((100, 100), (1.0, 1.0)), np.zeros((100, 100), bool)
    assert np.ptp(pixels(picture(image, nothing, nothing))[..., 0]) > 240
    much = nothing.copy()
    much[10:90, 20:70] = True
    assert 0.3 < coloured(pixels(picture(image, much, nothing))).mean() < 0.5
    same = Volume(np.full((50, 50), 7, np.int16), Grid.plain((50, 50)))
    assert pixels(picture(same, much[:50, :50], much[:50, :50])).size
