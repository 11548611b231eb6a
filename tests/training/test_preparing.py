"""A folder becomes material: split by patient, one value a structure, decoded once; what is wrong is left out."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training import decoding
from napari_sammed.training.array_cache import ArrayCache
from napari_sammed.training.cleaning import Rules
from napari_sammed.training.data_summary import table
from napari_sammed.training.preparing import Options, Prepared, prepare
from napari_sammed.volume import read_volume
from tests.training.folders import SHAPE, image, labels, nnunet, write


def made(folder: Path, cache: Path | None = None, **options) -> Prepared:
    return prepare(folder, Options(**options), cache or folder.parent / "cache")


def examples(prepared: Prepared):
    return {one.name: one for one in (*prepared.material.train, *prepared.material.held_out)}


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the cases that are read from their own files."""
    names: list[str] = []
    real = decoding.read_case
    monkeypatch.setattr(decoding, "read_case", lambda case, *rest: (names.append(case.name), real(case, *rest))[1])
    return names


# ---- what comes out -------------------------------------------------------------------------------------------------


def test_nnunet_raw_data_become_material(tmp_path):
    found = made(nnunet(tmp_path / "data", 5))
    assert (len(found.material.train), len(found.material.held_out)) == (4, 1)
    assert found.problems == () and found.remarks == ("The folder is read as nnU-Net raw data: 5 cases.",)
    assert found.material.names == {1: "liver", 2: "spleen"}
    for name, one in examples(found).items():
        own = read_volume(tmp_path / "data" / "imagesTr" / f"{name}_0000.nii.gz")
        assert one.image.hash == own.hash and one.image.grid == own.grid and one.image.modality == "CT"
        np.testing.assert_array_equal(one.labels, labels())
        assert one.names == {1: "liver", 2: "spleen"} and one.patient == name and one.labels.dtype == np.uint8
        assert {value: there.tolist() for value, there in one.slices.items()} == {1: [1, 2, 3], 2: [4]}


def test_the_summary_counts_and_names_nobody(tmp_path):
    folder = nnunet(tmp_path / "data", 5)
    shutil.move(folder / "imagesTr" / "case_0_0000.nii.gz", folder / "imagesTr" / "Anna_0000.nii.gz")
    shutil.move(folder / "labelsTr" / "case_0.nii.gz", folder / "labelsTr" / "Anna.nii.gz")
    write(folder / "labelsTr" / "case_1.nii.gz", labels(second=0))
    write(folder / "labelsTr" / "case_2.nii.gz", labels() * 0)
    summary = made(folder, held_out=0.5, patient_pattern=r"(Anna|case)").summary
    text = json.dumps(summary)
    assert "Anna" not in text and "case_" not in text and str(tmp_path) not in text
    assert sum(summary["cases"].values()) == 4 and summary["left out"] == 1
    assert summary["patients"] == {"train": 1, "held_out": 1}
    assert summary["images"] == {"volume": 4} and summary["modalities"] == {"CT": 4}
    assert summary["voxels"] == 4 * np.prod(SHAPE)
    liver, spleen = summary["structures"]
    assert (liver["name"], liver["train"] + liver["held_out"], liver["voxels"]) == ("liver", 4, 4 * 360)
    assert (spleen["train"] + spleen["held_out"], spleen["voxels"]) == (3, 3 * 12)
    assert spleen["share"] == pytest.approx(12 / np.prod(SHAPE))
    lines = table(summary).splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1 and lines[1].endswith("12.50%")


def test_structures_are_chosen_by_name_or_number_in_their_order(tmp_path):
    folder = nnunet(tmp_path / "data")
    for wanted in (("Spleen", "liver"), ("2", "1"), ("spleen", "1"), ("S*", "?iver"), ("spleen", "*")):
        found = made(folder, structures=wanted)
        assert found.material.names == {1: "spleen", 2: "liver"}
        one = found.material.train[0]
        np.testing.assert_array_equal(one.labels, labels(first=2, second=1))
        assert {value: there.tolist() for value, there in one.slices.items()} == {1: [4], 2: [1, 2, 3]}
    found = made(folder, structures=("spleen",))
    np.testing.assert_array_equal(found.material.train[0].labels, labels(first=0, second=1))
    with pytest.raises(InputError, match=r"No case has a structure 'kidney'; there are: liver, spleen\."):
        made(folder, structures=("liver", "kidney"))


