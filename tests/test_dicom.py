"""DICOM series: sorted by place, gaps filled and told, what makes no volume refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.volume import ImageWarning, read_volume, write_mask
from tests.dicom_files import SECOND, write_series, write_slice
from tests.orientations import rotation

STORED = np.random.default_rng(0).integers(0, 3000, (6, 16, 20)).astype(np.uint16)
VALUES = STORED.astype(np.int16) - 1024
PLACES = np.arange(6) * 2.5


def test_a_series_is_sorted_by_place(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, VALUES)
    assert (volume.array.dtype, volume.modality) == (np.int16, "CT")
    expected = Grid((6, 16, 20), (2.5, 0.7, 0.8), (-100, 50, 20), Grid.plain((1, 1, 1)).direction)
    assert volume.grid.same_place(expected)


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    write_series(tmp_path, STORED[:3], PLACES[:3], series=SECOND)
    (tmp_path / "notes.txt").write_text("not an image")
    volume = read_volume(tmp_path / "1_0002.dcm")
    np.testing.assert_array_equal(volume.array, VALUES)


def test_several_series_are_listed_and_chosen(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    write_series(tmp_path, STORED[:3], PLACES[:3], series=SECOND, modality="MR", description="T1", intercept=0)
    with pytest.raises(InputError, match=r"'series'") as error:
        read_volume(tmp_path)
    assert "1 = CT 'Thorax', 6 files" in str(error.value)
    assert f"2 = MR 'T1', 3 files ({SECOND})" in str(error.value)
    assert "\n" not in str(error.value)
    for choice in ("2", SECOND):
        volume = read_volume(tmp_path, series=choice)
        assert (volume.modality, volume.grid.shape[0]) == ("MR", 3)
    for choice in ("3", "9.9", "1.2.826"):
        with pytest.raises(InputError, match=r"(no|more than one) series"):
            read_volume(tmp_path, series=choice)


def test_descriptions_in_another_character_set(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES, description="Sch\u00e4del")
    write_series(tmp_path, STORED, PLACES, description="Becken", series=SECOND)
    with pytest.raises(InputError, match=r"1 = CT 'Sch.+del'") as error:
        read_volume(tmp_path)
    assert str(error.value).encode("utf-8")
    assert read_volume(tmp_path, series="1").grid.shape[0] == 6


@pytest.mark.parametrize("seed", range(4))
def test_oblique_series_lie_where_simpleitk_has_them(tmp_path: Path, seed: int) -> None:
    axes = rotation(np.random.default_rng(seed))
    write_series(tmp_path, STORED, PLACES, rows_and_columns=(*axes[:, 0], *axes[:, 1]))
    volume = read_volume(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    other = Grid.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    assert volume.grid.same_place(other)


def test_missing_slices_are_filled_and_named(tmp_path: Path) -> None:
    there = [0, 1, 4, 5]
    write_series(tmp_path, STORED[there], PLACES[there])
    with pytest.warns(ImageWarning, match=r"2 of 6 slices are missing \(index 2, 3; at 25.0, 27.5 mm"):
        volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array[there], VALUES[there])
    between = np.rint(VALUES[1] + (VALUES[4].astype(float) - VALUES[1]) / 3)
    np.testing.assert_array_equal(volume.array[2], between)
    assert volume.grid.spacing[0] == pytest.approx(2.5)
    np.testing.assert_allclose(volume.grid.to_world([5, 0, 0]), [-100, 50, 32.5])


@pytest.mark.parametrize("places", [(0, 2.5, 5, 8.6, 11.1, 13.6), (0, 1, 3.2, 5, 6, 7)], ids=str)
def test_irregular_distances_are_refused(tmp_path: Path, places: tuple) -> None:
    write_series(tmp_path, STORED, places)
    with pytest.raises(InputError, match=r"irregular distances: \d\.\d+ mm between slices"):
        read_volume(tmp_path)


def test_rounded_positions_are_no_irregularity(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, np.round(np.arange(6) * 0.625, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read_volume(tmp_path)
    assert volume.grid.shape[0] == 6
    assert volume.grid.spacing[0] == pytest.approx(0.62)


def test_more_missing_than_there_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, STORED[:3], [0, 2.5, 50])
    with pytest.raises(InputError, match="18 slices are missing between the 3"):
        read_volume(tmp_path)


def test_a_gantry_tilt_keeps_every_voxel_in_place(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", STORED, PLACES, lean=(0, 0.25, 0))
    with pytest.warns(ImageWarning, match="perpendicular"):
        volume = read_volume(tmp_path / "ct")
    for i, place in enumerate(PLACES):
        np.testing.assert_allclose(volume.grid.to_world([i, 0, 0]), [-100, 50 + 0.25 * place, 20 + place], atol=1e-5)
    write_mask(volume.array > 0, volume.grid, tmp_path / "mask.nrrd")


def test_a_stack_that_wanders_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    for file, shift in zip(sorted(tmp_path.iterdir()), (0, 0, 30, 0, 0, 0), strict=True):
        if shift:
            write_slice(file, STORED[0], position=(-100 + shift, 50, 20 + PLACES[3]), number=4)
    with pytest.raises(InputError, match="straight stack"):
        read_volume(tmp_path)


def test_a_localizer_among_the_slices_is_named(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    write_slice(tmp_path / "zz.dcm", STORED[0], rows_and_columns=(0, 1, 0, 0, 0, -1))
    with pytest.raises(InputError, match=r"orientation.*zz\.dcm"):
        read_volume(tmp_path)


def test_slices_of_different_size_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    write_slice(tmp_path / "zz.dcm", STORED[0, :8])
    with pytest.raises(InputError, match=r"zz\.dcm has \(20, 8\) pixels"):
        read_volume(tmp_path)


def test_time_points_are_frames(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, PLACES)
    for i, place in enumerate(PLACES):
        write_slice(tmp_path / f"late{i}.dcm", STORED[i] + 7, position=(-100, 50, 20 + place), number=100 + i)
    with pytest.raises(InputError, match="2 frames"):
        read_volume(tmp_path)
    np.testing.assert_array_equal(read_volume(tmp_path, frame=0).array, VALUES)
    np.testing.assert_array_equal(read_volume(tmp_path, frame=1).array, VALUES + 7)
    (tmp_path / "late3.dcm").unlink()
    with pytest.raises(InputError, match="2 images and others 1"):
        read_volume(tmp_path)


def test_a_single_image_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", STORED[0], position=None, modality="DX", intercept=0)
    volume = read_volume(tmp_path / "a.dcm")
    assert volume.grid.shape == (1, 16, 20)
    assert volume.modality == "DX"
    np.testing.assert_allclose(volume.grid.spacing[1:], (0.7, 0.8))
    np.testing.assert_array_equal(volume.array[0], STORED[0])


def test_frames_of_one_file_are_a_stack(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", STORED, intercept=0)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array, STORED)


def test_colour(tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(0, 255, (16, 20, 3)).astype(np.uint8)
    write_slice(tmp_path / "a.dcm", colour, modality="US")
    volume = read_volume(tmp_path / "a.dcm")
    assert (volume.channels, volume.grid.shape) == (3, (1, 16, 20))
    np.testing.assert_array_equal(volume.array[0], colour)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    for i, slope in enumerate((1, 0.5, 2)):
        write_slice(tmp_path / f"{i}.dcm", STORED[i], position=(0, 0, 3 * i), slope=slope, intercept=0, modality="PT")
    volume = read_volume(tmp_path)
    assert volume.array.dtype.kind == "f"
    np.testing.assert_allclose(volume.array, STORED[:3] * np.array([1, 0.5, 2])[:, None, None])


def test_slices_without_a_place_are_stacked_by_number(tmp_path: Path) -> None:
    for i in range(3):
        write_slice(tmp_path / f"{9 - i}.dcm", STORED[i], position=None, number=i + 1)
    with pytest.warns(ImageWarning, match="do not say where they lie"):
        volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, VALUES[:3])
