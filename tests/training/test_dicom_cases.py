"""DICOM Segmentations are paired with the series that they refer to, and nobody learns whose images they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.segments import Segment, write_segments
from napari_sammed.training.preparing import Options, Prepared, prepare
from napari_sammed.training.recognising import recognise
from napari_sammed.volume import read_volume
from tests.dicom_files import write_series
from tests.training.folders import SHAPE, image, labels, write

LIVER = Segment("Liver", np.ones((3, 5, 7), bool), Box((1, 2, 3), (4, 7, 10)))
SPLEEN = Segment("spleen", np.ones((1, 4, 4), bool), Box((5, 12, 8), (6, 16, 12)))
COVER = Segment("tumour", np.ones((2, 2, 2), bool), Box((1, 2, 3), (3, 4, 5)))
UID = "1.2.826.0.1.3680043.8.498.7{}"


def made(folder: Path, **options) -> Prepared:
    return prepare(folder, Options(**options), folder.parent / "cache")


def study(folder: Path, name: str, number: int, patient: str | None = None, **rest) -> Path:
    """A folder with a series."""
    place = folder / name
    write_series(place, image(number).astype(np.uint16), np.arange(SHAPE[0]) * 2.5, series=UID.format(number), **rest)
    if patient is not None:
        change(place, PatientID=patient, PatientName=f"{patient}^Secret")
    return place


def change(place: Path, **values) -> None:
    for file in [place] if place.is_file() else sorted(place.glob("*.dcm")):
        data = pydicom.dcmread(file)
        for keyword, value in values.items():
            if value is None:
                del data[keyword]
            else:
                setattr(data, keyword, value)
        data.save_as(file)


def segmented(place: Path, *segments: Segment, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    write_segments(segments, read_volume(place), to)
    return to


@pytest.fixture
def archive(tmp_path) -> Path:
    """Three series of two patients, whose segmentations lie elsewhere; and a series without."""
    folder = tmp_path / "archive"
    for number, patient in enumerate(("Anna", "Anna", "Bert", "Bert")):
        place = study(folder, f"{number}/ct", number, patient)
        if number < 3:
            segmented(place, LIVER, SPLEEN, to=folder / "all" / f"{number}.dcm")
    return folder


def test_segmentations_are_paired_by_the_series_they_refer_to(archive):
    found = made(archive, held_out=0.5)
    assert found.remarks == ("The folder is read as DICOM with segmentations: 3 cases.",)
    assert [problem.kind for problem in found.problems] == ["no labels"]
    assert found.problems[0].file == archive / "3" / "ct"
    assert found.material.names == {1: "Liver", 2: "spleen"}
    expected = np.zeros(SHAPE, np.uint8)
    expected[LIVER.box.slices], expected[SPLEEN.box.slices] = 1, 2
    everything = (*found.material.train, *found.material.held_out)
    assert {one.name for one in everything} == {"0/ct", "1/ct", "2/ct"}
    for one in everything:
        np.testing.assert_array_equal(one.labels, expected)
        own = read_volume(archive / one.name)
        assert one.image.hash == own.hash and one.image.modality == "CT"


def test_patients_stay_together_and_unknown(archive, tmp_path):
    said: list[str] = []
    for seed in range(4):
        found = prepare(
            archive, Options(held_out=0.5, seed=seed), tmp_path / "c", progress=lambda *s: said.append(s[0])
        )
        parts = [{one.name for one in part} for part in (found.material.train, found.material.held_out)]
        assert {frozenset(part) for part in parts} == {frozenset({"0/ct", "1/ct"}), frozenset({"2/ct"})}
        assert found.summary["patients"] == {"train": 1, "held_out": 1}
        stored = b"".join(path.read_bytes() for path in (tmp_path / "c").iterdir())
        told = repr(found.problems) + repr(found.remarks) + json.dumps(found.summary) + "".join(said)
        for secret in ("Anna", "Bert", "Secret"):
            assert secret.encode() not in stored and secret not in told
            assert all(secret not in one.patient for one in (*found.material.train, *found.material.held_out))
        assert all(one.patient.encode() not in stored for one in found.material.train)


def test_several_segmentations_of_one_series_are_one_case(tmp_path):
    folder = tmp_path / "archive"
    place = study(folder, "ct", 1)
    segmented(place, LIVER, to=folder / "seg" / "a.dcm")
    segmented(place, SPLEEN, COVER, to=folder / "seg" / "b.dcm")
    found = made(folder, held_out=0)
    (one,) = found.material.train
    assert found.material.names == {1: "Liver", 2: "spleen", 3: "tumour"} and one.name == "ct"
    assert (one.labels[COVER.box.slices] == 3).all() and (one.labels[SPLEEN.box.slices] == 2).all()
    assert (one.labels == 1).sum() == 3 * 5 * 7 - 8
    assert [(problem.kind, problem.file.name) for problem in found.problems] == [("overlapping segments", "b.dcm")]
    assert "8 voxels" in found.problems[0].message


def test_two_series_in_one_folder(tmp_path):
    folder = tmp_path / "archive"
    for number in (1, 2):
        place = study(tmp_path / "made", f"ct{number}", number)
        segmented(place, LIVER, to=folder / "ct" / f"seg{number}.dcm")
        for file in place.iterdir():
            shutil.copy(file, folder / "ct" / file.name)
    found = made(folder, held_out=0.5)
    everything = (*found.material.train, *found.material.held_out)
    assert {one.name for one in everything} == {"ct 1", "ct 2"} and found.problems == ()
    for one in everything:
        assert one.image.hash == read_volume(tmp_path / "made" / one.name.replace(" ", "")).hash


def test_without_a_reference_the_study_tells(tmp_path):
    folder = tmp_path / "archive"
    place = study(folder, "ct", 1)
    path = segmented(place, LIVER, to=folder / "seg.dcm")
    change(path, ReferencedSeriesSequence=None)
    assert len(made(folder, held_out=0).material.train) == 1
    write_series(folder / "other", image(3).astype(np.uint16), np.arange(SHAPE[0]) * 2.5, series=UID.format(9))
    change(folder / "other", StudyInstanceUID=UID.format(1) + ".1", FrameOfReferenceUID=UID.format(1) + ".2")
    with pytest.raises(InputError, match=r"seg\.dcm: the series that it refers to is not in the folder"):
        made(folder, held_out=0)


def test_a_segmentation_in_another_place(tmp_path):
    folder = tmp_path / "archive"
    place = study(folder, "ct", 1)
    path = segmented(place, LIVER, to=folder / "seg.dcm")
    data = pydicom.dcmread(path)
    for item in data.PerFrameFunctionalGroupsSequence:
        position = item.PlanePositionSequence[0].ImagePositionPatient
        item.PlanePositionSequence[0].ImagePositionPatient = [float(position[0]) + 0.3, *position[1:]]
    data.save_as(path)
    found = made(folder, held_out=0)
    assert [problem.kind for problem in found.problems] == ["other grid"]
    assert (found.material.train[0].labels[LIVER.box.slices] == 1).all()
    for item in data.PerFrameFunctionalGroupsSequence:
        position = item.PlanePositionSequence[0].ImagePositionPatient
        item.PlanePositionSequence[0].ImagePositionPatient = [float(position[0]) + 300, *position[1:]]
    data.save_as(path)
    with pytest.raises(InputError, match="100% of what it labels lies outside"):
        made(folder, held_out=0)


def test_bad_segmentations_are_named_and_left_out(tmp_path):
    folder = tmp_path / "archive"
    for number in range(3):
        segmented(study(folder, f"{number}/ct", number), LIVER, to=folder / f"{number}" / "seg.dcm")
    shutil.rmtree(folder / "1" / "ct")
    path = folder / "2" / "seg.dcm"
    path.write_bytes(path.read_bytes()[:1100])
    (folder / "link").symlink_to(folder / "gone")
    found = made(folder, held_out=0)
    assert [one.name for one in found.material.train] == ["0/ct"]
    kinds = {problem.file.relative_to(folder).as_posix(): problem.kind for problem in found.problems}
    assert kinds == {"1/seg.dcm": "image missing", "2/seg.dcm": "unreadable labels", "2/ct": "no labels"}


def test_a_series_that_makes_no_volume(archive):
    sorted((archive / "0" / "ct").iterdir())[0].write_bytes(b"")
    change(sorted((archive / "0" / "ct").iterdir())[2], ImagePositionPatient=[0, 0, 2.2])
    found = made(archive, held_out=0)
    assert {problem.kind for problem in found.problems} == {"no labels", "unreadable image"}
    assert {one.name for one in found.material.train} == {"1/ct", "2/ct"}


def test_a_segmentation_as_the_label_file_of_a_pair(tmp_path):
    folder = tmp_path / "data"
    place = study(tmp_path / "made", "ct", 1, "Anna")
    for case in ("a", "b"):
        shutil.copytree(place, folder / case / "dicom")
        segmented(place, LIVER, SPLEEN, to=folder / case / "labels.dcm")
    found = made(folder, held_out=0)
    assert recognise(folder).kind == "images with labels" and found.material.names == {1: "Liver", 2: "spleen"}
    assert found.summary["patients"]["train"] == 1 and [p.kind for p in found.problems] == ["image twice"]


def test_series_without_segmentations_are_nothing_to_learn_from(tmp_path):
    study(tmp_path / "archive", "ct", 1)
    write(tmp_path / "archive" / "labels.nrrd", labels())
    with pytest.raises(InputError, match="DICOM segmentations of them"):
        made(tmp_path / "archive")