def test_what_no_case_has_is_told_before_anything_is_decoded(tmp_path, decoded):
    folder = nnunet(tmp_path / "data")
    with pytest.raises(InputError, match="'kidney'"):
        made(folder, structures=("kidney",))
    assert decoded == []
    (folder / "dataset.json").unlink()  # now only the label images can tell
    assert made(folder, structures=("2",)).material.names == {1: "label 2"}
    with pytest.raises(InputError, match=r"none of the labels 9, only 1, 2\."):
        made(folder, structures=("9",))


def test_one_structure_has_one_value_though_cases_name_and_number_it_otherwise(tmp_path):
    folder = tmp_path / "data"
    for name, names, values in (
        ("a", {"1": "liver", "2": "spleen"}, {}),
        ("b", {"7": "Liver", "3": "SPLEEN"}, {"first": 7, "second": 3}),
        ("c", {"5": "kidney left", "6": "kidney_left", "9": "liver"}, {"first": 5, "second": 6}),
    ):
        write(folder / name / "image.nrrd", image(ord(name)))
        write(folder / name / "labels.nrrd", labels(**values))
        (folder / name / "labels.json").write_text(json.dumps(names))
    found = made(folder, held_out=0)
    assert found.material.names == {1: "liver", 2: "spleen", 3: "kidney left"}
    of = examples(found)
    np.testing.assert_array_equal(of["a"].labels, labels())
    np.testing.assert_array_equal(of["b"].labels, labels())
    np.testing.assert_array_equal(of["c"].labels, labels(first=3, second=3))
    assert of["c"].names == {3: "kidney left"} and of["c"].slices[3].tolist() == [1, 2, 3, 4]
    assert {name: len(there) for name, there in found.material.by_name.items()} == {
        "liver": 2,
        "spleen": 2,
        "kidney left": 1,
    }


def test_labels_are_resampled_to_the_image(tmp_path):
    folder = tmp_path / "data"
    write(folder / "images" / "a.nrrd", image(1))
    write(folder / "labels" / "a.nrrd", labels()[:, ::2, ::2], spacing=(2.0, 3.0, 3.0), origin=(0.5, 0.75, 0))
    found = made(folder, held_out=0)
    assert [problem.kind for problem in found.problems] == ["other grid"]
    one = found.material.train[0]
    assert one.labels.shape == one.image.grid.shape
    np.testing.assert_array_equal(one.labels, labels()[:, ::2, ::2].repeat(2, 1).repeat(2, 2))


def test_flat_images_in_colour(tmp_path):
    folder = tmp_path / "data"
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)
        import SimpleITK as sitk

        (folder / "images").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(folder / "images" / f"{number}.png"))
        write(folder / "masks" / f"{number}.png", np.eye(40, 50, dtype=np.uint8) * 255)
    found = made(folder, cleaning=Rules())
    one = found.material.train[0]
    assert one.image.channels == 3 and one.slices == {} and found.material.names == {1: "label 255"}
    np.testing.assert_array_equal(one.labels, np.eye(40, 50))


def test_masks_are_cleaned_case_by_case(tmp_path):
    folder = tmp_path / "data"
    shape = (20, 60, 80)
    for number in range(2):
        pair = np.zeros(shape, np.uint8)
        pair[4:16, 20:40, 5:25] = pair[4:16, 20:40, 55:75] = 1
        pair[8, 50, 40] = 2
        write(folder / "images" / f"{number}.nrrd", image(number, shape))
        write(folder / "labels" / f"{number}.nrrd", pair)
    (folder / "labels.json").write_text('{"1": "kidney", "2": "node"}')
    plain = made(folder, tmp_path / "plain")
    assert plain.material.names == {1: "kidney", 2: "node"}
    found = made(folder, cleaning=Rules())
    assert found.material.names == {1: "kidney, left", 2: "kidney, right"}
    one = examples(found)["0"]
    assert not (one.labels[:, :, 30:50]).any() and {int(v) for v in np.unique(one.labels)} == {0, 1, 2}
    left = np.argwhere(one.labels == 1)[:, 2].mean()
    assert left > 40, "x grows to the patient's left"
    told = [remark for remark in found.remarks if remark.startswith("0: ")]
    assert len(told) == 3 and any("node is left out, since its" in remark for remark in told)
    none = Rules(volume=1e6)
    with pytest.raises(InputError, match=r"nothing is left to learn from\. 0: kidney is left out"):
        made(folder, cleaning=none)


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_the_same_image_is_in_one_part_whatever_it_is_called(tmp_path):
    folder = nnunet(tmp_path / "data", 6)
    for copy in ("case_7", "case_8"):
        shutil.copy(folder / "imagesTr" / "case_0_0000.nii.gz", folder / "imagesTr" / f"{copy}_0000.nii.gz")
        shutil.copy(folder / "labelsTr" / "case_0.nii.gz", folder / "labelsTr" / f"{copy}.nii.gz")
    for seed in range(6):
        found = made(folder, seed=seed, held_out=0.3)
        parts = [{one.name for one in part} for part in (found.material.train, found.material.held_out)]
        assert all({"case_0", "case_7", "case_8"} & part in (set(), {"case_0", "case_7", "case_8"}) for part in parts)
        assert [problem.kind for problem in found.problems] == ["image twice"] * 2
        assert sum(found.summary["patients"].values()) == 6


