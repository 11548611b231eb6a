"""Commands that have whole folders, or the demo, done at a server: the same results, and one question beforehand."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_sammed import samples
from napari_sammed.backend import remote_connection
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote_choice import Servers
from napari_sammed.cli import main
from napari_sammed.commands import demo
from napari_sammed.errors import InputError
from napari_sammed.evaluation.cases import find_cases
from napari_sammed.evaluation.methods import methods
from napari_sammed.evaluation.protocols import protocol
from napari_sammed.evaluation.results import read_results
from napari_sammed.evaluation.runs import Plan, evaluate
from napari_sammed.server.settings import Settings
from napari_sammed.volume import Volume, read_volume, write_mask, write_volume
from tests.cluster.working import organs
from tests.phantoms import two_balls
from tests.server.serving import in_thread
from tests.thresholder import Thresholder


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """No server was agreed to before."""
    monkeypatch.setenv("NAPARI_SAMMED_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    for name, shift in (("one", 0), ("two", 2)):
        volume, first, second = two_balls()
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        image = Volume(np.roll(volume.array, shift, 1), volume.grid)
        write_volume(image, folder / "images" / f"{name}.nii.gz")
        labels = first.astype(np.uint8) + 2 * second.astype(np.uint8)
        write_mask(np.roll(labels, shift, 1), volume.grid, folder / "labels" / f"{name}.nii.gz")
    return folder


class Terminal:
    """Somebody who agrees once."""

    def __init__(self) -> None:
        self.answers = ["y\n"]

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.answers.pop()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(file)]


@pytest.mark.parametrize("chosen", [pytest.param("clicks", marks=pytest.mark.full), "medsam"])
def test_evaluate_gives_the_same_results_and_asks_once(url, data, tmp_path, capsys, monkeypatch, chosen):
    asked = ["evaluate", str(data), "--model", "random-walker", "--protocol", chosen]
    assert main([*asked, "-o", str(tmp_path / "here")]) == 0
    monkeypatch.setattr(sys, "stdin", Terminal())
    capsys.readouterr()
    assert main([*asked, "-o", str(tmp_path / "there"), "--server", url]) == 0
    said = capsys.readouterr().err
    assert said.count("Send it?") == 1 and "the images of 2 cases" in said
    assert table(tmp_path / "there") == table(tmp_path / "here")


def test_nothing_of_a_folder_is_sent_without_consent(url, data, tmp_path, capsys):
    where = ["-o", str(tmp_path / "out"), "--server", url]
    assert main(["evaluate", str(data), *where]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the images of 2 cases" in said and "--yes-upload" in said
    assert main(["auto", str(data / "images"), *where]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the 2 images of" in said and "--yes-upload" in said
    assert main(["demo", "--headless", *where]) == 2
    assert "--yes-upload" in capsys.readouterr().err


def test_who_agreed_in_the_plugin_is_not_asked_again(url, data, tmp_path, capsys):
    Servers().agree(url)
    asked = ["evaluate", str(data), "-o", str(tmp_path / "out"), "--model", "random-walker", "--no-pictures"]
    assert main([*asked, "--server", url]) == 0
    Servers().withdraw(url)
    assert main([*asked, "--server", url]) == 2


def test_a_server_that_is_gone_ends_the_run_and_leaves_no_results(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(remote_connection, "_FIRST_PATIENCE", 0.5)
    asked = ["evaluate", str(data), "-o", str(tmp_path / "out"), "--model", "random-walker", "--yes-upload"]
    assert main([*asked, "--server", "http://localhost:1"]) == 2
    assert "localhost:1 cannot be used" in capsys.readouterr().err
    assert not read_results(tmp_path / "out"), "no structure is said to be refused by the model"


def test_a_server_with_other_weights_is_found_out(data, tmp_path):
    """It cannot be asked before, as that of this machine can."""
    cases, plan = find_cases(data), Plan(protocol("clicks"))
    for weights, chosen in (("thresholder-1", cases[:1]), ("others", cases)):
        model = Thresholder(planar=True)
        model.weights_hash = weights
        backend = LocalBackend("cpu", models={"planar": model})
        try:
            evaluate(chosen, methods(["planar"], backend), plan, tmp_path / "out")
        except InputError as error:
            assert "planar was measured with other weights (thresholder-, now others)" in str(error)
            break
        finally:
            backend.shutdown()
    else:
        pytest.fail("results of two models are mixed")
    assert {result.weights for result in read_results(tmp_path / "out")} == {"thresholder-1"}


def test_auto_labels_a_folder_at_a_server(data, tmp_path, capsys):
    model = organs()
    backend = LocalBackend("cpu", models={"samed": model, "thresholder": Thresholder()})
    with in_thread(Settings(tmp_path / "server"), backend) as url:
        asked = ["auto", str(data / "images"), "-o", str(tmp_path / "out"), "--json", "--server", url, "--yes-upload"]
        assert main(asked) == 0
    assert [image["image"] for image in json.loads(capsys.readouterr().out)["images"]] == ["one.nii.gz", "two.nii.gz"]
    for name in ("one.nii.gz", "two.nii.gz"):
        image = read_volume(data / "images" / name)
        found = model.segment(image, None, None, lambda *_: None, None)
        expected = np.zeros(image.grid.shape, np.uint8)
        expected[found.box.slices] = found.labels
        np.testing.assert_array_equal(read_volume(tmp_path / "out" / name).array, expected)


def test_the_demo_at_a_server(url, tmp_path, capsys, monkeypatch):
    scene = demo.torso_scene(samples.torso())
    monkeypatch.setattr(demo, "_scene", lambda: scene)
    assert main(["demo", "--headless", "-o", str(tmp_path / "here"), "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert main(["demo", "-o", str(tmp_path / "there"), "--json", "--server", url, "--yes-upload"]) == 0
    there = json.loads(capsys.readouterr().out)
    masks = [read_volume(result["mask"]).array for result in (here, there)]
    np.testing.assert_array_equal(*masks)
    assert there["dice"] == here["dice"] and masks[0].any()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--jobs", "2"], "leave out --cluster and --jobs"),
        (["--cluster"], "leave out"),
        (["--device", "cpu"], "of its own"),
    ],
)
def test_options_of_this_machine_do_not_go_with_a_server(data, tmp_path, capsys, more, words):
    asked = ["evaluate", str(data), "-o", str(tmp_path / "out"), "--server", "http://localhost:1", "--yes-upload"]
    assert main([*asked, *more]) == 2
    assert words in capsys.readouterr().err
