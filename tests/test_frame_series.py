"""Labels of a series in one file: objects where they were on every frame, geometry kept, values by name."""

from __future__ import annotations

import json
import threading

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.formats import label_series
from napari_sammed.geometry import Grid
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session import frames as series
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.frame_files import save_apart, save_together
from napari_sammed.session.frames import Frame, values_of
from napari_sammed.volume import read_volume, write_mask

OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def frame(index: int, *objects: tuple[int, str, tuple[int, ...]]) -> Frame:
    """With cubes of two voxels a side."""
    states = [
        ObjectState(label, name, mask=MaskPrompt(np.ones((2,) * len(low), bool), low), colour="#e69f00")
        for label, name, low in objects
    ]
    return Frame.of(index, f"t{index:03d}", lambda: states)


def volume_frames() -> tuple[list[Frame], Grid, np.ndarray]:
    """A liver that goes on, and two others that share a label; what the file has to hold."""
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE[:, ::-1] * (3.0, 2.0, 1.5)
    affine[:3, 3] = (-20.0, 11.0, 7.0)
    grid = Grid.from_affine((5, 7, 9), affine)
    frames = [
        frame(0, (1, "liver", (0, 0, 0)), (2, "cyst", (2, 3, 4))),
        frame(2, (1, "liver", (1, 0, 0)), (2, "spleen", (3, 5, 7))),
        frame(3, (4, "liver", (2, 0, 0))),
    ]
    wanted = np.zeros((5, *grid.shape), int)
    wanted[0, 0:2, 0:2, 0:2], wanted[0, 2:4, 3:5, 4:6] = 1, 2
    wanted[2, 1:3, 0:2, 0:2], wanted[2, 3:5, 5:7, 7:9] = 1, 5
    wanted[3, 2:4, 0:2, 0:2] = 1
    return frames, grid, wanted


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".tif", ".ome.zarr"])
def test_all_frames_of_volumes_in_one_file(tmp_path, ending):
    frames, grid, wanted = volume_frames()
    path, values = tmp_path / f"all{ending}", values_of(frames)
    assert values.names == {1: "liver", 2: "cyst", 5: "spleen"}
    save_together(frames, 5, grid, path, values, step=2.5)
    for index in range(5):
        image = read_volume(path, frame=index)
        np.testing.assert_array_equal(image.array, wanted[index])
        if ending not in (".tif", ".ome.zarr"):  # which keep no directions
            np.testing.assert_allclose(image.grid.affine, grid.affine, atol=1e-4)
    names = [] if ending == ".ome.zarr" else [f"{path.name}.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, *names]


def test_others_read_the_series(tmp_path):
    frames, grid, wanted = volume_frames()
    for ending in (".nii.gz", ".nrrd", ".tif"):
        save_together(frames, 5, grid, tmp_path / f"all{ending}", values_of(frames), step=2.5)
    nifti = nibabel.load(tmp_path / "all.nii.gz")
    np.testing.assert_array_equal(np.asarray(nifti.dataobj).T, wanted)
    assert nifti.header.get_zooms()[3] == 2.5
    write_mask(wanted[0], grid, tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(nifti.affine, nibabel.load(tmp_path / "one.nii.gz").affine)
    for ending in (".nii.gz", ".nrrd"):
        image = sitk.ReadImage(str(tmp_path / f"all{ending}"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), wanted)
        np.testing.assert_allclose(image.GetSpacing(), (*grid.spacing[::-1], 2.5), rtol=1e-5)
    with tifffile.TiffFile(tmp_path / "all.tif") as file:
        assert file.series[0].axes == "TZYX" and file.series[0].shape == wanted.shape
        assert 'TimeIncrement="2.5"' in file.ome_metadata


@pytest.mark.parametrize("ending", [".nii.gz", ".tif", ".ome.zarr", ".nrrd"])
def test_flat_frames(tmp_path, ending):
    frames = [frame(1, (1, "cell", (3, 4))), frame(2, (300, "other", (5, 1)))]
    wanted = np.zeros((4, 8, 9), int)
    wanted[1, 3:5, 4:6], wanted[2, 5:7, 1:3] = 1, 300
    path = tmp_path / f"cells{ending}"
    save_together(frames, 4, Grid.plain((8, 9), (0.5, 0.25)), path, values_of(frames))
    if ending == ".nii.gz":
        found = np.asarray(nibabel.load(path).dataobj)[:, :, 0].T
        assert nibabel.load(path).header.get_zooms()[:2] == (0.25, 0.5)
    elif ending == ".ome.zarr":
        found = np.stack([read_volume(path, frame=index).array for index in range(4)])
    else:
        found = read_volume(path).array
    np.testing.assert_array_equal(found, wanted)


def test_a_file_a_frame_with_the_same_values(tmp_path):
    frames, grid, wanted = volume_frames()
    written = save_apart(frames, grid, tmp_path / "ct.nii.gz", values_of(frames))
    assert [path.name for path in written] == ["ct_t000.nii.gz", "ct_t002.nii.gz", "ct_t003.nii.gz"]
    for path, index in zip(written, (0, 2, 3), strict=True):
        image = read_volume(path)
        np.testing.assert_array_equal(image.array, wanted[index])
        np.testing.assert_allclose(image.grid.affine, grid.affine, atol=1e-4)
    names = json.loads((tmp_path / "ct.nii.gz.json").read_text(encoding="utf-8"))
    assert names == {"labels": {"1": "liver", "2": "cyst", "5": "spleen"}} and len(list(tmp_path.iterdir())) == 4


def test_two_objects_of_one_name_stay_two():
    values = values_of([frame(0, (1, "a", (0, 0)), (2, "a", (4, 4))), frame(1, (1, "b", (0, 0)), (3, "a", (4, 4)))])
    assert values.of == {0: {1: 1, 2: 2}, 1: {1: 4, 3: 1}}
    assert values.names == {1: "a", 2: "a", 4: "b"}
    assert values.only(4).of == {0: {}, 1: {1: 1}}


def test_the_table_says_which_value_is_what_and_how_large():
    frames, grid, _ = volume_frames()
    lines = series.table(frames, values_of(frames), grid).splitlines()
    assert lines[:3] == ["value,name,class,frame,voxels,volume mm3", "1,liver,,0,8,72", "1,liver,,2,8,72"]
    assert lines[-1] == "5,spleen,,2,8,72"


@pytest.mark.parametrize("name, said", [("a.png", "PNG"), ("a.dcm", "DICOM"), ("a.xyz", "no format")])
def test_formats_that_cannot_say_so(tmp_path, name, said):
    frames = [frame(1, (1, "cell", (3, 4)))]
    with pytest.raises(InputError, match=said):
        save_together(frames, 4, Grid.plain((8, 9)), tmp_path / name, values_of(frames))
    assert not list(tmp_path.iterdir())


def test_what_has_to_be_held_is_bounded(tmp_path, monkeypatch):
    frames, grid, _ = volume_frames()
    monkeypatch.setattr(label_series, "MOST_HELD", 4 * 5 * 7 * 9)
    with pytest.raises(InputError, match=r"GiB .* choose \.nii\.gz"):
        save_together(frames, 5, grid, tmp_path / "a.nrrd", values_of(frames))
    save_together(frames, 5, grid, tmp_path / "a.nii.gz", values_of(frames))


@pytest.mark.parametrize("ending", [".nii.gz", ".tif", ".ome.zarr", ".mha"])
def test_cancel_leaves_what_was_there(tmp_path, ending):
    frames, grid, _ = volume_frames()
    cancel = threading.Event()
    told = []

    def progress(text: str, share: float) -> None:
        told.append(share)
        if share > 0.3:
            cancel.set()

    with pytest.raises(Cancelled):
        save_together(frames, 5, grid, tmp_path / f"a{ending}", values_of(frames), progress=progress, cancel=cancel)
    assert told == sorted(told) and not list(tmp_path.iterdir())
