"""From files to loaded networks, at the tiny sizes of the golden files: pairs, variants, resizing, and what is said."""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_sammed.errors import WeightsError
from napari_sammed.models import assembly, registry, sums
from napari_sammed.models import weights as store
from napari_sammed.models.assembly import Assembled, assemble
from napari_sammed.models.base import ModelCard
from napari_sammed.models.class_names import SYNAPSE, class_names
from napari_sammed.models.identify import identify_file
from tests import golden_weights
from tests.golden import Golden, golden_value, max_difference
from tests.models.files import safetensors_of
from tests.tiny_models import tiny_config


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no weight folder."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def configs(shared: Path) -> dict[str, dict[str, Any]]:
    """Tiny configurations by registry name."""
    files = {"sam-vit-b": "sam_tiny", "sam-med2d": "sam_med2d_tiny", "samed": "samed_tiny"}
    found = {name: Golden(shared / "goldens" / f"{file}.npz").meta["config"] for name, file in files.items()}
    return {**found, "samed_s": found["samed"]}


def filled(network: torch.nn.Module) -> bool:
    """Whether a network has the golden weights of its own keys."""
    return all(
        torch.equal(value, torch.from_numpy(golden_value(key, tuple(value.shape))))
        for key, value in network.state_dict().items()
    )


# ---- plain files


@pytest.mark.parametrize("form", ["bare", "wrapped", "module", "half", "safetensors"])
def test_sam_files_fill_the_network(form: str, configs: Mapping[str, Any], tmp_path: Path) -> None:
    tensors = golden_weights.golden_tensors("sam-vit-b", configs["sam-vit-b"])
    path = tmp_path / "own.pth"
    if form == "safetensors":
        path.write_bytes(safetensors_of(tensors))
    else:
        half = {key: value.half() for key, value in tensors.items()}
        module = {f"module.{key}": value for key, value in tensors.items()}
        torch.save({"bare": tensors, "wrapped": {"model": tensors}, "module": module, "half": half}[form], path)
    found = assemble(registry.card("sam-vit-b"), path, config=configs["sam-vit-b"])
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(value.dtype == torch.float32 for value in found.network.state_dict().values())
    if form == "half":
        loaded = found.network.state_dict()
        assert all(torch.equal(loaded[key], value.half().float()) for key, value in tensors.items())
    else:
        assert filled(found.network)
    path.write_bytes(b"")  # nothing hangs on the file any more
    assert all(torch.isfinite(value).all() for value in found.network.state_dict().values())


@pytest.mark.parametrize("name", ["sam-med2d", "sam-med2d-plain"])
def test_sam_med2d_with_and_without_adapters(name: str, configs: Mapping[str, Any], tmp_path: Path) -> None:
    path = golden_weights.write(tmp_path, name, configs["sam-med2d"])
    found = assemble(registry.card("sam-med2d"), path, config=configs["sam-med2d"])
    assert filled(found.network)
    assert any("Adapter" in key for key in found.network.state_dict()) == (name == "sam-med2d")
    assert found.notes == (() if name == "sam-med2d" else ("sam-med2d-plain.pth is SAM-Med2D without adapters.",))


@pytest.mark.parametrize("form", ["published", "trainer", "module", "bare"])
def test_sam_med3d_files_fill_the_network(form: str, tmp_path: Path) -> None:
    tensors = golden_weights.golden_tensors("sam-med3d", tiny_config("sam-med3d"))
    left_over = {"epoch": 7, "args": argparse.Namespace(lr=8e-4), "losses": [0.5], "optimizer_state_dict": {}}
    content = {
        "published": {"model_state_dict": tensors},
        "trainer": {**left_over, "model_state_dict": tensors},
        "module": {"state_dict": {f"module.{key}": value for key, value in tensors.items()}},
        "bare": tensors,
    }
    path = tmp_path / "own.pth"
    torch.save(content[form], path)
    found = assemble(registry.card("sam-med3d"), path, config=tiny_config("sam-med3d"))
    assert filled(found.network)
    assert found.notes == ()


def test_sam_med2d_load_resizes_plain_sam(shared: Path, tmp_path: Path) -> None:
    golden = Golden(shared / "goldens" / "sam_med2d_load.npz")
    config = golden.meta["config"]
    base = {key: value for key, value in config.items() if not key.startswith("adapter")}
    path = golden_weights.write(tmp_path, "sam-vit-b", {**base, "image_size": golden.meta["base_image_size"]})
    found = assemble(registry.card("sam-med2d"), path, config=config)
    state = found.network.state_dict()
    stored = [f"image_encoder.blocks.{i}.attn.rel_pos_{axis}" for i in range(6) for axis in "hw"]
    for key in ["image_encoder.pos_embed", *stored]:
        assert max_difference(state[key], golden.tensor(f"out.load.{key}")) < 1e-7
    rest = set(state) - set(stored) - {"image_encoder.pos_embed"}
    # The official loader leaves the heads random; here they are the file's, which the user is told of.
    assert all(torch.equal(state[key], torch.from_numpy(golden_value(key, tuple(state[key].shape)))) for key in rest)
    assert len(found.notes) == 1
    for part in ("sam-vit-b.pth is plain SAM, not SAM-Med2D", "resized to 128 pixels", "no adapters"):
        assert part in found.notes[0]


