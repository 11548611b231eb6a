"""The command line with models of every kind: readings, many boxes, classes; networks are tiny."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sammed import networks
from napari_sammed.cli import main
from napari_sammed.models import registry
from napari_sammed.models.samed import SAMed
from napari_sammed.models.storage import CACHE_VARIABLE
from napari_sammed.segments import read_segments
from napari_sammed.volume import read_volume, resample_labels, write_volume
from tests.dicom_files import write_series
from tests.golden import fill
from tests.golden_weights import write
from tests.phantoms import two_balls
from tests.tiny_models import TINY, tiny_config, tiny_model

CLICK = ("--point", "12,20,10")
BOXES = ("--box", "2,5,10,24,35,11", "--box", "26,5,10,50,35,11")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With an image in it, where models are tiny and nothing is cached."""

    def load(name, weights=None, device="cpu", progress=None, cancel=None, precision="float32"):
        if name in TINY:
            return tiny_model(name)
        if name == "samed":
            model = SAMed(
                fill(networks.create("samed", {**tiny_config(name), "num_classes": 3})), "tiny", classes=NAMES
            )
            model.notes = ("It is tiny.",)
            return model
        return real(name, weights, device, progress, cancel, precision)

    real = registry.load
    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    write_volume(two_balls((20, 40, 50))[0], tmp_path / "image.nii.gz")
    return tmp_path


NAMES = ("left kidney", "liver", "spleen")


