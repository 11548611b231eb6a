"""Commands that have their work done at a server."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from napari_sammed.backend import remote_connection
from napari_sammed.cli import main
from napari_sammed.volume import read_volume, write_volume
from tests.server.serving import volume


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "image.nii.gz"
    write_volume(volume(), path)
    return path


def segment(file, output, *more):
    click = ["--model", "random-walker", "--point", "14,12,5", "--negative", "2,2,5"]
    return main(["segment", str(file), "-o", str(output), *click, "--json", *more])


def test_the_mask_is_that_of_this_machine(url, file, tmp_path, capsys):
    here, there = tmp_path / "here.nii.gz", tmp_path / "there.nii.gz"
    assert segment(file, here) == 0
    expected = json.loads(capsys.readouterr().out)
    session = tmp_path / "session.jsonl"
    assert segment(file, there, "--server", url, "--yes-upload", "--session", str(session)) == 0
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_array_equal(read_volume(there).array, read_volume(here).array)
    del expected["seconds"], found["seconds"], expected["output"], found["output"]
    assert {k: v for k, v in found.items() if k != "session"} == {k: v for k, v in expected.items() if k != "session"}
    again = tmp_path / "again.nii.gz"
    assert main(["replay", str(session), "-o", str(again), "--server", url, "--yes-upload", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"]


def test_nothing_is_sent_without_consent(url, file, tmp_path, capsys):
    assert segment(file, tmp_path / "mask.nii.gz", "--server", url) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--yes-upload" in said and "10 x 24 x 28 voxels" in said
    assert not (tmp_path / "mask.nii.gz").exists()


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 2), ("", 2)])
def test_consent_is_asked_for_on_a_terminal(url, file, tmp_path, capsys, monkeypatch, answer, status):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return answer

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert segment(file, tmp_path / "mask.nii.gz", "--server", url) == status
    assert "Send it?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--server", "gpu.lab:8765", "--yes-upload"), "no address of a server"),
        (("--server", "http://gpu.lab:8765", "--yes-upload"), "can read the images"),
        (("--server", "https://anna:secret@gpu.lab", "--yes-upload"), "no user, password"),
        (("--server", "https://gpu.lab:99999", "--yes-upload"), "no address of a server"),
        (("--yes-upload",), "belong to --server"),
        (("--device", "cpu", "--server", "http://localhost:1"), "device of its own"),
    ],
)
def test_what_does_not_fit_is_said(file, tmp_path, capsys, more, words):
    assert segment(file, tmp_path / "mask.nii.gz", *more) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said and "secret" not in said


def test_a_model_without_weights_there(url, file, tmp_path, capsys):
    assert main(["auto", str(file), "-o", str(tmp_path / "labels.nii.gz"), "--server", url, "--yes-upload"]) == 2
    assert "SAMed" in capsys.readouterr().err


def test_the_doctor_asks_a_server(url, capsys, monkeypatch):
    monkeypatch.setattr(remote_connection, "_FIRST_PATIENCE", 0.5)
    main(["doctor", "--server", url, "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (about,) = (finding for finding in findings if finding["about"] == "server")
    assert about["good"] and "Random walker" in about["text"]
    main(["doctor", "--server", "http://localhost:1", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (about,) = (finding for finding in findings if finding["about"] == "server")
    assert not about["good"] and "no connection" in about["text"]
