"""What was corrected in sessions is learnt from as it stands at their end, under its class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.series.classes import parse_classes
from napari_sammed.series.results import make_objects, write_result
from napari_sammed.series.state import Series
from napari_sammed.session import Session
from napari_sammed.training.preparing import Options, Prepared, prepare
from napari_sammed.training.recognising import recognise
from napari_sammed.volume import read_volume
from tests.dicom_files import write_series
from tests.thresholder import Thresholder
from tests.training.folders import SHAPE, image, labels, write

BLOCK = Box((1, 2, 3), (4, 10, 12))
OTHER = Box((2, 8, 10), (5, 14, 20))


def made(folder: Path, **options) -> Prepared:
    return prepare(folder, Options(**options), folder.parent / "cache")


def filled(box: Box) -> MaskPrompt:
    return MaskPrompt(np.ones(box.shape, bool), box.low)


def session(image_file: Path, path: Path, **source) -> Session:
    return Session(
        read_volume(image_file, **{key: value for key, value in source.items() if key in ("frame", "series")}),
        LocalBackend(models={"thresholder": Thresholder()}),
        journal=path,
        source={"path": str(image_file), **source},
    )


@pytest.fixture
def corrected(tmp_path) -> Path:
    """A folder with the sessions of two images that lie elsewhere."""
    folder = tmp_path / "sessions"
    for number in range(2):
        file = write(tmp_path / "images" / f"scan{number}.nii.gz", image(number))
        with session(file, folder / f"scan{number}.sammed.jsonl") as one:
            one.take(filled(BLOCK), "Left lobe")
            one.classify(1, "liver")
            one.take(filled(OTHER), "spleen")
            one.edit(np.zeros((1, 2, 2), bool), Box((1, 2, 3), (2, 4, 5)), 1)  # a correction by hand
            one.take(filled(Box((0, 0, 0), (1, 1, 1))), "mistake")
            one.undo()
    return folder


def expected() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[BLOCK.slices] = 1
    array[1, 2:4, 3:5] = 0
    array[OTHER.slices] = 2  # the later one lies on top
    return array


def test_masks_are_those_at_the_end_under_class_or_name(corrected):
    found = made(corrected, held_out=0.5)
    assert found.remarks[0] == "The folder is read as sessions: 2 cases." and found.problems == ()
    assert found.material.names == {1: "liver", 2: "spleen"}
    for one in (*found.material.train, *found.material.held_out):
        np.testing.assert_array_equal(one.labels, expected())
        assert one.image.hash == read_volume(corrected.parent / "images" / f"{one.name}.nii.gz").hash
    assert {found.material.train[0].patient, found.material.held_out[0].patient} == {"scan0", "scan1"}
    assert not (corrected / "scan0.sammed.jsonl.lock").exists(), "they are only looked at"


def test_what_a_model_answered_and_the_user_clicked(tmp_path):
    array = np.zeros(SHAPE, np.int16)
    array[BLOCK.slices] = 100
    array[4, 15, 20] = 30
    file = write(tmp_path / "images" / "a.nrrd", array)
    with session(file, tmp_path / "sessions" / "a.jsonl") as one:
        one.new_object("cyst")
        one.add(Point((2, 5, 6)), model="thresholder").result(20)
        stands = one.labels()
    found = made(tmp_path / "sessions", held_out=0)
    assert stands.sum() == np.prod(BLOCK.shape)
    np.testing.assert_array_equal(found.material.train[0].labels, stands)


def test_one_session_file_alone(corrected):
    found = made(corrected / "scan0.sammed.jsonl", held_out=0)
    assert [one.name for one in found.material.train] == ["scan0"]
    with pytest.raises(InputError, match=r"one patient.*share of 0"):
        made(corrected / "scan0.sammed.jsonl")


def test_objects_of_one_class_are_one_structure_and_others_are_told_about(tmp_path):
    file = write(tmp_path / "images" / "a.nrrd", image())
    path = tmp_path / "sessions" / "a.sammed.jsonl"
    with session(file, path) as one:
        for box in (BLOCK, Box((5, 0, 0), (6, 3, 3))):
            one.classify(one.take(filled(box), ""), "Lesion")
        one.take(filled(Box((0, 10, 10), (1, 12, 12))))
        one.new_object("nothing yet")
        one.new_object("emptied")
        one.take(filled(Box((0, 10, 15), (1, 12, 16))), "gone")
        one.clear()
    found = made(tmp_path / "sessions", held_out=0)
    assert found.material.names == {1: "Lesion", 2: "Object 3"}
    assert [problem.kind for problem in found.problems] == ["object without mask", "object without name"]
    assert all(problem.file == path and not problem.fatal for problem in found.problems)
    assert "nothing yet, emptied, gone" in found.problems[0].message and "Object 3" in found.problems[1].message
    labels = found.material.train[0].labels
    assert (labels[BLOCK.slices] == 1).all() and (labels[5, :3, :3] == 1).all() and (labels == 2).sum() == 4


def test_the_image_is_found_beside_the_session_on_another_computer(corrected, tmp_path):
    shutil.move(tmp_path / "images" / "scan0.nii.gz", corrected / "scan0.nii.gz")
    shutil.move(tmp_path / "images" / "scan1.nii.gz", tmp_path / "scan1.nii.gz")
    assert len(recognise(corrected).cases) == 2
    assert made(corrected).problems == ()


def harmed(kind: str, folder: Path) -> None:
    images = folder.parent / "images"
    path = folder / "scan1.sammed.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    match kind:
        case "image missing":
            (images / "scan1.nii.gz").unlink()
        case "image unsaid":
            path.write_bytes(lines[0].replace(b'"source":', b'"no":') + b"".join(lines[1:]))
        case "image changed":
            write(images / "scan1.nii.gz", image(9))
        case "image reshaped":
            write(images / "scan1.nii.gz", image(9)[1:])
        case "image damaged":
            (images / "scan1.nii.gz").write_bytes(b"nothing")
        case "first line":
            path.write_bytes(b"{]\n" + b"".join(lines[1:]))
        case "a line":
            path.write_bytes(lines[0] + b"{]\n" + b"".join(lines[1:]))
        case "no sense":
            path.write_bytes(lines[0] + b'{"do":"lock","id":0,"label":7,"on":true}\n')
        case "of the future":
            path.write_bytes(lines[0].replace(b'session":1', b'session":99') + b"".join(lines[1:]))
        case "no mask":
            path.write_bytes(lines[0])


@pytest.mark.parametrize(
    ("harm", "kind", "said"),
    [
        ("image missing", "image missing", "scan1.nii.gz, is not there"),
        ("image unsaid", "image missing", "does not say where its image is"),
        ("image changed", "other image", "has changed since"),
        ("image reshaped", "other image", "has changed since"),
        ("image damaged", "unreadable image", ": it is not a NIfTI file"),
        ("first line", "unreadable labels", "Line 1"),
        ("a line", "unreadable labels", "Line 2"),
        ("no sense", "unreadable labels", "makes no sense"),
        ("of the future", "unreadable labels", "update napari-sammed"),
        ("no mask", "empty labels", "nothing is labelled"),
    ],
)
def test_bad_sessions_are_named_and_left_out(corrected, harm, kind, said):
    harmed(harm, corrected)
    before = {path: path.read_bytes() for path in corrected.rglob("*")}
    found = made(corrected, held_out=0)
    (problem,) = found.problems
    assert problem.kind == kind and problem.fatal and said in str(problem)
    assert [one.name for one in found.material.train] == ["scan0"]
    assert before == {path: path.read_bytes() for path in corrected.rglob("*")}
    with pytest.raises(InputError, match="scan1"):
        made(corrected, held_out=0, strict=True)


def test_a_torn_last_line_does_not_matter(corrected):
    with (corrected / "scan1.sammed.jsonl").open("ab") as file:
        file.write(b'{"do":"del')
    assert made(corrected).problems == ()


def test_frames_of_one_file_are_of_one_patient(tmp_path):
    import SimpleITK as sitk

    frames = [sitk.GetImageFromArray(image(number)) for number in range(3)]
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "film.nii.gz"
    sitk.WriteImage(sitk.JoinSeries(frames), str(file))
    for frame in range(3):
        with session(file, tmp_path / "sessions" / f"{frame}.jsonl", frame=frame) as one:
            one.take(filled(BLOCK), "heart")
    with pytest.raises(InputError, match="one patient"):
        made(tmp_path / "sessions")
    found = made(tmp_path / "sessions", held_out=0)
    assert found.summary["patients"]["train"] == 1 and len(found.material.train) == 3
    for number, one in enumerate(found.material.train):
        np.testing.assert_array_equal(one.image.array, image(number))


# ---- series of images -----------------------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path) -> Path:
    """A folder of images of which three are done, one is begun, one skipped, one not looked at."""
    folder = tmp_path / "images"
    for number in range(5):
        write(folder / "more" / f"scan{number}.nii.gz", image(number))
    write_series(folder / "ct", image(7).astype(np.uint16), np.arange(SHAPE[0]) * 2.0)
    state = Series(folder, classes=parse_classes("spleen, 4: liver"))
    for entry, becomes in zip(state.entries, ("done", "done", "done", "open", "skipped", "open"), strict=True):
        entry.state = becomes  # the first one is the DICOM folder
        if entry is state.entries[-1]:
            continue
        with session(state.image(entry), state.session_file(entry)) as one:
            make_objects(one, state.classes)
            one.edit(np.ones(BLOCK.shape, bool), BLOCK, 2)
            write_result(state, entry, one)
    state.save()
    return folder


@pytest.mark.parametrize("where", [".", "sammed_results"])
def test_done_images_of_a_series_are_learnt_from(series, where):
    found = made((series / where).resolve(), held_out=0)
    assert [one.name for one in found.material.train] == ["ct", "more/scan0", "more/scan1"]
    assert found.remarks[:2] == (
        "The folder is read as sessions: 3 cases.",
        "Images of the series that have not been worked on yet: 1.",
    )
    kinds = [problem.kind for problem in found.problems]
    assert kinds.count("not finished") == 2 and kinds.count("object without mask") == 3
    assert found.material.names == {1: "liver"}
    for one in found.material.train:
        assert (one.labels[BLOCK.slices] == 1).all() and one.labels.sum() == np.prod(BLOCK.shape)


def test_a_session_that_is_named_alone_need_not_be_done(series):
    path = series / "sammed_results" / "more" / "scan2.sammed.jsonl"
    assert [one.name for one in made(path, held_out=0).material.train] == ["scan2"]
    for other in path.parent.parent.rglob("*sammed.*"):
        if other != path:
            other.unlink()
    with pytest.raises(InputError, match=r"nothing to learn from: .*scan2.*not marked as done"):
        made(series, held_out=0)
    write(series / "x.nrrd", image(5))
    write(series / "x_labels.nrrd", labels())
    assert recognise(series).kind == "images with labels"


def test_a_series_that_was_moved_and_has_lost_a_session_has_its_label_image(series, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(series, moved)
    (moved / "sammed_results" / "more" / "scan0.sammed.jsonl").unlink()
    found = made(moved, held_out=0)
    assert [one.name for one in found.material.train] == ["ct", "more/scan0", "more/scan1"]
    assert found.material.names == {1: "liver"}
    one = found.material.train[1]
    assert (one.labels[BLOCK.slices] == 1).all() and one.labels.sum() == np.prod(BLOCK.shape)


def test_a_state_of_a_series_that_makes_no_sense(series):
    (series / "sammed_results" / "series.json").write_text(json.dumps({"napari-sammed series": 1, "classes": []}))
    with pytest.raises(InputError, match=r"series\.json makes no sense"):
        made(series)


def test_sessions_go_before_label_images(corrected):
    write(corrected / "x.nrrd", image(5))
    write(corrected / "x_labels.nrrd", labels())
    assert recognise(corrected).kind == "sessions"
