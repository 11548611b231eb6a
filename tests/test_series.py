"""Series of images: found, kept, resumed on another computer; classes from files; label images by class."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.prompts import MaskPrompt
from napari_sammed.series.classes import ClassLabel, parse_classes, read_classes
from napari_sammed.series.finding import find_images
from napari_sammed.series.results import make_objects, new_of_class, write_result
from napari_sammed.series.state import Series
from napari_sammed.session import Session
from napari_sammed.volume import read_volume, write_volume
from tests.dicom_files import SECOND, write_series
from tests.phantoms import two_balls


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two volumes, a picture, a DICOM series, and things that are no images."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    volume, _, _ = two_balls()
    for name in ("scan10.nii.gz", "scan2.nii.gz"):
        write_volume(volume, folder / name)
    flat = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(flat), str(folder / "more" / "slide.png"))
    write_series(folder / "ct", flat[None].repeat(4, 0).astype(np.uint16), np.arange(4) * 2.0)
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def middle(mask: np.ndarray) -> int:
    """Along the last axis."""
    return round(np.argwhere(mask)[:, -1].mean())


FOUND = [("ct", None), ("more/slide.png", None), ("scan2.nii.gz", None), ("scan10.nii.gz", None)]


def test_images_are_found_in_the_order_of_people(folder):
    assert find_images(folder) == FOUND
    assert find_images(folder, subfolders=False) == FOUND[2:]
    assert find_images(folder / "ct") == [(".", None)]
    with pytest.raises(InputError, match="no folder"):
        find_images(folder / "absent")


def test_each_dicom_series_is_an_image(folder):
    write_series(folder / "ct", np.ones((3, 20, 30), np.uint16), np.arange(3) * 2.0, series=SECOND)
    found = [image for image in find_images(folder) if image[0] == "ct"]
    assert len(found) == 2 and all(series for _, series in found)
    entries = [entry for entry in Series(folder).entries if entry.path == "ct"]
    assert len({entry.result for entry in entries}) == 2
    shapes = {read_volume(folder / "ct", series=entry.series).array.shape for entry in entries}
    assert shapes == {(4, 40, 50), (3, 20, 30)}


def test_a_series_is_gone_on_with_on_another_computer(folder, tmp_path):
    series = Series(folder, classes=parse_classes("liver, spleen"))
    assert (series.count("open"), series.seconds_left) == (4, None)
    first = series.beside(None, 1)
    first.state, first.seconds = "done", 30.0
    assert series.seconds_left == 90.0
    series.save()
    text = (series.results / "series.json").read_text()
    assert str(tmp_path) not in text, "relative paths only"
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    again = Series(moved)
    assert [entry.path for entry in again.entries] == [path for path, _ in FOUND], "our own files are no images"
    assert (again.entries[0].state, again.entries[0].seconds) == ("done", 30.0)
    assert [one.name for one in again.classes] == ["liver", "spleen"]
    assert again.beside(None, 1) is again.entries[1]
    assert again.beside(again.entries[1], -1) is None and again.beside(again.entries[1], -1, all_=True).state == "done"


def test_images_that_come_and_go(folder):
    series = Series(folder)
    series.entries[3].state = "done"
    series.save()
    gone = folder / "scan10.nii.gz"
    kept = gone.read_bytes()
    gone.unlink()
    (folder / "scan11.nii.gz").write_bytes(kept)
    series = Series(folder)
    assert [entry.state for entry in series.entries] == ["open"] * 4
    series.save()
    gone.write_bytes(kept)
    assert [entry.state for entry in Series(folder).entries] == ["open", "open", "open", "done", "open"]


def test_images_of_one_name_have_results_of_their_own(folder):
    shutil.copy(folder / "more" / "slide.png", folder / "scan2.png")
    results = [entry.result for entry in Series(folder).entries]
    assert len(set(results)) == 5
    series = Series(folder)
    series.save()
    assert [entry.result for entry in Series(folder).entries] == results


@pytest.mark.parametrize("text", ["{", "[]", '{"napari-sammed series": 2}', '{"napari-sammed series": 1, "images": 3}'])
def test_a_state_without_sense_is_named(folder, text):
    (folder / "sammed_results").mkdir()
    (folder / "sammed_results" / "series.json").write_text(text)
    with pytest.raises(InputError, match=r"series\.json"):
        Series(folder)


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(InputError, match="no image"):
        Series(tmp_path)


def test_label_images_have_the_values_of_the_classes(folder):
    series = Series(folder, classes=parse_classes("5: liver #ff0000, spleen"))
    entry = series.entries[2]
    image, first, second = two_balls()
    backend = LocalBackend(models={})
    with Session(read_volume(series.image(entry)), backend, journal=series.session_file(entry)) as session:
        assert write_result(series, entry, session) == (None, [])
        make_objects(session, series.classes)
        assert [(s.name, s.kind, s.colour) for s in session.objects.values()][1] == ("liver", "liver", "#ff0000")
        assert session.current == 1
        session.edit(second, image.grid.box, 1)
        left = first.copy()
        left[..., middle(first) :] = False
        session.edit(left, image.grid.box, 2)
        other = new_of_class(session, series.classes[1])
        session.edit(first & ~left, image.grid.box, other)
        assert session.objects[other].name == "liver 2"
        session.take(MaskPrompt(np.ones((1, 1, 1), bool), (0, 0, 0)), "stray")
        path, left_out = write_result(series, entry, session)
    backend.shutdown()
    assert left_out == ["stray"] and entry.objects == 4
    assert path == series.results / "scan2_sammed.nii.gz"
    saved = read_volume(path)
    np.testing.assert_array_equal(saved.array, second + 5 * first.astype(int))
    assert saved.grid.same_place(read_volume(series.image(entry)).grid)
    assert find_images(folder, without=series.results) == FOUND


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("a.txt", "liver\nspleen\n", {1: "liver", 2: "spleen"}),
        ("a.txt", "2: liver\nspleen #ff0000\n", {1: "spleen", 2: "liver"}),
        ("a.json", '["liver", "spleen"]', {1: "liver", 2: "spleen"}),
        ("a.json", '{"liver": 3}', {3: "liver"}),
        ("a.json", '[{"name": "liver", "value": 7, "color": "#00ff00"}]', {7: "liver"}),
        ("dataset.json", '{"labels": {"background": 0, "liver": 1, "tumour": 2}}', {1: "liver", 2: "tumour"}),
        ("dataset.json", '{"labels": {"0": "background", "1": "liver"}}', {1: "liver"}),
    ],
)
def test_classes_are_read(tmp_path, name, text, classes):
    (tmp_path / name).write_text(text)
    assert {one.value: one.name for one in read_classes(tmp_path / name)} == classes


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "", "no class"),
        ("a.txt", "liver, Liver", "twice"),
        ("a.txt", "1: liver, 1: spleen", "value 1"),
        ("a.txt", "0: liver", "1 to 65535"),
        ("a.txt", "x: liver", "whole number"),
        ("a.json", "{", "no JSON"),
        ("a.json", "3", "no classes"),
        ("a.json", '{"labels": {"kidney": [1, 2]}}', "several values"),
        ("a.json", "[3]", "no class"),
    ],
)
def test_lists_without_sense_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_classes(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_classes(tmp_path / "absent.txt")


def test_colours_are_kept_or_given(tmp_path):
    liver, spleen = parse_classes("liver #ABCDEF, spleen")
    assert liver == ClassLabel(1, "liver", "#abcdef") and spleen.colour.startswith("#")