def test_a_split_of_the_folder_is_kept_and_what_leaks_is_left_out(tmp_path):
    folder = nnunet(tmp_path / "data", 5)
    shutil.copy(folder / "imagesTr" / "case_0_0000.nii.gz", folder / "imagesTr" / "case_3_0000.nii.gz")
    (folder / "patients.json").write_text('{"case_1": "x", "case_2": "x"}')
    (folder / "splits.json").write_text('{"train": ["case_0", "case_1"], "held_out": ["case_2", "case_3"]}')
    found = made(folder)
    assert {problem.kind for problem in found.problems} == {"image in both parts", "patient in both parts"}
    assert [one.name for one in found.material.train] == ["case_0", "case_1"] and not found.material.held_out
    assert "Cases in neither part of the split, which are not used: 1." in found.remarks
    with pytest.raises(InputError, match=r"Not all cases can be learnt from.*case_2_0000.*"):
        made(folder, strict=True)


def test_bad_cases_are_left_out_or_stop_it(tmp_path):
    folder = nnunet(tmp_path / "data", 5)
    (folder / "labelsTr" / "case_1.nii.gz").write_bytes(b"nothing")
    write(folder / "labelsTr" / "case_2.nii.gz", labels() * 0)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = made(folder)
    assert [problem.kind for problem in found.problems] == ["unreadable labels", "empty labels"]
    assert set(examples(found)) == {"case_0", "case_3", "case_4"}
    with pytest.raises(InputError, match=r"Not all cases can be learnt from.*case_1.*case_2") as caught:
        made(folder, strict=True)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}, "nothing is changed"


def test_nothing_to_learn_from_says_why(tmp_path):
    folder = nnunet(tmp_path / "data", 7)
    for number in range(7):
        write(folder / "labelsTr" / f"case_{number}.nii.gz", labels() * 0)
    with pytest.raises(InputError, match=r"There is nothing to learn from:.*nothing is labelled.*And 2 more"):
        made(folder)


def test_a_folder_that_is_none_says_what_would_be(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"imagesTr.*session files of this program.*DICOM segmentations"):
        made(tmp_path / "empty")
    with pytest.raises(InputError, match="is not a folder"):
        made(tmp_path / "none")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(InputError, match="is not a folder"):
        made(tmp_path / "file.txt")
    nnunet(tmp_path / "outer" / "Dataset001_Liver")
    with pytest.raises(InputError, match=r"Was .*Dataset001_Liver meant"):
        made(tmp_path / "outer")


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_a_second_time_nothing_is_decoded(tmp_path, decoded):
    folder = nnunet(tmp_path / "data")
    write(folder / "labelsTr" / "case_1.nii.gz", labels()[:, ::2, ::2], spacing=(2.0, 3.0, 3.0), origin=(0.5, 0.75, 0))
    first = made(folder, structures=("spleen", "liver"))
    assert len(decoded) == 4
    second = made(folder, structures=("spleen", "liver"))
    assert len(decoded) == 4 and second.problems == first.problems and second.summary == first.summary
    for name, one in examples(first).items():
        again = examples(second)[name]
        np.testing.assert_array_equal(one.labels, again.labels)
        assert one.image.hash == again.image.hash and one.image.grid == again.image.grid
        assert {k: v.tolist() for k, v in one.slices.items()} == {k: v.tolist() for k, v in again.slices.items()}
    assert not [path for path in (tmp_path / "cache").iterdir() if "case" in path.name], "no names of cases"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc here")
