"""The commands about weights: what a file is, what a model needs, whether a file works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from napari_sammed import cli
from napari_sammed.models import registry
from napari_sammed.models.cards import CARDS
from tests import golden_weights

Run = Callable[..., tuple[int, str, str]]
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 3, "global_attn_indexes": (1,), "image_size": 128, "window_size": 3}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ``napari-sammed models ...`` with an empty cache: exit status, stdout, stderr."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status = cli.main(["models", *map(str, arguments)])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def test_identify_says_system_size_and_variant(run: Run, tmp_path: Path) -> None:
    path = golden_weights.write(tmp_path, "samed_s", {"rank": 2, "num_classes": 3})
    status, out, _ = run("identify", path)
    assert status == 0
    first, second, third = out.splitlines()
    assert first == f"{path}: a LoRA file of SAMed_s; use it with --model samed"
    assert second.endswith(" values; variant SAMed_s, rank 2, classes 3, vit ViT-B, base sam-vit-b")
    assert third == "It has rank 2 and 3 classes, and adds to the weights of SAM ViT-B, which are needed as well."


def test_identify_as_json(run: Run, tmp_path: Path) -> None:
    path = golden_weights.write(tmp_path, "sam-med2d", TINY)
    status, out, err = run("identify", path, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["file"] == str(path)
    assert found["size"] == path.stat().st_size
    assert (found["system"], found["models"]) == ("SAM-Med2D with adapters", ["sam-med2d"])
    assert (found["wrapping"], found["published"]) == (["model"], "")
    assert found["details"]["adapters"] is True


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"backbone.weight": torch.ones(3, 4)}, "tensors of no system known here (1 tensors, 12 values)"),
        (
            {"vision_encoder.a": torch.ones(3)},
            "SAM in the layout of the transformers library; no model here can use it",
        ),
    ],
)
def test_identify_does_not_guess(run: Run, tmp_path: Path, tensors: dict[str, torch.Tensor], said: str) -> None:
    torch.save(tensors, tmp_path / "own.pth")
    status, out, _ = run("identify", tmp_path / "own.pth")
    assert status == 0
    assert out.splitlines()[0] == f"{tmp_path / 'own.pth'}: {said}"


@pytest.mark.parametrize("content", [None, b"", b"hello"])
def test_identify_refuses_what_is_no_weight_file(run: Run, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "own.pth").write_bytes(content)
    status, out, err = run("identify", tmp_path / "own.pth")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("napari-sammed: ")


def test_identify_tells_the_published_file(run: Run, weights: Path) -> None:
    status, out, _ = run("identify", weights)
    assert status == 0
    assert out.startswith(f"{weights}: LiteMedSAM, the published file; use it with --model litemedsam\n")


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_show_tells_everything(run: Run, name: str) -> None:
    card = registry.card(name)
    status, out, _ = run("show", name)
    assert status == 0
    facts = [card.title, card.summary, card.intended_use, card.citation, card.home, card.base]
    if card.weights is not None:
        facts += [card.weights.licence, card.weights.filename, card.weights.sha256, card.weights.note]
        facts += ["recorded by"] if card.weights.recorded_by else []
    assert [fact for fact in facts if fact not in out] == []
    status, out, _ = run("show", name, "--json")
    assert json.loads(out)["cite"] == card.citation


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("medsam", "state no licence for its weights"),
        ("sam-med2d", "gdown 1ARiB5RkSsWmAB_8mqWnwDF8ZKTtFwsjl -O sam-med2d_b.pth"),
    ],
)
def test_pull_says_what_to_do_first(run: Run, name: str, said: str) -> None:
    status, out, err = run("pull", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_verify_tries_a_file(run: Run, tmp_path: Path) -> None:
    path = golden_weights.write(tmp_path, "litemedsam")
    status, out, err = run("verify", "litemedsam", "--weights", path)
    assert status == 0
    assert err.startswith(f"{path} is an own file, not the published weights of LiteMedSAM; its sha256 is ")
    assert out.startswith("litemedsam: whole, but not the published weights, sha256 ")
    status, out, err = run("verify", "--weights", path)
    assert (status, out) == (2, "")
    assert "say which model" in err


def test_the_list_has_every_model(run: Run) -> None:
    status, out, _ = run("list")
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert set(registry.names()) < rows.keys()
    assert "absent" in rows["sam-med2d"] and "?" in rows["sam-med2d"] and "not stated" in rows["sam-med2d"]
    assert "no prompts" in rows["samed"]
