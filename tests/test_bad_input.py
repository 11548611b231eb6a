"""Bad input ends with exit status 2 and one plain line, whatever is wrong with it."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sammed.cli import main
from napari_sammed.models.storage import CACHE_VARIABLE
from napari_sammed.models.weights import FOLDER_VARIABLE
from napari_sammed.volume import Volume, write_volume
from tests.phantoms import two_balls

SHAPE = (20, 40, 50)  # k, j, i


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good image."""
    write_volume(two_balls(SHAPE)[0], tmp_path / "image.nii.gz")
    return tmp_path


@pytest.fixture
def refuse(capfd, folder) -> Callable[..., str]:
    """Run the command in process and return the one line that it refuses with; nothing else may have come."""

    def run(*arguments: object) -> str:
        before = {path for path in folder.rglob("*")}
        assert main([str(argument) for argument in arguments]) == 2
        said = capfd.readouterr()
        assert said.out == ""
        return one_line(said.err, folder, before)

    return run


def one_line(err: str, folder: Path, before: set[Path]) -> str:
    assert err.count("\n") == 1 and err.startswith("napari-sammed: "), err
    assert "Traceback" not in err
    assert {path for path in folder.rglob("*")} == before, "something was left behind"
    return err


def segment(folder: Path, *arguments: object, image: str = "image.nii.gz", output: str = "mask.nii.gz") -> list[object]:
    return ["segment", folder / image, "-o", folder / output, *(arguments or ("--point", "12,20,10"))]


# ---- the image -------------------------------------------------------------------------------------------------------


def spoiled(folder: Path, kind: str) -> str:
    """Make a bad image of some kind; returns its name."""
    good = folder / "image.nii.gz"
    array = two_balls(SHAPE)[0].array.copy()
    match kind:
        case "missing":
            return "missing.nii.gz"
        case "text":
            (folder / "text.nii.gz").write_text("This is not an image.\n" * 20)
            return "text.nii.gz"
        case "gzipped text":
            (folder / "text.nii.gz").write_bytes(gzip.compress(b"This is not an image.\n" * 50))
            return "text.nii.gz"
        case "truncated":
            content = good.read_bytes()
            (folder / "cut.nii.gz").write_bytes(content[: len(content) // 2])
            return "cut.nii.gz"
        case "empty":
            (folder / "empty.nii.gz").touch()
            return "empty.nii.gz"
        case "nan":
            array[3, 4, 5] = np.nan
        case "constant":
            array[:] = 7
        case "four axes":
            frames = sitk.JoinSeries([sitk.GetImageFromArray(array)] * 2)
            sitk.WriteImage(frames, str(folder / "bad.nii.gz"))
            return "bad.nii.gz"
        case "empty folder":
            (folder / "series").mkdir()
            return "series"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / "bad.nii.gz"))
    return "bad.nii.gz"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no file or folder .*missing.nii.gz"),
        ("text", "text.nii.gz"),
        ("gzipped text", "text.nii.gz"),
        ("truncated", "cut.nii.gz"),
        ("empty", "empty"),
        ("nan", "1 voxels that are NaN or infinite"),
        ("constant", "same value 7 everywhere"),
        ("four axes", "2 frames .*choose one .*frame.*0 to 1"),
        ("empty folder", "series"),
    ],
)
def test_images_that_are_none(refuse, folder, kind, message):
    name = spoiled(folder, kind)
    assert re.search(message, refuse(*segment(folder, image=name)))


def test_a_frame_that_is_not_there(refuse, folder):
    assert "no frame 5" in refuse(*segment(folder, "--frame", "5", "--point", "1,1,1"))