def test_arrays_lie_in_files_that_are_not_kept_open(tmp_path):
    open_before = len(os.listdir("/proc/self/fd"))
    found = made(nnunet(tmp_path / "data", 30))
    assert len(os.listdir("/proc/self/fd")) <= open_before + 2
    maps = Path("/proc/self/maps").read_text()
    assert maps.count(str(tmp_path / "cache")) >= 60
    one = found.material.train[0]
    with pytest.raises(ValueError, match="read-only"):
        one.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        one.image.array[0] = 1


def test_what_has_changed_is_decoded_anew(tmp_path, decoded):
    folder = nnunet(tmp_path / "data")
    made(folder)
    decoded.clear()
    write(folder / "labelsTr" / "case_1.nii.gz", labels(second=1))
    assert (examples(made(folder))["case_1"].labels == labels(second=1)).all() and decoded == ["case_1"]
    path = folder / "imagesTr" / "case_2_0000.nii.gz"
    os.utime(path, ns=(1, 1))
    made(folder)
    assert decoded == ["case_1", "case_2"]
    made(folder, structures=("liver",))
    assert len(decoded) == 6, "another choice is another entry"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["image.npy", "labels.npy", "json"])
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_made_anew(tmp_path, decoded, ending, harm):
    folder = nnunet(tmp_path / "data", 2)
    before = {name: one.image.hash for name, one in examples(made(folder)).items()}
    decoded.clear()
    path = sorted((tmp_path / "cache").glob(f"*.{ending}"))[0]
    harm(path)
    after = examples(made(folder))
    assert len(decoded) == 1
    for name, one in after.items():
        np.testing.assert_array_equal(one.labels, labels())
        assert one.image.hash == before[name]


def test_a_cache_that_was_copied_is_good(tmp_path, decoded):
    folder = nnunet(tmp_path / "data", 2)
    made(folder)
    decoded.clear()
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copyfile)
    made(folder, tmp_path / "copy")
    assert decoded == []


KILLED = """
import os, signal, sys
from pathlib import Path
from napari_sammed.formats import common
from napari_sammed.training import array_cache
from napari_sammed.training.preparing import Options, prepare

left = int(sys.argv[3])
put = array_cache.put_in_place
def put_in_place(part, path):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)  # with the part on the disk, and without its name
    put(part, path)
array_cache.put_in_place = put_in_place
prepare(Path(sys.argv[1]), Options(structures=("spleen", "liver")), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("writes", [2, 4])
def test_a_killed_preparation_is_gone_on_with(tmp_path, decoded, writes):
    folder = nnunet(tmp_path / "data", 2)
    arguments = [str(folder), str(tmp_path / "cache"), str(writes)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "cache").glob("*.part"))
    found = made(folder, structures=("spleen", "liver"))
    assert len(decoded) == 2 - min(2, writes // 3), "whole entries are used"
    for one in examples(found).values():
        np.testing.assert_array_equal(one.labels, labels(first=2, second=1))
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_full_disk_is_told(tmp_path):
    folder = nnunet(tmp_path / "data", 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))  # writing beyond fails as on a full disk
    try:
        with pytest.raises(InputError, match=r"cache .*cannot be written .*Make room"):
            made(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").glob("*.part")) and len(examples(made(folder))) == 2


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cache .*cannot be made"):
        made(nnunet(tmp_path / "data", 2), tmp_path / "file")


def test_two_processes_do_not_write_at_once(tmp_path):
    cache = ArrayCache(tmp_path / "cache")
    cancel = threading.Event()
    with cache.alone():
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(Cancelled), ArrayCache(tmp_path / "cache").alone(cancel):
            raise AssertionError("the other one was let in")


def test_it_is_told_how_far_it_is_and_cancelled_at_any_point(tmp_path):
    folder = nnunet(tmp_path / "data")
    said: list[tuple[str, float]] = []
    prepare(folder, Options(), tmp_path / "a", progress=lambda *s: said.append(s))
    shares = [share for _, share in said]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] < 1 and len(said) == 8
    assert said[0][0] == "Preparing case_0 (1 of 4)"
    for stop in range(1, 8):
        cancel = threading.Event()
        left = iter(range(stop - 1, -9, -1))
        with pytest.raises(Cancelled):
            prepare(
                folder,
                Options(),
                tmp_path / f"b{stop}",
                progress=lambda *_, left=left, cancel=cancel: None if next(left) else cancel.set(),
                cancel=cancel,
            )
    assert len(examples(made(folder, tmp_path / "b5"))) == 4
