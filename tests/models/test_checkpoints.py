"""Reading weight files: whatever holds tensors gives them, whatever does not is refused, and nothing is ever run."""

from __future__ import annotations

import argparse
import ast
import io
import pickle
import struct
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_sammed
from napari_sammed.errors import WeightsError
from napari_sammed.models.checkpoints import open_checkpoint, read_tensors
from tests.models.cards import PUBLISHED, SHAPES, TENSORS, saved
from tests.models.files import (
    SENTINEL,
    Evil,
    bomb,
    flipped,
    legacy,
    legacy_with,
    refusal,
    repacked,
    safetensors_of,
    zipped,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where hostile files would leave their trace."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- good files


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in TENSORS.items()}


def trained() -> dict[str, object]:
    """What training scripts leave behind: an optimiser and its state, arguments, numpy numbers, losses."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    return {
        "model": TENSORS,
        "optimizer": optimizer,
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3),
        "args": argparse.Namespace(lr=1e-4, work_dir=Path("runs")),
        "best_dice": np.float64(0.9),
        "losses": defaultdict(list, train=[np.float32(1.0), 0.5]),
        "classes": {"organs", "lesions"},
        "epoch": 3,
    }


def noncontiguous() -> dict[str, torch.Tensor]:
    """The same tensors as parts of one large memory, one of them transposed."""
    memory = torch.zeros(10_000)
    weight = TENSORS["image_encoder.neck.weight"]
    memory[100:6100] = weight.t().reshape(-1)
    memory[7000:7060] = TENSORS["image_encoder.bias"]
    return {
        "image_encoder.neck.weight": memory[100:6100].reshape(100, 60).t(),
        "image_encoder.bias": memory[7000:7060],
    }


def pickled_with(protocol: int) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {"model": TENSORS, "text": "ü" * 300, "big": 1 << 70, "raw": b"x" * 300}, buffer, pickle_protocol=protocol
    )
    return buffer.getvalue()


GOOD: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "plain": (lambda: PUBLISHED, ()),
    "ordered": (lambda: saved(OrderedDict(TENSORS)), ()),
    "parameters": (lambda: saved({key: torch.nn.Parameter(value) for key, value in TENSORS.items()}), ()),
    "legacy": (lambda: legacy(TENSORS), ()),
    "legacy_wrapped": (lambda: legacy({"model": prefixed("module."), "epoch": 2}), ("model", "module.")),
    "safetensors": (lambda: safetensors_of(TENSORS), ()),
    "safetensors_module": (lambda: safetensors_of(prefixed("module.")), ("module.",)),
    "model": (lambda: saved({"model": TENSORS, "epoch": 3}), ("model",)),
    "state_dict": (lambda: saved({"state_dict": TENSORS, "best": 0.9}), ("state_dict",)),
    "model_state_dict": (lambda: saved({"model_state_dict": TENSORS, "losses": [1.0, 0.5]}), ("model_state_dict",)),
    "two_wrappers": (lambda: saved({"model": {"state_dict": TENSORS}}), ("model", "state_dict")),
    "model_and_module": (lambda: saved({"model": prefixed("module.")}), ("model", "module.")),
    "module_of_model": (lambda: saved(prefixed("module.model.")), ("module.", "model.")),
    "compiled_on_many": (
        lambda: saved({"state_dict": prefixed("module._orig_mod.")}),
        ("state_dict", "module.", "_orig_mod."),
    ),
    "trained": (lambda: saved(trained()), ("model",)),
    "hostile_optimizer": (lambda: saved({"model": TENSORS, "optimizer": Evil(), "more": [Evil()]}), ("model",)),
    "noncontiguous": (lambda: saved(noncontiguous()), ()),
    "protocol_3": (lambda: pickled_with(3), ("model",)),
    "protocol_4": (lambda: pickled_with(4), ("model",)),
    "protocol_5": (lambda: pickled_with(5), ("model",)),
}


@pytest.mark.parametrize("kind", GOOD)
def test_reads_what_people_have(kind: str, folder: Path) -> None:
    make, wrapping = GOOD[kind]
    path = folder / "own.bin"  # told apart by content, not by name
    path.write_bytes(make())
    file = open_checkpoint(path)
    assert file.shapes == SHAPES
    assert file.wrapping == wrapping
    found = file.read()
    assert found.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
        assert torch.equal(found[key], value)
        assert found[key].is_contiguous()
        assert found[key].untyped_storage().nbytes() == value.numel() * 4  # nothing hangs on that nobody needs
    assert list(file.read(["image_encoder.bias"])) == ["image_encoder.bias"]
    assert not Path(SENTINEL).exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_keeps_values_of_every_kind(dtype: torch.dtype, form: str, folder: Path) -> None:
    tensors = {
        "a": torch.arange(7).to(dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
        "one": torch.ones((), dtype=dtype),
    }
    path = folder / "own.pth"
    path.write_bytes(saved(tensors) if form == "torch" else safetensors_of(tensors))
    found = read_tensors(path)
    for key, value in tensors.items():
        assert found[key].dtype == dtype
        assert torch.equal(found[key], value)


def test_shapes_come_without_reading_values(folder: Path) -> None:
    """A byte of the values is damaged: shapes are told all the same, reading the values finds it."""
    path = folder / "own.pth"
    path.write_bytes(flipped(PUBLISHED, DATA + 1))
    file = open_checkpoint(path)
    assert file.shapes == SHAPES
    for look in (file.read, file.test):
        with pytest.raises(WeightsError, match="damaged or cut short"):
            look()
    assert list(file.read(["image_encoder.bias"])) == ["image_encoder.bias"]  # which is whole


# ---- bad files


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


DATA = PUBLISHED.index(TENSORS["image_encoder.neck.weight"].numpy().tobytes()[:64])
SAFE = safetensors_of(TENSORS)

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"these are no weights\n", "text file"),
    "web_page": (lambda: b"<!DOCTYPE html><html>Virus scan warning", "web page"),
    "lfs_placeholder": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "gzip": (lambda: b"\x1f\x8b\x08\x00" + bytes(100), "unpack it"),
    "noise": (lambda: np.random.default_rng(0).bytes(5000), "neither by torch.save nor as safetensors"),
    "cut_in_half": (lambda: PUBLISHED[: len(PUBLISHED) // 2], "damaged or cut short"),
    "last_byte_missing": (lambda: PUBLISHED[:-1], "damaged or cut short"),
    "byte_flipped_first_tensor": (lambda: flipped(PUBLISHED, DATA + 1), "damaged or cut short"),
    "byte_flipped_middle": (lambda: flipped(PUBLISHED, DATA + 12_345), "damaged or cut short"),
    "byte_flipped_in_table": (lambda: flipped(PUBLISHED, PUBLISHED.index(b"neck")), "damaged or cut short"),
    "other_zip": (lambda: zipped(notes_txt=b"x"), "not one written by torch.save"),
    "zipped_again": (lambda: zipped(sam__vit_pth=PUBLISHED), "unpack it and name 'sam/vit.pth' inside"),
    "torchscript": (lambda: zipped(net__data_pkl=b"x", net__constants_pkl=b"x", net__version=b"3"), "TorchScript"),
    "zip_bomb": (bomb, "packed members"),
    "big_endian": (lambda: repacked(byteorder=b"big"), "big-endian"),
    "bare_pickle": (lambda: pickle.dumps({"model": Evil()}), "bare Python pickle"),
    "pickled_tensors": (lambda: pickle.dumps({"weight": np.ones(3)}), "bare Python pickle"),
    "code_in_archive": (lambda: repacked(data_pkl=pickle.dumps(Evil(), protocol=2)), "could run code"),
    "code_instead_of_tensor": (
        lambda: saved({"model": {**TENSORS, "evil": Evil()}}),
        "a pickled Python object (io.open)",
    ),
    "whole_network": (lambda: saved({"model": torch.nn.Linear(3, 2)}), "torch.nn.modules.linear.Linear"),
    "code_in_old_format": (lambda: legacy_with(Evil()), "could run code"),
    "object_array": (object_array, "neither by torch.save nor as safetensors"),
    "list": (lambda: saved([torch.ones(3)]), "no table of named tensors but a list"),
    "no_tensors": (lambda: saved({"epoch": 3}), "holds a int under 'epoch'"),
    "empty_table": (lambda: saved({}), "no table of named tensors"),
    "whole_checkpoint_of_others": (lambda: saved({"net": TENSORS, "epoch": 1}), "holds a dict under 'net'"),
    "safetensors_cut": (lambda: SAFE[:-100], "damaged or cut short"),
    "safetensors_header_cut": (lambda: SAFE[:40], "damaged or cut short"),
    "safetensors_huge_header": (lambda: struct.pack("<Q", 99_999_999) + SAFE[8:], "damaged or cut short"),
    "safetensors_odd_name": (lambda: safetensors_of({"a\n": torch.ones(3)}), "a tensor named 'a\\n'"),
    "safetensors_bad_shape": (lambda: SAFE.replace(b"[60,100]", b"[61,100]"), "damaged or cut short"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_and_not_run(kind: str, folder: Path) -> None:
    make, expected = BAD[kind]
    path = folder / "own.pth"
    path.write_bytes(make())
    assert expected in refusal(path)


def test_the_evil_file_is_evil() -> None:
    """Otherwise the test above would prove nothing."""
    pickle.loads(pickle.dumps(Evil())).close()
    assert Path(SENTINEL).exists()


# ---- archives and the package as a whole


def test_overlapping_members_are_refused(folder: Path) -> None:
    """A quoted-overlap bomb: many names in the directory for the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/data/0", bytes(100_000))
        large = archive.getinfo("archive/data/0")
        for number in range(1, 20):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            again.header_offset, again.file_size = large.header_offset, large.file_size
            again.compress_size, again.CRC = large.compress_size, large.CRC
            archive.filelist.append(again)
    path = folder / "own.pth"
    path.write_bytes(buffer.getvalue())
    assert "packed members" in refusal(path)


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
