"""Images with labels are found in every layout that is promised, with their names; else the user hears why not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from napari_sammed.errors import InputError
from napari_sammed.evaluation.cases import NoCasesError, find_cases, unpaired


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(folder: Path) -> list[tuple[str, str, str]]:
    cases = find_cases(folder)
    return [(c.name, str(c.image.relative_to(folder)), str(c.labels.relative_to(folder))) for c in cases]


def test_nnunet(tmp_path):
    touch(*(tmp_path / "imagesTr" / f"liver_{n}_{c:04}.nii.gz" for n in (2, 10) for c in (0, 1)))
    touch(tmp_path / "labelsTr" / "liver_2.nii.gz", tmp_path / "labelsTr" / "liver_10.nii.gz")
    touch(tmp_path / "imagesTs" / "liver_3_0000.nii.gz")  # without labels
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT", "1": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}})
    )
    assert found(tmp_path) == [
        ("liver_10", "imagesTr/liver_10_0000.nii.gz", "labelsTr/liver_10.nii.gz"),
        ("liver_2", "imagesTr/liver_2_0000.nii.gz", "labelsTr/liver_2.nii.gz"),
    ]
    case = find_cases(tmp_path)[0]
    assert case.names == {1: "liver", 2: "tumour"} and case.modality == "CT"


def test_the_older_description_of_nnunet_names_values(tmp_path):
    touch(tmp_path / "imagesTr" / "a_0000.nii.gz", tmp_path / "labelsTr" / "a.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "heart"}})
    )
    case = find_cases(tmp_path)[0]
    assert case.names == {1: "heart"} and case.modality == "MRI"


def test_what_nnunet_ignores_is_no_structure_and_regions_are_no_labels(tmp_path):
    touch(tmp_path / "imagesTr" / "a_0000.nii.gz", tmp_path / "labelsTr" / "a.nii.gz")
    labels = {"background": 0, "whole tumour": [1, 2], "oedema": 1, "core": "2", "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels}))
    case = find_cases(tmp_path)[0]
    assert case.names == {1: "oedema", 2: "core", 3: "ignore"} and case.ignored == (3,)


def test_modalities_of_plain_folders(tmp_path):
    touch(*(tmp_path / name for name in ("x.nii.gz", "x_seg.nii.gz", "y.nii.gz", "y_seg.nii.gz")))
    (tmp_path / "modalities.json").write_text('{"x": "MR"}')
    assert [case.modality for case in find_cases(tmp_path)] == ["MR", ""]
    (tmp_path / "modalities.json").write_text('{"z": "MR"}')
    with pytest.raises(InputError, match="'z', which is none of the cases"):
        find_cases(tmp_path)


@pytest.mark.parametrize("folder", ["labels", "masks", "segmentations"])
@pytest.mark.parametrize("label", ["one.nrrd", "one_mask.nrrd"])
def test_two_folders(tmp_path, folder, label):
    touch(tmp_path / "images" / "one.nii.gz", tmp_path / "images" / "two.nii.gz", tmp_path / folder / label)
    (tmp_path / "labels.json").write_text('{"1": "spleen"}')
    assert found(tmp_path) == [("one", "images/one.nii.gz", f"{folder}/{label}")]
    assert find_cases(tmp_path)[0].names == {1: "spleen"}


def test_a_folder_for_each_case(tmp_path):
    touch(tmp_path / "a" / "image.nii.gz", tmp_path / "a" / "labels.nii.gz", tmp_path / "b" / "labels.nii.gz")
    touch(tmp_path / "b" / "dicom" / "1.dcm", tmp_path / "c" / "image.png")
    (tmp_path / "a" / "labels.json").write_text('{"labels": {"4": "kidney"}}')
    assert found(tmp_path) == [
        ("a", "a/image.nii.gz", "a/labels.nii.gz"),
        ("b", "b/dicom", "b/labels.nii.gz"),
    ]
    assert find_cases(tmp_path)[0].names == {4: "kidney"}


def test_side_by_side(tmp_path):
    touch(*(tmp_path / name for name in ("x.nii.gz", "x_seg.nii.gz", "y.png", "y_labels.png", "z.nii.gz")))
    assert found(tmp_path) == [("x", "x.nii.gz", "x_seg.nii.gz"), ("y", "y.png", "y_labels.png")]


def test_nothing_found_says_what_would_be(tmp_path):
    with pytest.raises(InputError, match="imagesTr"):
        find_cases(tmp_path)
    touch(tmp_path / "Dataset001_X" / "labelsTr" / "a.nii.gz")
    with pytest.raises(InputError, match=r"Was .*Dataset001_X meant\?"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        find_cases(tmp_path / "none")
    touch(tmp_path / "x.nii.gz", tmp_path / "x_seg.nii.gz")
    (tmp_path / "labels.json").write_text('{"liver": 1}')
    with pytest.raises(InputError, match=r"labels\.json"):
        find_cases(tmp_path)
    (tmp_path / "labels.json").write_text("[1, 2")
    with pytest.raises(InputError, match="cannot be read"):
        find_cases(tmp_path)


def test_a_description_that_is_none_is_named(tmp_path):
    touch(tmp_path / "imagesTr" / "a_0000.nii.gz", tmp_path / "labelsTr" / "a.nii.gz")
    for content in ('{"labels": ["liver"]}', '{"labels": {"liver": 1}, "channel_names": ["CT"]}'):
        (tmp_path / "dataset.json").write_text(content)
        with pytest.raises(InputError, match=r"dataset\.json is no description of nnU-Net") as caught:
            find_cases(tmp_path)
        assert not isinstance(caught.value, NoCasesError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    touch(tmp_path / "closed" / "image.png")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(InputError, match="closed cannot be read"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (("imagesTr/a_0000.png", "imagesTr/a_0001.png", "imagesTr/b_0000.png", "labelsTr/a.png"), ["b_0000.png"]),
        (("images/a.png", "images/b.png", "labels/a.png", "c.png"), ["b.png"]),
        (("a.png", "a_seg.png", "b.png", "c/image.png"), ["b.png"]),
        (("a/image.png", "a/labels.png", "b/image.png", "b/other.png", "c/labels.png"), ["image.png"]),
    ],
    ids=["nnU-Net", "two folders", "side by side", "a folder each"],
)
def test_images_without_labels(tmp_path, files, missing):
    touch(*(tmp_path / file for file in files))
    assert [path.name for path in unpaired(tmp_path, find_cases(tmp_path))] == missing