@pytest.fixture
def run(capsys, folder):
    def run(command: str, *arguments, output: str = "out.nii.gz") -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        status = main([command, str(folder / "image.nii.gz"), "-o", str(folder / output), *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of a refusal."""
    status, out, err = answer
    assert (status, out) == (2, "") and err.count("\n") == 1 and err.startswith("napari-sammed: ")
    return err


# ---- readings --------------------------------------------------------------------------------------------------------


def test_mask_index_takes_another_reading(run, folder):
    masks, told = [], []
    for index in (None, 0, 1, 2):
        more = () if index is None else ("--mask-index", index)
        status, out, _ = run("segment", *CLICK, "--model", "sam-vit-b", "--json", *more)
        assert status == 0
        told.append(json.loads(out))
        masks.append(read_volume(folder / "out.nii.gz").array)
    assert [result["mask_index"] for result in told] == [0, 0, 1, 2]
    scores = told[0]["scores"]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert [result["score"] for result in told] == [scores[0], *scores]
    assert all(result["scores"] == scores for result in told)
    assert [result["voxels"] for result in told] == [np.count_nonzero(mask) for mask in masks]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[1] != masks[2]).any() and (masks[2] != masks[3]).any()


def test_without_a_mask_index_the_readings_are_mentioned(run):
    status, out, err = run("segment", *CLICK, "--model", "sam-vit-b")
    assert status == 0 and out.count("\n") == 1
    assert re.search(r"there are 3 readings \(scores (0|1)\.\d\d, .*\); --mask-index takes another one", err)
    assert "readings" not in run("segment", *CLICK, "--model", "sam-vit-b", "--mask-index", 0)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*CLICK, "--mask-index", "3"), "--mask-index 3: the model gave 3 masks, 0 (the best) to 2."),
        ((*CLICK, "--mask-index", "-1"), "--mask-index -1: the model gave 3 masks"),
        ((*BOXES[:2], "--mask-index", "1"), "--mask-index 1: the model gave one mask only, so it can be 0."),
        ((*CLICK, "--mask-index", "best"), "'--mask-index'"),
    ],
)
def test_a_mask_index_that_the_model_does_not_give(run, folder, arguments, message):
    assert message in refused(run("segment", "--model", "sam-vit-b", *arguments))
    assert not (folder / "out.nii.gz").exists()


# ---- one object a box ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", TINY)
def test_each_box_is_an_object(run, folder, model):
    status, out, _ = run("segment", *BOXES, "--each", "--model", model, "--json")
    result = json.loads(out)
    labels = read_volume(folder / "out.nii.gz").array
    assert status == 0 and [entry["label"] for entry in result["objects"]] == [1, 2]
    for entry in result["objects"]:
        assert entry["voxels"] == np.count_nonzero(labels == entry["label"])
    assert result["voxels"] == np.count_nonzero(labels) and result["score"] is None


def test_each_object_is_a_line_and_can_be_propagated(run, folder):
    status, out, _ = run("segment", *BOXES, "--each", "--model", "sam-med2d", "--propagate")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("1 Object 1: ") and lines[1].startswith("2 Object 2: ") and len(lines) == 3


def test_a_propagation_names_the_scores_of_its_slices(run, folder):
    status, out, _ = run("segment", *BOXES[:2], "--model", "sam-med2d", "--propagate", "--json")
    scores = json.loads(out)["slice_scores"]
    written = np.flatnonzero((read_volume(folder / "out.nii.gz").array > 0).any((1, 2)))
    assert status == 0 and [int(index) for index in scores] == written.tolist()
    assert 1.0 in scores.values() and all(0 <= score <= 1 for score in scores.values())
    status, out, _ = run("segment", *BOXES[:2], "--model", "sam-med2d", "--json")
    assert status == 0 and "slice_scores" not in json.loads(out)


def test_without_each_boxes_are_parts_of_one_object(run, folder):
    run("segment", *BOXES, "--model", "litemedsam")
    assert set(np.unique(read_volume(folder / "out.nii.gz").array)) <= {0, 1}


@pytest.mark.parametrize("arguments", [(*BOXES, *CLICK), CLICK, (*BOXES, "--negative", "1,1,10")])
def test_each_takes_boxes_only(run, arguments):
    assert "--each makes one object of each box" in refused(run("segment", "--each", *arguments))


# ---- auto ------------------------------------------------------------------------------------------------------------


def test_auto_writes_a_label_image_and_a_table(run, folder):
    status, out, err = run("auto")
    image, labels = read_volume(folder / "image.nii.gz"), read_volume(folder / "out.nii.gz")
    assert status == 0 and labels.grid.same_place(image.grid) and labels.array.max() <= 3
    assert "Note: It is tiny." in err
    lines = out.splitlines()
    assert lines[0].split() == ["label", "class", "voxels", "ml"] and len(lines) == 5
    for label, (name, line) in enumerate(zip(NAMES, lines[1:4], strict=True), 1):
        voxels = np.count_nonzero(labels.array == label)
        assert line.split() == [str(label), *name.split(), f"{voxels:,}", f"{voxels * 3 / 1000:.2f}"]
    assert json.loads((folder / "out.nii.gz.json").read_text())["labels"] == dict(zip("123", NAMES, strict=True))


@pytest.mark.parametrize("output", ["out.nrrd", "out.mha"])
def test_names_lie_in_the_file_where_it_has_a_place_for_them(run, folder, output):
    assert run("auto", output=output)[0] == 0
    written = sitk.ReadImage(str(folder / output))
    names = [written.GetMetaData(f"Segment{n}_Name") for n in range(3)]
    values = [written.GetMetaData(f"Segment{n}_LabelValue") for n in range(3)]
    assert (tuple(names), values) == (NAMES, ["1", "2", "3"])
    assert sorted(p.name for p in folder.glob("out*")) == [output]


def test_auto_writes_a_dicom_segmentation(run, folder):
    stored = (read_volume(folder / "image.nii.gz").array + 1024).astype(np.uint16)
    write_series(folder / "ct", stored, np.arange(len(stored)) * 3.0)
    status = main(["auto", str(folder / "ct"), "-o", str(folder / "a.seg.dcm")])
    assert status == 0 and main(["auto", str(folder / "ct"), "-o", str(folder / "a.nii.gz")]) == 0
    segments, _ = read_segments(folder / "a.seg.dcm")
    labels = read_volume(folder / "a.nii.gz")
    occurring = [label for label in np.unique(labels.array) if label]
    assert [segment.name for segment in segments] == [NAMES[label - 1] for label in occurring]
    assert {(segment.algorithm, segment.automatic) for segment in segments} == {("samed", True)}
    again = resample_labels(read_volume(folder / "a.seg.dcm"), labels.grid)
    np.testing.assert_array_equal(again, np.searchsorted([0, *occurring], labels.array))


def test_auto_as_json(run, folder):
    status, out, _ = run("auto", "--json", "--window", "soft-tissue")
    result = json.loads(out)
    labels = read_volume(folder / "out.nii.gz").array
    assert status == 0 and result["model"] == "samed" and result["weights_sha256"] == "tiny"
    assert [entry["name"] for entry in result["classes"]] == list(NAMES)
    assert [entry["voxels"] for entry in result["classes"]] == [np.count_nonzero(labels == n) for n in (1, 2, 3)]
    assert result["notes"] == ["It is tiny."] and set(result["seconds"]) == {"load", "segment", "total"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "medsam"), "MedSAM needs prompts and names no classes"),
        (("--model", "random-walker"), "Random walker needs prompts"),
        (("--model", "sammed"), "did you mean samed?"),
        (("--window", "liver"), "liver"),
        (("--device", "tpu"), "no device 'tpu'"),
        (("--precision", "int4"), "no precision 'int4'"),
        (("--frame", "7"), "frame"),
    ],
)
def test_auto_refuses_plainly(run, folder, monkeypatch, arguments, message):
    assert message in refused(run("auto", *arguments))
    assert not (folder / "out.nii.gz").exists()


def test_auto_refuses_formats_and_places_before_the_work(run, folder, capsys):
    assert "no format to write" in refused(run("auto", output="out.xyz"))
    assert "no folder" in refused(run("auto", output="nowhere/out.nii.gz"))
    status = main(["auto", str(folder / "absent.nii.gz"), "-o", str(folder / "out.nii.gz")])
    assert status == 2 and "absent.nii.gz" in capsys.readouterr().err


def test_segment_says_that_samed_takes_no_prompts(run):
    assert "SAMed takes no prompts" in refused(run("segment", *CLICK, "--model", "samed"))


class TestWeights:
    """What is said of the weight files, by the real loader."""

    @pytest.fixture(autouse=True)
    def unpatched(self, folder, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)

    @pytest.fixture
    def files(self, folder):
        samed = {**tiny_config("samed"), "num_classes": 3, "base_image_size": 128}
        return {
            "lora": write(folder, "samed", samed),
            "sam": write(folder, "sam-vit-b", tiny_config("sam-vit-b")),
            "other": write(folder, "litemedsam", tiny_config("litemedsam")),
        }

    def test_none_at_all(self, run):
        assert re.search("epoch_159.pth.*drive.google.com", refused(run("auto")))

    def test_a_file_that_is_not_there(self, run):
        assert "absent.pth" in refused(run("auto", "--weights", "absent.pth"))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("lora", "lora"), "both are a LoRA file"),
            (("sam", "other"), "neither is a LoRA file"),
            (("lora", "sam", "other"), "takes a LoRA file and the SAM file that it adds to, not 3 files"),
            (("sam",), "is SAM .*, not SAMed"),
            (("lora", "other"), "adds to"),
        ],
        ids=str,
    )
    def test_wrong_pairs_are_named(self, run, files, given, message):
        weights = [part for name in given for part in ("--weights", files[name])]
        assert re.search(message, refused(run("auto", *weights)))

    def test_models_with_prompts_are_refused_before_their_weights(self, run, files):
        both = ("--weights", files["sam"], "--weights", files["other"])
        assert "needs prompts" in refused(run("auto", "--model", "sam-vit-b", *both))