# ---- prompts and options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--point", "50,20,10"], "point 50,20,10 lies outside the image: it has 50 x 40 x 20 voxels"),
        (["--point", "-1,20,10"], "lies outside"),
        (["--ras", "--point", "500,0,0"], "point 500,0,0 (voxel "),
        (["--point", "12,20"], "'12,20' is not I,J,K"),
        (["--point", "12,20,ten"], "'12,20,ten' is not I,J,K"),
        (["--point", "12,20,nan"], "is not I,J,K"),
        (["--box", "5,5,5,5,20,10"], "empty or reversed"),
        (["--box", "20,20,10,5,5,5"], "empty or reversed"),
        (["--box", "5,5,5,20,20"], "is not I0,J0,K0,I1,J1,K1"),
        (["--box", "5,5,5.5,20,20,10"], "whole numbers"),
        (["--box", "60,5,5,70,20,10"], "box 60,5,5,70,20,10 lies outside"),
        (["--negative", "12,20,10"], "nothing to segment from"),
        (["--propagate"], "nothing to segment from"),
        (["--mask", "nothing.nii.gz"], "nothing.nii.gz"),
        (["--point", "12,20,10", "--model", "lite_medsam"], "did you mean litemedsam?"),
        (["--point", "12,20,10", "--model", "gpt"], "no model 'gpt'"),
        (["--point", "12,20,10", "--weights", "none.pth"], "random-walker needs no weights"),
        (["--point", "12,20,10", "--window", "stomach"], "no window 'stomach'"),
        (["--point", "12,20,10", "--window", "40,-1"], "width of a window is positive"),
        (["--point", "12,20,10", "--window", "40,wide"], "neither level,width nor"),
        (["--point", "12,20,10", "--axis", "z"], "no axis 'z'"),
        (["--box", "5,5,5,20,20,6", "--device", "abacus"], "no device 'abacus'"),
        (["--point"], "requires an argument"),
        (["--pont", "1,2,3"], "No such option"),
        (["--frame", "first", "--point", "1,1,1"], "Invalid value for '--frame'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_prompts_and_options_that_make_no_sense(refuse, folder, arguments, message, request):
    if "abacus" in arguments:
        request.getfixturevalue("weights")
    assert message in refuse(*segment(folder, *arguments))


def test_no_prompt_at_all(refuse, folder):
    assert "--point, --box or --mask" in refuse("segment", folder / "image.nii.gz", "-o", folder / "mask.nii.gz")


def test_an_empty_mask_prompt(refuse, folder):
    write_volume(Volume(np.zeros(SHAPE, np.uint8), two_balls(SHAPE)[0].grid), folder / "none.nii.gz")
    assert "has no voxel inside the image" in refuse(*segment(folder, "--mask", folder / "none.nii.gz"))


def test_commands_without_what_they_need(refuse):
    assert "Missing argument" in refuse("segment")
    assert "No such command 'segmet'" in refuse("segmet")
    assert "there is no model 'x'" in refuse("models", "pull", "x")
    assert "needs no weights" in refuse("models", "path", "random-walker")


def test_session_files_that_are_none(refuse, folder):
    (folder / "notes.txt").write_text("hello\n")
    assert "not JSON" in refuse("replay", folder / "notes.txt", "-o", folder / "m.nii.gz")
    assert "cannot be read" in refuse("replay", folder / "no.jsonl", "-o", folder / "m.nii.gz")
    assert "not JSON" in refuse(*segment(folder, "--session", folder / "notes.txt", "--point", "1,1,1"))
    assert (folder / "notes.txt").read_text() == "hello\n"


# ---- the output ------------------------------------------------------------------------------------------------------


def test_outputs_that_cannot_be(refuse, folder):
    assert "mask.doc has no format to write" in refuse(*segment(folder, output="mask.doc"))
    assert "no folder" in refuse(*segment(folder, output="nowhere/mask.nii.gz"))
    assert "flat image" in refuse(*segment(folder, output="mask.png"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders are not read-only this way here")
def test_a_folder_that_is_read_only(capfd):
    """As another user if need be: nothing is read-only for root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_volume(two_balls(SHAPE)[0], folder / "image.nii.gz")
        closed = folder / "closed"
        closed.mkdir()
        closed.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            for arguments in (
                segment(folder, output="closed/mask.nii.gz"),
                ["demo", "--headless", "-o", closed],
                ["demo", "--headless", "-o", closed / "deeper"],
                segment(folder, "--session", closed / "s.jsonl", "--point", "1,1,1", output="closed/mask.nii.gz"),
            ):
                assert main([str(argument) for argument in arguments]) == 2
                said = capfd.readouterr()
                assert said.out == "" and said.err.count("\n") == 1, said.err
                assert "closed" in said.err and "Permission denied" in said.err
        finally:
            if was_root:
                os.seteuid(0)


# ---- weights ---------------------------------------------------------------------------------------------------------


def boxed(folder: Path, *arguments: object) -> list[object]:
    return segment(folder, "--box", "5,5,10,20,20,11", *arguments)


def test_weights_of_another_model(refuse, folder):
    import torch

    torch.save({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}, folder / "other.pth")
    line = refuse(*boxed(folder, "--weights", folder / "other.pth"))
    assert "other.pth do not fit LiteMedSAM" in line


def test_a_file_that_holds_no_weights(refuse, folder):
    (folder / "w.pth").write_bytes(b"no weights at all")
    assert "w.pth" in refuse(*boxed(folder, "--weights", folder / "w.pth"))
    assert "there is no weight file" in refuse(*boxed(folder, "--weights", folder / "absent.pth"))


@pytest.mark.parametrize("how", ["own file", "folder of weights", "cache"])
def test_weights_with_one_byte_flipped(refuse, folder, weights, monkeypatch, how):
    place = folder / "cache" / "weights"
    place.mkdir(parents=True)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = place / weights.name
    damaged.write_bytes(content)
    arguments: tuple[object, ...] = ()
    match how:
        case "own file":
            arguments = ("--weights", damaged)
        case "folder of weights":
            monkeypatch.setenv(FOLDER_VARIABLE, str(place))
        case "cache":
            monkeypatch.setenv(CACHE_VARIABLE, str(place.parent))
    assert "damaged" in refuse(*boxed(folder, *arguments))


def test_no_network_and_no_weights(refuse, folder, monkeypatch):
    (folder / "cache" / "weights").mkdir(parents=True)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert main(["models", "path", "litemedsam"]) == 2
    line = refuse_with_announcement(folder)
    assert "no network" in line and "--weights" in line and FOLDER_VARIABLE in line


def refuse_with_announcement(folder: Path) -> str:
    """As a real process: the line that announces the download comes before the refusal."""
    command = [sys.executable, "-m", "napari_sammed.cli", *map(str, boxed(folder))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 2 and done.stdout == "", done.stderr
    announced, refused = done.stderr.splitlines()
    assert announced.startswith("Fetching the weights of litemedsam: 39.4 MB") and "Apache-2.0" in announced
    assert refused.startswith("napari-sammed: ")
    return refused


# ---- real processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "truncated", "nan"])
def test_a_real_process_says_the_same(folder, kind):
    name = spoiled(folder, kind)
    before = {path for path in folder.rglob("*")}
    program = shutil.which("napari-sammed", path=str(Path(sys.executable).parent)) or pytest.fail("no command")
    command = [program, *map(str, segment(folder, image=name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert name in one_line(done.stderr, folder, before) or "bad" in done.stderr
