"""SegVol's weight files: every layout that they are handed round in, and what is said of the wrong ones."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_sammed import cli
from napari_sammed.errors import WeightsError
from napari_sammed.models import registry
from napari_sammed.models.assembly import assemble
from napari_sammed.models.identify import identify_file
from tests import golden_weights
from tests.golden import golden_value
from tests.golden_3d import Golden3d
from tests.models.cards import saved
from tests.models.files import safetensors_of
from tests.tiny_models import tiny_config

TEXT = "text_encoder.clip_text_model.text_model."
CONFIG = tiny_config("segvol")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no weight folder."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)


def network() -> dict[str, Tensor]:
    return golden_weights.golden_tensors("segvol", CONFIG)


def text(names: list[str]) -> dict[str, Tensor]:
    """The text branch, each tensor a single number."""
    return {
        name: torch.zeros(1, dtype=torch.int64 if name.endswith("position_ids") else torch.float32) for name in names
    }


@pytest.fixture(scope="module")
def text_names(shared: Path) -> list[str]:
    """Names of the whole text branch, as the official code has them."""
    names = [key for key in Golden3d(shared / "goldens" / "segvol_full.npz").keys if key.startswith("text_encoder.")]
    assert f"{TEXT}embeddings.position_ids" in names
    assert len([name for name in names if name.startswith(TEXT)]) == 197
    return names


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


@pytest.mark.parametrize("form", ["trainer", "hub", "safetensors", "bare", "without text"])
def test_files_fill_the_network(form: str, text_names: list[str], tmp_path: Path) -> None:
    whole = network() | text(text_names)
    left_over = {"epoch": 270, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "scheduler": {"t": 3}}
    content = {
        "trainer": {"model": prefixed("module.", whole), **left_over, "args": argparse.Namespace(lr=1e-4)},
        "hub": prefixed("model.", whole),
        "bare": whole,
        "without text": network(),
    }
    path = tmp_path / "own.pth"
    path.write_bytes(safetensors_of(prefixed("model.", whole)) if form == "safetensors" else saved(content[form]))
    found = assemble(registry.card("segvol"), path, config=CONFIG)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    state = found.network.state_dict()
    assert state.keys() == network().keys()
    assert all(torch.equal(v, torch.from_numpy(golden_value(k, tuple(v.shape)))) for k, v in state.items())
    assert found.notes == ()
    assert identify_file(path).models == ("segvol",)
    assert identify_file(path).details["text"] == (form != "without text")


def without(start: str) -> dict[str, Tensor]:
    return {key: value for key, value in network().items() if not key.startswith(start)}


BAD = {
    "half": (without("mask_decoder.transformer.layers.1."), "do not fit SegVol: 36 missing (mask_decoder.transformer"),
    "too much": (network() | {"image_encoder.cls_token": torch.zeros(1)}, "1 unexpected (image_encoder.cls_token)"),
    "other text": (network() | {"text_decoder.weight": torch.zeros(1)}, "1 unexpected (text_decoder.weight)"),
    "other window": (
        golden_weights.golden_tensors("segvol", {**CONFIG, "spatial_size": (8, 32, 32)}),
        "of another shape (image_encoder.patch_embedding.position_embeddings (1, 8, 32) instead of (1, 12, 32)",
    ),
    "pre-trained encoder": (
        {
            "state_dict": {
                "model.encoder.patch_embedding.position_embeddings": torch.zeros(1),
                "model.x": torch.zeros(1),
            }
        },
        "is SegVol's image encoder before it learnt to segment, not SegVol: no model here can use it; Get SegVol_v1",
    ),
    "SAM-Med3D": (
        {"model_state_dict": golden_weights.golden_tensors("sam-med3d", tiny_config("sam-med3d"))},
        "is SAM-Med3D, not SegVol: use --model sam-med3d",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_wrong_files_are_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    content, expected = BAD[kind]
    path = tmp_path / "own.pth"
    path.write_bytes(saved(content))
    with pytest.raises(WeightsError) as error:
        assemble(registry.card("segvol"), path, config=CONFIG)
    assert expected in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_models_refuse_its_files_by_name(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(saved({"model": prefixed("module.", network())}))
    with pytest.raises(WeightsError, match="is SegVol, not SAM-Med3D: use --model segvol"):
        assemble(registry.card("sam-med3d"), path, config=tiny_config("sam-med3d"))


def test_the_command_says_how_to_get_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "pull", "segvol", "--accept-licence"]) == 2
    error = capfd.readouterr().err
    assert "pytorch_model.bin" in error and "save it as SegVol_v1.pth" in error and error.count("\n") == 1
    path = tmp_path / "own.pth"
    path.write_bytes(saved(prefixed("model.", network())))
    assert cli.main(["models", "identify", str(path)]) == 0
    assert "SegVol" in capfd.readouterr().out
