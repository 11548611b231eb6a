"""The commands that spread work over a cluster: the same files as without one, whatever happens to a worker."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from napari_sammed import cluster as joining
from napari_sammed.cli import main
from napari_sammed.cluster import joined
from napari_sammed.commands import auto_folder
from napari_sammed.evaluation.cases import find_cases
from napari_sammed.evaluation.clustered import evaluate_on_cluster
from napari_sammed.evaluation.protocols import protocol
from napari_sammed.evaluation.results import FILE, read_results
from napari_sammed.evaluation.runs import Plan, evaluate
from napari_sammed.models import registry
from napari_sammed.tasks import Crew
from napari_sammed.volume import Volume, read_volume, write_mask, write_volume
from tests.cluster import working
from tests.phantoms import two_balls


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of images with labels."""
    folder = tmp_path / "data"
    for name, shift in (("one", 0), ("two", 2), ("ten", 4)):
        volume, first, second = two_balls()
        array, labels = volume.array, first.astype(np.uint8) + 2 * second.astype(np.uint8)
        array, labels = np.roll(array, shift, 1), np.roll(labels, shift, 1)
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, volume.grid), folder / "images" / f"{name}.nii.gz")
        write_mask(labels, volume.grid, folder / "labels" / f"{name}.nii.gz")
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    """The table of a run, without what depends on the machine's mood."""
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]


@pytest.mark.parametrize("begun", ["here", pytest.param("cluster", marks=pytest.mark.full)])
def test_evaluate_gives_the_same_tables_and_goes_on_where_it_was(cluster, data, tmp_path, monkeypatch, capsys, begun):
    monkeypatch.chdir(tmp_path)  # where the workers are not
    what = ["--protocol", "medsam", "--model", "random-walker", "--model", "confidence-connected", "--no-pictures"]
    at = ["--cluster", cluster] if begun == "cluster" else []
    assert main(["evaluate", "data", "-o", "plain", *what]) == 0
    assert main(["evaluate", "data", "-o", "spread", *what, "--case", "two", *at]) == 0
    assert len(read_results(tmp_path / "spread")) == 4
    capsys.readouterr()
    assert main(["evaluate", "data", "-o", "spread", *what, "--cluster", cluster, "--json"]) == 0
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert {row["method"]: row["count"] for row in methods} == {"random-walker": 6, "confidence-connected": 6}
    assert table(Path("spread")) == table(Path("plain")), "to the last digit, and in the same order"
    lines = (tmp_path / "spread" / FILE).read_text().splitlines()
    assert len(lines) == 12, "nothing was measured twice"


@pytest.mark.full
def test_a_case_whose_worker_is_killed_is_measured_again_and_the_others_stay(cluster, data, tmp_path):
    marks, cases, plan = tmp_path / "marks", find_cases(data), Plan(protocol("clicks"))
    marks.mkdir()
    make, failed = partial(working.halves, marks), []
    with joined(cluster):
        found = evaluate_on_cluster(
            cases, make, ["halves"], plan, tmp_path / "spread", Crew(workers=1), failed=lambda *why: failed.append(why)
        )
    assert (marks / "died").exists() and not failed
    plain = evaluate(cases, make(), plan, tmp_path / "plain")
    said = [
        [(r.key, r.weights, r.dice, r.surface_dice, r.hausdorff_95, r.prompts) for r in run] for run in (plain, found)
    ]
    assert said[0] == said[1]
    assert len((tmp_path / "spread" / FILE).read_text().splitlines()) == 6, "nothing is kept twice"


@pytest.mark.full
def test_a_case_that_cannot_be_read_is_named_and_the_others_go_on(cluster, data, tmp_path, capsys):
    (data / "images" / "ten.nii.gz").write_bytes(b"no image")
    asked = ["evaluate", str(data), "-o", str(tmp_path / "out"), "--model", "confidence-connected", "--no-pictures"]
    assert main([*asked, "--cluster", cluster]) == 2
    said = capsys.readouterr()
    assert "ten with confidence-connected: " in said.err and "The others go on." in said.err
    assert "1 could not be measured (ten with confidence-connected)" in said.err.splitlines()[-1]
    assert "4 structures" in said.out and {row["case"] for row in table(tmp_path / "out")} == {"one", "two"}


