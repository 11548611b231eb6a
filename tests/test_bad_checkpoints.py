"""Twelve kinds of bad weight files: each refused in one plain sentence, nothing of it run, nothing of it loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_sammed import cli
from napari_sammed.errors import WeightsError
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.models.assembly import assemble
from napari_sammed.volume import Volume, write_volume
from tests import golden_weights
from tests.models.cards import saved
from tests.models.files import SENTINEL, Evil, flipped, repacked, zipped

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 3, "global_attn_indexes": (1,), "image_size": 128, "window_size": 3}
TINY_LORA = {**TINY, "base_image_size": 128, "image_size": 96, "num_classes": 5}


def sam() -> dict[str, Tensor]:
    return golden_weights.golden_tensors("sam-vit-b", TINY)


def lora(**changes: Any) -> dict[str, Tensor]:
    return golden_weights.golden_tensors("samed", {**TINY_LORA, **changes})


def renamed() -> dict[str, Tensor]:
    names = {"w_a_": "lora_a_", "w_b_": "lora_b_"}
    return {names.get(key[:4], key[:4]) + key[4:]: value for key, value in lora().items()}


def without(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if not key.startswith(start)}


def other_rank() -> dict[str, Tensor]:
    return lora() | {key: value for key, value in lora(rank=7).items() if key.startswith("w_b_")}


def other_classes() -> dict[str, Tensor]:
    return lora() | {key: value for key, value in lora(num_classes=8).items() if "iou_prediction_head" in key}


def vit_l() -> dict[str, Tensor]:
    """The beginning of a SAM ViT-L file; a whole one has more than a gigabyte."""
    return {
        "image_encoder.pos_embed": torch.zeros(1, 64, 64, 1024),
        "image_encoder.patch_embed.proj.weight": torch.zeros(1024, 3, 16, 16),
    }


def bomb() -> bytes:
    return repacked(saved(sam()), 8, **{"0": bytes(20_000_000)})


KINDS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "truncated": ("sam-vit-b", lambda: saved(sam())[:-5000], "is damaged or cut short"),
    "other_system": (
        "medsam",
        lambda: saved({"model": golden_weights.golden_tensors("sam-med2d", TINY)}),
        "is SAM-Med2D with adapters, not MedSAM: use --model sam-med2d",
    ),
    "other_size": ("sam-vit-b", lambda: saved(vit_l()), "is SAM ViT-L, not SAM ViT-B: use --model sam-vit-l"),
    "pickled_code": (
        "sam-med2d",
        lambda: saved({"model": {**sam(), "evil": Evil()}}),
        "holds a pickled Python object (io.open) under 'evil' where a tensor should be",
    ),
    "nested_archive": (
        "sam-vit-b",
        lambda: zipped(download__sam__vit__b_pth=saved(sam())),
        "is a zip archive, but not one written by torch.save; unpack it and name 'download/sam/vit/b.pth' inside",
    ),
    "renamed_lora": (
        "samed",
        lambda: saved(renamed()),
        "do not fit SAMed: it has no LoRA matrices w_a_000, w_b_000, ... but lora_a_000, lora_a_001, lora_a_002",
    ),
    "wrong_rank": (
        "samed",
        lambda: saved(other_rank()),
        "does not fit together: w_b_000 has the shape (48, 7) in a LoRA file of rank 4",
    ),
    "wrong_class_count": (
        "samed",
        lambda: saved(other_classes()),
        "mask tokens for 5 classes and the background, but 6 mask heads and 9 scores instead of 6 each",
    ),
    "empty": ("medsam", lambda: b"", "is no weight file: it is empty"),
    "text": (
        "sam-med2d",
        lambda: b"Sorry, the quota is exceeded.",
        "is no weight file: it is a text file",
    ),
    "zip_bomb": ("sam-vit-b", bomb, "has packed members, which torch.save does not write; it is not unpacked"),
    "missing_lora_half": (
        "samed",
        lambda: saved(without(lora(), "w_b_")),
        "is only a part of a LoRA file: 4 of its 4 matrices w_b_000, w_b_001, ... are missing",
    ),
}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache; the folder to work in is where hostile files would leave their trace."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Networks that were given anything; stays empty when nothing is loaded half."""
    touched: list[nn.Module] = []
    load = nn.Module.load_state_dict

    def spy(self: nn.Module, *args: Any, **options: Any) -> Any:
        touched.append(self)
        return load(self, *args, **options)

    monkeypatch.setattr(nn.Module, "load_state_dict", spy)
    return touched


