"""One file an object: names that every system takes, whole objects, the image's grid, nothing half written."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.prompts import MaskPrompt
from napari_sammed.segments import read_segments
from napari_sammed.session import Session
from napari_sammed.session.separate_files import object_files, safe_name, save_each
from napari_sammed.volume import read_volume
from tests.dicom_files import write_series
from tests.phantoms import two_balls


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("left kidney", "left_kidney"),
        ("../../etc/passwd", "etc_passwd"),
        ('a<b>:"c"|d?*', "a_b_c_d"),
        ("Läsion № 1", "Läsion_№_1"),
        ("v1.2", "v1_2"),
        ("  ", "object_3"),
        ("...", "object_3"),
    ],
)
def test_names_become_parts_of_file_names(text, name):
    assert safe_name(text, "object_3") == name


def test_long_names_are_cut_to_what_file_systems_take():
    assert len(safe_name("肝" * 500).encode()) <= 120


def test_objects_of_one_name_have_files_of_their_own():
    files = object_files({1: "liver", 2: "Liver", 3: "liver_2", 4: "spleen"}, Path("/d/ct.nii.gz"))
    assert len({str(path).casefold() for path in files.values()}) == 4
    assert files[4] == Path("/d/ct_spleen.nii.gz") and files[1] == Path("/d/ct_liver_1.nii.gz")
    assert object_files({1: "a"}, Path("/d/ct.seg.dcm")) == {1: Path("/d/ct_a.seg.dcm")}


@pytest.fixture
def session():
    image, first, second = two_balls()
    backend = LocalBackend(models={})
    with Session(image, backend) as session:
        session.take(MaskPrompt(first, (0, 0, 0)), "left kidney")
        session.take(MaskPrompt(first | second, (0, 0, 0)), "both")
        session.new_object("nothing yet")
        yield session
    backend.shutdown()


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".tif"])
def test_each_file_holds_its_whole_object_on_the_grid(session, tmp_path, ending):
    said = []
    files = save_each(session, tmp_path / f"scan{ending}", progress=lambda text, share: said.append((text, share)))
    assert [path.name for path in files] == [f"scan_left_kidney{ending}", f"scan_both{ending}"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    for path, label in zip(files, (1, 2), strict=True):
        saved = read_volume(path)
        mask = np.zeros(session.image.grid.shape, bool)
        state = session.objects[label].mask
        mask[state.extent.slices] = state.mask
        np.testing.assert_array_equal(saved.array > 0, mask)
        assert ending == ".tif" or saved.grid.same_place(session.image.grid)
    assert said == [(f"writing scan_left_kidney{ending}", 0.0), (f"writing scan_both{ending}", 0.5)]


def test_dicom_segmentations_hold_one_object_each(tmp_path):
    array = np.random.default_rng(0).integers(1000, 1100, (8, 14, 18)).astype(np.uint16)
    write_series(tmp_path / "ct", array, np.arange(8) * 2.5)
    backend = LocalBackend(models={})
    with Session(read_volume(tmp_path / "ct"), backend) as session:
        for name in ("liver", "spleen"):
            session.take(MaskPrompt(np.ones((2, 3, 4), bool), (1, 2, 3)), name)
        files = save_each(session, tmp_path / "seg.dcm")
    backend.shutdown()
    assert [read_segments(path)[0][0].name for path in files] == ["liver", "spleen"]


def test_what_was_written_stays_and_is_told(session, tmp_path):
    (tmp_path / "scan_both.nii.gz").mkdir()
    with pytest.raises(InputError, match="1 of 2 files were written"):
        save_each(session, tmp_path / "scan.nii.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan_both.nii.gz", "scan_left_kidney.nii.gz"]


def test_it_can_be_called_off(session, tmp_path):
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        save_each(session, tmp_path / "scan.nii.gz", progress=lambda *_: cancel.set(), cancel=cancel)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_nothing_to_save(tmp_path):
    backend = LocalBackend(models={})
    with Session(two_balls()[0], backend) as session, pytest.raises(InputError, match="nothing to save"):
        session.new_object()
        save_each(session, tmp_path / "scan.nii.gz")
    backend.shutdown()
    assert not list(tmp_path.iterdir())