@pytest.fixture
def organs(tmp_path, monkeypatch):
    """The command for a folder of images, with a tiny model."""
    for number, name in enumerate(("a1.nii.gz", "a10.nrrd", "part/a2.nii.gz", "part/a2.nrrd")):
        volume, _, _ = two_balls((6, 20, 24))
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(np.roll(volume.array, number, 1), volume.grid), tmp_path / "scans" / name)
    monkeypatch.setattr(auto_folder, "LocalBackend", working.tiny)  # in the workers, and here:
    monkeypatch.setattr(registry, "load", lambda name, *_: working.organs())
    return ["auto", str(tmp_path / "scans"), "--device", "cpu"]


WRITTEN = ["a1.nii.gz", "a10.nii.gz", "part/a2.nii.gz.nii.gz", "part/a2.nrrd.nii.gz"]


def test_auto_labels_a_folder_alike_here_and_on_a_cluster(cluster, organs, tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*organs, "-o", str(here)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{here}: 4 images, samed, ")
    assert main([*organs, "-o", str(there), "--cluster", cluster, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [Path(image["output"]).relative_to(there).as_posix() for image in said["images"]] == WRITTEN
    for name, image in zip(WRITTEN, said["images"], strict=True):
        labels = read_volume(there / name)
        np.testing.assert_array_equal(labels.array, read_volume(here / name).array)
        assert labels.array.any() and labels.grid.same_place(read_volume(tmp_path / "scans" / image["image"]).grid)
        counted = [np.count_nonzero(labels.array == entry["label"]) for entry in image["classes"]]
        assert [entry["voxels"] for entry in image["classes"]] == counted
        assert (there / f"{name}.json").exists()
    (there / WRITTEN[0]).unlink()
    assert main([*organs, "-o", str(there), "--json"]) == 0
    found = capsys.readouterr()
    assert [image["image"] for image in json.loads(found.out)["images"]] == ["a1.nii.gz"]
    assert "3 of 4 have labels" in found.err


@pytest.mark.parametrize("where", ["here", pytest.param("cluster", marks=pytest.mark.full)])
def test_an_image_that_cannot_be_labelled_is_named_and_the_others_are(cluster, organs, tmp_path, capsys, where):
    (tmp_path / "scans" / "broken.nrrd").write_bytes(b"NRRD0004\n")
    more = ["--cluster", cluster] if where == "cluster" else []
    assert main([*organs, "-o", str(tmp_path / "out"), "--json", *more]) == 2
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert [image["image"] for image in result["failed"]] == ["broken.nrrd"] and len(result["images"]) == 4
    assert "1 of 5 could not be labelled: broken.nrrd." in said.err.splitlines()[-1]
    assert not (tmp_path / "out" / "broken.nii.gz").exists()


def test_folders_and_options_that_do_not_fit_are_refused(organs, tmp_path, capsys):
    scans = tmp_path / "scans"

    def refused(*words: str) -> str:
        assert main(list(words)) == 2
        return capsys.readouterr().err

    assert "--cluster is for folders" in refused(
        "auto", str(scans / "a1.nii.gz"), "-o", str(tmp_path / "l.nrrd"), "--cluster"
    )
    assert "--gpus-per-worker belongs to --cluster" in refused(
        *organs, "-o", str(tmp_path / "l"), "--gpus-per-worker", "1"
    )
    assert "choose one" in refused(*organs, "-o", str(tmp_path / "l"), "--cluster", "--server", "http://localhost:1")
    assert "--series chooses" in refused(*organs, "-o", str(tmp_path / "l"), "--series", "1")
    (tmp_path / "empty").mkdir()
    assert "no image in" in refused("auto", str(tmp_path / "empty"), "-o", str(tmp_path / "l"))
    assert "part of a GPU" in refused(*organs, "-o", str(tmp_path / "l"), "--cluster", "--gpus-per-worker", "1.5")


def test_without_ray_it_is_said_how_to_get_it(organs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(joining.importlib.util, "find_spec", lambda name: None)
    assert main([*organs, "-o", str(tmp_path / "l"), "--cluster"]) == 2
    assert 'pip install "napari-sammed[cluster]"' in capsys.readouterr().err


@pytest.mark.full
def test_ctrl_c_keeps_what_is_finished_and_leaves_no_worker(data, tmp_path):
    """With a cluster that the command starts itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    words = ["evaluate", str(data), "-o", str(tmp_path / "out"), "--protocol", "innermost+anywhere:99", "--no-pictures"]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_sammed.cli", *words, "--cluster"],
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while not read_results(tmp_path / "out"):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"the same command goes on from there" in said
    assert 0 < len(read_results(tmp_path / "out")) < 12
    running = subprocess.run(["ps", "-e", "-o", "sid=,args="], capture_output=True, text=True).stdout
    assert not [line for line in running.splitlines() if line.split()[0] == str(process.pid)]