def write(kind: str, folder: Path) -> tuple[str, Path, str]:
    """The model that a bad file is given to, the file, and what must be said of it."""
    model, make, expected = KINDS[kind]
    path = folder / "weights" / "own.pth"
    path.parent.mkdir()
    path.write_bytes(make())
    return model, path, expected


@pytest.mark.parametrize("kind", KINDS)
def test_is_refused_in_a_sentence(kind: str, tmp_path: Path, untouched: list[nn.Module]) -> None:
    model, path, expected = write(kind, tmp_path)
    with pytest.raises(WeightsError) as error:
        registry.load(model, path)
    text = str(error.value)
    assert expected in text
    assert str(path) in text
    assert "\n" not in text and len(text) < 500
    assert not Path(SENTINEL).exists()
    assert untouched == []


@pytest.mark.parametrize("kind", KINDS)
def test_is_refused_on_the_command_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, path, expected = write(kind, tmp_path)
    image = tmp_path / "image.nii"
    write_volume(Volume.from_array(np.random.default_rng(0).integers(0, 99, (3, 20, 20)).astype(np.uint8)), image)
    commands = [["models", "verify", model, "--weights", str(path)]]
    if registry.card(model).prompts:
        options = ["--model", model, "--weights", str(path), "--box", "5,5,1,12,12,2"]
        commands.append(["segment", str(image), "-o", str(tmp_path / "mask.nii"), *options])
    for command in commands:
        assert cli.main(command) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("napari-sammed: ") and err.count("\n") == 1
        assert expected in err
    assert not (tmp_path / "mask.nii").exists()
    assert not Path(SENTINEL).exists()


def test_damage_in_the_last_value_leaves_nothing_half_done(tmp_path: Path, untouched: list[nn.Module]) -> None:
    content = saved(sam())
    last = list(sam().values())[-1].numpy().tobytes()
    path = tmp_path / "own.pth"
    path.write_bytes(flipped(content, content.rindex(last)))
    with pytest.raises(WeightsError, match="damaged or cut short"):
        assemble(registry.card("sam-vit-b"), path, config=TINY)
    assert untouched == []
    path.write_bytes(content)
    assert untouched == [assemble(registry.card("sam-vit-b"), path, config=TINY).network]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("no_base", "samed.pth adds to the weights of SAM ViT-B, which are missing: nowhere"),
        ("base_instead_of_lora", "is SAM a ViT of width 48 for 128 pixels, not SAMed"),
        ("base_of_another_system", "sam-vit-b.pth is LiteMedSAM (TinyViT), but samed.pth adds to SAM ViT-B"),
        ("base_of_another_size", "sam-vit-b.pth is SAM a ViT of width 96 for 128 pixels, but samed.pth adds to SAM"),
        ("half_a_base", "sam-vit-b.pth do not make a whole SAMed: 14 missing (image_encoder.blocks.1.norm1.weight"),
        ("decoder_missing", "the mask decoder, which SAMed replaces, is missing"),
    ],
)
def test_pairs_that_are_none(
    case: str, expected: str, tmp_path: Path, untouched: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> Path:
        raise WeightsError("nowhere")

    monkeypatch.setattr(store, "pull", nowhere)
    base = golden_weights.base_config(TINY_LORA)
    files = {"samed.pth": lora(), "sam-vit-b.pth": golden_weights.golden_tensors("sam-vit-b", base)}
    if case == "no_base":
        del files["sam-vit-b.pth"]
    if case == "base_instead_of_lora":
        files["samed.pth"] = files["sam-vit-b.pth"]
    if case == "base_of_another_system":
        files["sam-vit-b.pth"] = golden_weights.golden_tensors("litemedsam")
    if case == "base_of_another_size":
        files["sam-vit-b.pth"] = golden_weights.golden_tensors("sam-vit-b", {**base, "embed_dim": 96})
    if case == "half_a_base":
        files["sam-vit-b.pth"] = without(files["sam-vit-b.pth"], "image_encoder.blocks.1.")
    if case == "decoder_missing":
        files["samed.pth"] = without(lora(), "mask_decoder.")
    for name, tensors in files.items():
        torch.save(tensors, tmp_path / name)
    config = {key: value for key, value in TINY_LORA.items() if key != "num_classes"}
    with pytest.raises(WeightsError) as error:
        assemble(registry.card("samed"), tmp_path / "samed.pth", config=config)
    assert expected in str(error.value)
    assert untouched == []