# ---- whose files they are


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sam-vit-b", r"is an own file, not the published weights of SAM ViT-B; its sha256 is "),
        ("sam-med2d", "The makers of SAM-Med2D publish no sum of its weights; .*sam-med2d.pth has the sha256 "),
    ],
)
def test_says_when_nobody_vouches_for_a_file(
    name: str, said: str, configs: Mapping[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = golden_weights.write(tmp_path, name, configs[name])
    with caplog.at_level("INFO"):
        found = assemble(registry.card(name), path, config=configs[name])
    assert len(caplog.messages) == 1
    assert re.search(f"{said}{found.sha256}$", caplog.messages[0])


def test_the_published_file_of_another_model_is_refused_by_its_name(
    configs: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A MedSAM file fits SAM ViT-B in every name and shape."""
    path = golden_weights.write(tmp_path, "sam-vit-b", configs["sam-vit-b"])
    for name, other in (("medsam", "sam-vit-b"), ("sam-vit-b", "medsam")):
        known = registry.card(other).weights.sha256
        monkeypatch.setattr(sums, "sha256_of", lambda path, fresh=False, known=known: known)
        with pytest.raises(WeightsError, match=f"is the published file of .*: use --model {other}$"):
            assemble(registry.card(name), path, config=configs["sam-vit-b"])
        assert filled(assemble(registry.card(other), path, config=configs["sam-vit-b"]).network)


# ---- pairs


@pytest.fixture
def pair(configs: Mapping[str, Any], tmp_path: Path) -> Path:
    """A folder with the tiny SAM file and the LoRA files of SAMed and SAMed_s."""
    golden_weights.write(tmp_path, "sam-vit-b", golden_weights.base_config(configs["samed"]))
    for name in ("samed", "samed_s"):
        golden_weights.write(tmp_path, name, configs["samed"])
    return tmp_path


def load_samed(path: Path, config: Mapping[str, Any]) -> Assembled:
    """With rank and number of classes from the file, the rest from the configuration."""
    rest = {key: value for key, value in config.items() if key not in ("rank", "num_classes")}
    return assemble(registry.card("samed"), path, config=rest)


@pytest.mark.parametrize("name", ["samed", "samed_s"])
def test_samed_tiny_pairs_give_the_official_numbers(
    name: str, pair: Path, shared: Path, configs: Mapping[str, Any]
) -> None:
    golden = Golden(shared / "goldens" / "samed_tiny.npz")
    found = load_samed(pair / f"{name}.pth", configs["samed"])
    with torch.inference_mode():
        network = found.network.eval()
        sparse, dense = network.prompt_encoder()
        masks, _ = network.mask_decoder(
            image_embeddings=network.image_encoder(golden.tensor("in.image").expand(-1, 3, -1, -1)),
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
    assert max_difference(masks, golden.tensor("out.low_res" if name == "samed" else "out.samed_s.low_res")) < 1e-5
    assert found.options == {"classes": ("class 1", "class 2", "class 3", "class 4", "class 5")}


def test_the_hash_of_a_pair_depends_on_both_files(pair: Path, configs: Mapping[str, Any]) -> None:
    first = load_samed(pair / "samed.pth", configs["samed"]).sha256
    assert load_samed(pair / "samed.pth", configs["samed"]).sha256 == first
    tensors = golden_weights.golden_tensors("sam-vit-b", golden_weights.base_config(configs["samed"]))
    torch.save({key: value * 2 for key, value in tensors.items()}, pair / "sam-vit-b.pth")
    assert load_samed(pair / "samed.pth", configs["samed"]).sha256 != first


@pytest.mark.parametrize("place", ["beside", "folder", "cache"])
def test_the_base_is_found(
    place: str, pair: Path, configs: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "folder":
        (tmp_path / "elsewhere").mkdir()
        (pair / "sam-vit-b.pth").rename(tmp_path / "elsewhere" / "sam-vit-b.safetensors")
        monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(tmp_path / "elsewhere"))
    if place == "cache":
        store.cache_folder().mkdir(parents=True)
        (pair / "sam-vit-b.pth").rename(store.cache_folder() / "sam_vit_b_01ec64.pth")
        with pytest.raises(WeightsError, match="damaged or not the official file"):  # which its name promises there
            load_samed(pair / "samed.pth", configs["samed"])
        return
    assert load_samed(pair / "samed.pth", configs["samed"]).options


@pytest.mark.parametrize("order", [("samed.pth", "other.pth"), ("other.pth", "samed.pth")], ids=["lora", "base"])
def test_both_files_may_be_named_in_any_order(
    order: tuple[str, str], pair: Path, configs: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair / "sam-vit-b.pth").rename(pair / "other.pth")
    monkeypatch.setattr(
        assembly, "assemble", partial(assemble, config={**configs["samed"], "rank": 4, "num_classes": 5})
    )
    model = registry.load("samed", [pair / name for name in order])
    assert model.classes == ("class 1", "class 2", "class 3", "class 4", "class 5")
    assert model.notes == ()
    with pytest.raises(WeightsError, match="takes one weight file, not 2 files"):
        registry.load("medsam", [pair / name for name in order])
    with pytest.raises(WeightsError, match="neither is a LoRA file"):
        registry.load("samed", [pair / "other.pth"] * 2)


@pytest.mark.parametrize("rank", [1, 16])
@pytest.mark.parametrize("classes", [1, 8, 13])
def test_rank_and_classes_are_read_from_the_file(
    rank: int, classes: int, pair: Path, configs: Mapping[str, Any]
) -> None:
    config = {**configs["samed"], "rank": rank, "num_classes": classes}
    path = golden_weights.write(pair, "samed", config)
    found = load_samed(path, config)
    names = found.options["classes"]
    assert names == SYNAPSE if classes == 8 else names == tuple(f"class {i + 1}" for i in range(classes))
    assert found.network.mask_decoder.mask_tokens.weight.shape[0] == classes + 1
    assert identify_file(path).details["rank"] == rank


# ---- names of classes


def test_class_names_come_from_the_file_beside_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "epoch_159.pth"
    (tmp_path / "epoch_159.classes.txt").write_text("Leber\n\n Milz \n", encoding="utf-8")
    assert class_names(weights, 2) == ("Leber", "Milz")
    with pytest.raises(WeightsError, match=r"has 2 names, but epoch_159.pth has 8 classes \(the background"):
        class_names(weights, 8)
    (tmp_path / "epoch_159.classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match="cannot read the class names"):
        class_names(weights, 1)


# ---- identify


def test_identify_tells_published_files_by_their_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MedSAM and SAM ViT-B differ in nothing else; the sum is only taken of files of a published length."""
    path = golden_weights.write(tmp_path, "litemedsam")
    taken: list[Path] = []
    card = registry.card("medsam")

    def pretend(path: Path) -> str:
        taken.append(path)
        return card.weights.sha256

    monkeypatch.setattr(sums, "sha256_of", pretend)
    found = identify_file(path)
    assert (found.system, found.models, found.published, found.sha256) == (
        "LiteMedSAM (TinyViT)",
        ("litemedsam",),
        "",
        "",
    )
    assert taken == []
    with open(path, "r+b") as file:  # a comment at the end of the archive brings it to the length of MedSAM's
        content = file.read()
        extra = b"\0" * 20
        assert content[-2:] == b"\0\0"
        file.seek(-2, 2)
        file.write(len(extra).to_bytes(2, "little") + extra)
    monkeypatch.setattr("napari_sammed.models.identify.CARDS", (_sized(card, path.stat().st_size),))
    found = identify_file(path)
    assert (found.system, found.models, found.published) == ("MedSAM", ("medsam",), "medsam")
    assert taken == [path]
    monkeypatch.setattr("napari_sammed.models.identify._QUICK", 1000)  # as if it were large
    found = identify_file(path)
    assert (found.system, found.published, found.sha256) == ("LiteMedSAM (TinyViT)", "", "")
    assert "as long as the published file" in found.remark
    monkeypatch.setattr(sums, "remembered", lambda path: card.weights.sha256)
    assert identify_file(path).published == "medsam"
    assert taken == [path]


def _sized(card: ModelCard, size: int) -> ModelCard:
    return replace(card, weights=replace(card.weights, size=size))


# ---- memory

PROBE = """
import resource, sys
from napari_sammed.models import fitting
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
network = fitting.build("sam-vit-b")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, sum(value.numel() * 4 for value in network.parameters()) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the kilobytes of Linux")
def test_a_network_that_waits_for_weights_takes_no_room() -> None:
    """So that weights are in memory once: random ones would fill pages that the file's own then take over."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    grown, weights = map(int, done.stdout.split())
    assert weights > 350_000
    assert grown < weights / 4
