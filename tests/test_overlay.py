"""Overlays are the right way up and undistorted, however the image is stored."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.intensity import Window
from napari_sammed.overlay import COLOURS, overlay, slice_overlay, write_overlay
from napari_sammed.volume import Volume
from tests.orientations import ALL_48, reorient

SHAPE, SPACING = (12, 40, 50), (5.0, 1.0, 1.2)  # z, y, x
WINDOW = Window.displayed(0, 100)


@pytest.fixture
def head():
    """A volume in LPS order, bright in its left anterior superior corner, and an object in the middle."""
    array = np.zeros(SHAPE, np.float32)
    array[8:, :12, 35:] = 100
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:7, 15:25, 20:30] = 1
    return Volume(array, Grid.plain(SHAPE, SPACING)), labels


def planes(picture: np.ndarray) -> list[np.ndarray]:
    """Axial, coronal and sagittal panel of a picture, by the widths that their millimetres ask for."""
    scale = picture.shape[0] / 60  # the coronal and sagittal planes are 60 mm high, the axial one 40
    widths = [round(60 * scale), round(60 * scale), round(40 * scale)]
    assert picture.shape[1] == sum(widths) + 16
    starts = np.cumsum([0, *(w + 8 for w in widths)])
    return [picture[:, start : start + width] for start, width in zip(starts, widths, strict=False)]


def test_left_is_right_and_anterior_and_superior_are_up(head):
    volume, _ = head
    labels = np.zeros(SHAPE, bool)
    labels[10, 5, 42] = True  # in the bright corner
    axial, coronal, sagittal = planes(overlay(volume, labels, window=WINDOW, height=240))
    h, w = 240, 240
    assert axial[60, w - 20].min() == 100 * 255 // 100 and axial[180, w - 20].max() == 0
    assert axial[60, 20].max() == 0
    assert coronal[20, w - 20].min() == 255 and coronal[h - 20, w - 20].max() == 0 and coronal[20, 20].max() == 0
    assert sagittal[20, 20].min() == 255 and sagittal[20, 140].max() == 0 and sagittal[h - 20, 20].max() == 0


@pytest.mark.parametrize(("permutation", "flips"), ALL_48)
def test_the_picture_does_not_depend_on_how_the_image_is_stored(head, permutation, flips):
    volume, labels = head
    expected = overlay(volume, labels, window=WINDOW, height=120)
    turned = reorient(volume, permutation, flips)
    turned_labels = reorient(Volume(labels, volume.grid), permutation, flips).array
    np.testing.assert_array_equal(overlay(turned, turned_labels, window=WINDOW, height=120), expected)


@pytest.mark.parametrize(("permutation", "flips"), ALL_48)
def test_one_slice_is_drawn_like_the_whole_however_the_image_is_stored(head, permutation, flips):
    """Whatever plane of the patient the first array axis gives: that panel of the overlay, at its own scale."""
    volume, _ = head
    marked = np.zeros(SHAPE, np.uint8)
    marked[10, 5, 42] = 1
    turned = reorient(volume, permutation, flips)
    labels = reorient(Volume(marked, volume.grid), permutation, flips).array
    index = int(np.flatnonzero(labels.any(axis=(1, 2)))[0])
    axis = permutation[0]
    panel = planes(overlay(volume, marked, window=WINDOW, height=240))[axis]
    panel = panel[40:200] if axis == 0 else panel  # 40 of 60 mm high
    drawn = slice_overlay(turned, index, labels[index], window=WINDOW, height=len(panel))
    np.testing.assert_array_equal(drawn, panel)


def test_the_object_lies_where_it_is_and_keeps_its_millimetres(head):
    volume, labels = head
    axial, coronal, _ = planes(overlay(volume, labels, window=WINDOW, height=240))  # 4 pixels a mm
    orange = (axial == COLOURS[0]).all(-1)
    rows, columns = np.nonzero(orange)
    assert abs(rows.min() - (40 + 15 * 4)) <= 1 and abs(rows.max() + 1 - (40 + 25 * 4)) <= 1  # 160 of 240 rows used
    assert abs(columns.min() - 20 * 4.8) <= 1 and abs(columns.max() + 1 - 30 * 4.8) <= 1
    rows, _ = np.nonzero((coronal == COLOURS[0]).all(-1))
    assert abs(rows.max() + 1 - rows.min() - 2 * 5 * 4) <= 10  # two slices of 5 mm, edges smoothed


def test_a_flat_colour_image_and_its_file(tmp_path):
    array = np.zeros((40, 60, 3), np.uint8)
    array[:20, :, 2] = 200
    labels = np.zeros((40, 60), bool)
    labels[25:35, 10:20] = True
    write_overlay(tmp_path / "o.png", Volume.from_array(array), labels)
    picture = np.asarray(Image.open(tmp_path / "o.png"))
    assert picture.shape == (480, 720, 3)
    assert tuple(picture[60, 600]) == (0, 0, 200) and tuple(picture[460, 600]) == (0, 0, 0)
    assert (picture[300, 120:240] == COLOURS[0]).all(-1).any()


def test_without_an_object_the_middle_is_shown(head):
    volume, labels = head
    assert overlay(volume, labels * 0, window=WINDOW).any()


def test_what_cannot_be(head, tmp_path):
    volume, labels = head
    with pytest.raises(InputError, match="do not lie on"):
        overlay(volume, labels[1:])
    with pytest.raises(InputError, match="cannot be written"):
        write_overlay(tmp_path / "no" / "o.png", volume, labels)
