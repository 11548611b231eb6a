"""``segment --refine``: with a box, without one, in millimetres; and what cannot be refined."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sammed import cli
from napari_sammed.cli import main
from napari_sammed.evaluation.clicks import innermost
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.volume import Volume, read_volume, write_volume
from tests.phantoms import two_balls


@pytest.fixture
def scene(tmp_path) -> tuple[Volume, np.ndarray]:
    """A volume on disk, and the ball in it that is clicked."""
    volume, ball, _ = two_balls()
    write_volume(volume, tmp_path / "image.nii.gz")
    return volume, ball


def run(capsys, folder, *arguments) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    words = ["segment", folder / "image.nii.gz", "-o", folder / "mask.nii.gz", "--json", *arguments]
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out, said.err


def ijk(index) -> str:
    return ",".join(str(i) for i in reversed(index))


def clicked(ball: np.ndarray) -> tuple[str, str]:
    return "--point", ijk(innermost(ball, (3, 1, 1)))


def test_a_box_limits_what_changes(capsys, scene, tmp_path):
    _, ball = scene
    run(capsys, tmp_path, *clicked(ball))
    before = read_volume(tmp_path / "mask.nii.gz").array > 0
    part = Box.of_mask(ball)
    part = Box(part.low, (part.high[0], part.high[1], (part.low[2] + part.high[2]) // 2))
    box = f"{ijk(part.low)},{ijk(part.high)}"
    status, out, err = run(capsys, tmp_path, *clicked(ball), "--refine", box)
    assert status == 0, err
    after = read_volume(tmp_path / "mask.nii.gz").array > 0
    assert any("Looked closer" in sentence for sentence in json.loads(out)["reductions"])
    before[part.slices] = after[part.slices] = False
    assert np.array_equal(before, after)


@pytest.mark.parametrize("place", ["first", "last", "before a flag", "as usual elsewhere"])
def test_without_a_box_it_is_the_part_around_the_mask(capsys, scene, tmp_path, place):
    words = {
        "first": ("--refine", *clicked(scene[1])),
        "last": (*clicked(scene[1]), "--refine"),
        "before a flag": ("--refine", "--json", *clicked(scene[1])),
        "as usual elsewhere": (*clicked(scene[1]), "--refine=mask"),
    }
    status, out, err = run(capsys, tmp_path, *words[place])
    assert status == 0, err
    assert any("Looked closer" in sentence for sentence in json.loads(out)["reductions"])
    assert dice(read_volume(tmp_path / "mask.nii.gz").array > 0, scene[1]) > 0.9


def test_a_box_in_millimetres(capsys, scene, tmp_path):
    volume, ball = scene
    part = Box.of_mask(ball).grow(2)
    corners = volume.grid.to_world(np.array([part.low, part.high]) - [[0] * 3, [1] * 3]) * [-1, -1, 1]  # LPS to RAS
    click = volume.grid.to_world(np.array(innermost(ball, (3, 1, 1)))) * [-1, -1, 1]
    box = ",".join(f"{value:.2f}" for value in corners.ravel())
    words = ("--ras", "--point", ",".join(f"{value:.2f}" for value in click), "--refine", box)
    status, _, err = run(capsys, tmp_path, *words)
    assert status == 0, err
    assert dice(read_volume(tmp_path / "mask.nii.gz").array > 0, ball) > 0.9


def test_a_session_can_be_refined_later(capsys, scene, tmp_path):
    session = ("--session", tmp_path / "s.jsonl")
    run(capsys, tmp_path, *clicked(scene[1]), *session)
    status, out, err = run(capsys, tmp_path, "--refine", *session)
    assert status == 0, err
    assert any("Looked closer" in sentence for sentence in json.loads(out)["reductions"])


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ("0,0,0,3,3,3", "Nothing of"),
        ("90,90,90,95,95,95", "outside the image"),
        ("5,5,5,2,9,9", "empty or reversed"),
        ("1,2,3", "takes 6 numbers"),
    ],
)
def test_parts_that_cannot_be(capsys, scene, tmp_path, box, says):
    status, _, err = run(capsys, tmp_path, *clicked(scene[1]), "--refine", box)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "mask.nii.gz").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--refine"], ["--refine=mask"]),
        (["--refine", "-o", "x"], ["--refine=mask", "-o", "x"]),
        (["--refine", "-1.5,2,3,4e1,5,6"], ["--refine", "-1.5,2,3,4e1,5,6"]),
        (["--refine", "scan,2.nii.gz"], ["--refine=mask", "scan,2.nii.gz"]),
        (["--refine=1,2,3,4"], ["--refine=1,2,3,4"]),
        (["evaluate", "--cluster", "data"], ["evaluate", "--cluster=here", "data"]),
        (["auto", "--cluster", "192.0.2.7:6379", "a"], ["auto", "--cluster", "192.0.2.7:6379", "a"]),
        (["auto", "a", "--cluster", "auto", "-o", "b"], ["auto", "a", "--cluster", "auto", "-o", "b"]),
        (["serve", "--cluster", "--port", "0"], ["serve", "--cluster=here", "--port", "0"]),
    ],
)
def test_which_word_is_its_value(given, meant):
    assert cli._with_values(given) == meant
