"""The command: real LiteMedSAM weights, a few steps on small pictures; stopped, killed, gone on with; wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")
pytest.importorskip("matplotlib", reason="needs the extra [train]")

from napari_sammed.cli import main
from napari_sammed.models import registry, tuned
from napari_sammed.training import recipes
from tests.training.discs import write_discs


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_discs(tmp_path_factory.mktemp("finetune") / "data", 4)


@pytest.fixture
def here(tmp_path, weights, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(weights.parent))
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def command(data: Path, out: Path, *more: str, steps: int = 4) -> list[str]:
    how = ["--steps", str(steps), "--patients", r"(p\d+)_", "--device", "cpu", "--set", "measured=1", "--batch", "1"]
    return ["finetune", str(data), "--recipe", "litemedsam", "-o", str(out), *how, "--json", *more]


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_from_the_command_to_a_model_in_the_registry(data, here, capsys):
    assert main(command(data, here / "discs", steps=1)) == 0
    said = events(capsys.readouterr().out)
    kinds = [event["event"] for event in said]
    assert kinds[-1] == "done" and {"progress", "remark", "data", "settings", "measure"} <= set(kinds)
    measures = [event for event in said if event["event"] == "measure"]
    assert [event["step"] for event in measures] == [0, 1]
    assert measures[0]["loss"] is None and set(measures[0]) == {"event", "step", "loss", "score", "bright", "dark"}
    done = said[-1]
    assert Path(done["model"]) == here / "discs" / "discs.safetensors" and Path(done["report"]).exists()
    assert done["after"]["score"] >= done["before"]["score"] == pytest.approx(measures[0]["score"])
    assert main(["models", "add", done["model"]]) == 0
    assert registry.load("discs").card.title == "Bright, dark (LiteMedSAM)"


@pytest.mark.full
def test_it_is_used_said_again_and_not_mixed_with_others(data, here, capsys):
    assert main(command(data, here / "discs")) == 0
    assert main(["models", "add", str(here / "discs" / "discs.safetensors")]) == 0
    picture, mask = data / "imagesTr" / "p0_a_0000.png", here / "mask.png"
    assert main(["segment", str(picture), "-o", str(mask), "--model", "discs", "--box", "5,5,40,40"]) == 0
    capsys.readouterr()
    assert main([part for part in command(data, here / "discs") if part != "--json"]) == 0
    said = capsys.readouterr()
    assert "To use it: napari-sammed models add" in said.out and "settings (for small data, ours" in said.out
    assert main(command(data, here / "discs", "--rate", "0.1")) == 2
    assert "other settings (rate" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_that_was_stopped_goes_on_and_ends_the_same(data, here, how):
    def start(out: str) -> subprocess.Popen:
        line = [sys.executable, "-m", "napari_sammed.cli", *command(data, here / out / "discs")]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    process = start("stopped")
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "measure" and event["step"] == 2:
            os.kill(process.pid, how)
            break
    _, err = process.communicate()
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), err
    assert how == signal.SIGKILL or "The same command goes on" in err
    for out in ("stopped", "whole"):
        out, err = start(out).communicate()
        assert events(out)[-1]["event"] == "done", err
    stopped, whole = (tuned.read_card(here / out / "discs" / "discs.safetensors") for out in ("stopped", "whole"))
    assert stopped == whole


def refused(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_wrong_input_is_told_before_an_image_is_read(data, here, capsys, monkeypatch):
    out = str(here / "run")
    run = ["finetune", str(data), "-o", out, "--recipe"]
    assert "did you mean litemedsam" in refused(capsys, *run, "litemedsm")
    assert "tunes litemedsam, not random-walker" in refused(capsys, *run, "litemedsam", "--base", "random-walker")
    assert "there is no model 'random'" in refused(capsys, *run, "litemedsam", "--base", "random")
    assert "no setting 'depth'" in refused(capsys, *run, "litemedsam", "--set", "depth=3")
    assert "NAME=VALUE" in refused(capsys, *run, "litemedsam", "--set", "depth")
    assert "name of another model" in refused(capsys, *run, "litemedsam", "--name", "medsam")
    assert "float32, bfloat16, float16" in refused(capsys, *run, "litemedsam", "--precision", "half")
    assert "There is no folder" in refused(capsys, "finetune", str(here / "no"), "-o", out, "--recipe", "litemedsam")
    assert "models pull medsam --accept-licence" in refused(capsys, *run, "medsam")
    assert not (here / "run").exists()
    monkeypatch.setattr("napari_sammed.commands.finetune.find_spec", lambda name: None)
    assert "pip install 'napari-sammed[train]'" in refused(capsys, *run, "litemedsam")


def test_to_check_only_learns_nothing(data, here, capsys):
    assert main(command(data, here / "discs", "--check-only")) == 0
    kinds = {event["event"] for event in events(capsys.readouterr().out)}
    assert "data" in kinds and not kinds & {"measure", "done"}
    assert not (here / "discs" / "state.pt").exists()


def test_the_recipes_are_shown(capsys):
    assert main(["recipes", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["recipes"]
    assert [each["name"] for each in shown] == list(recipes.names())
    assert main(["recipes"]) == 0
    assert "litemedsam" in capsys.readouterr().out


def test_looking_at_recipes_loads_no_torch():
    code = "import sys; from napari_sammed.training import recipes; recipes.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
