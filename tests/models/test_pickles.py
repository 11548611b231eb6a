"""Hostile pickles, written by hand into an archive that is otherwise good: they give nothing and do nothing."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import pytest
import torch

from napari_sammed.models import pickles
from napari_sammed.models.checkpoints import read_tensors
from tests.models.cards import TENSORS
from tests.models.files import SENTINEL, refusal, repacked


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where hostile files would leave their trace."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tensor(
    key: bytes = b"0", size: int = 6000, offset: int = 0, shape: str = "K<Kd\x86", stride: str = "KdK\x01\x86"
) -> bytes:
    """Instructions that leave one tensor record on the stack."""
    numbers = b"J" + struct.pack("<i", size)
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key
    storage += b"X\x03\x00\x00\x00cpu" + numbers + b"tQ"
    view = b"J" + struct.pack("<i", offset) + shape.encode("latin1") + stride.encode("latin1")
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"\x89N" + b"tR"


def table(value: bytes) -> bytes:
    """A state dict with one entry."""
    return b"\x80\x02}X\x01\x00\x00\x00a" + value + b"s."


CALL = b"(S'executed'\nS'w'\n"
HOSTILE: dict[str, bytes] = {
    "reduce": table(b"cio\nopen\n" + CALL + b"tR"),
    "instance": table(b"(S'executed'\nS'w'\niio\nopen\n"),
    "object": table(b"(cio\nopen\nS'executed'\nS'w'\no"),
    "new_object": table(b"cio\nopen\n" + CALL + b"t\x81"),
    "named_on_the_stack": b"\x80\x04}\x8c\x01a\x8c\x02io\x8c\x04open\x93" + CALL + b"tRs.",
    "dotted_name": table(b"cbuiltins\n__import__('os').system\n(S'touch executed'\ntR"),
    "evaluated": table(b'cbuiltins\neval\n(S\'open("executed", "w")\'\ntR'),
    "state_setter": table(b"ctorch.nn\nModule\n)\x81}S'__setstate__'\ncio\nopen\nsb"),
    "inside_a_tensor": table(b"ctorch._utils\n_rebuild_tensor_v2\n(cio\nopen\n" + CALL + b"tRK\x00)(t\x89NtR"),
    "as_persistent_name": table(b"cio\nopen\n" + CALL + b"tRQ"),
    "as_a_key": b"\x80\x02}cio\nopen\n" + CALL + b"tRK\x01s.",
    "module_that_acts_on_import": table(b"ctests.models.poison\nanything\n(tR"),
    "extension_code": table(b"\x82\x01"),
    "storage_beyond_the_archive": table(tensor(key=b"../../../etc/passwd")),
    "missing_storage": table(tensor(key=b"99")),
    "storage_of_another_length": table(tensor(size=6001)),
    "beyond_its_storage": table(tensor(offset=1)),
    "before_its_storage": table(tensor(offset=-1)),
    "spread_out": table(tensor(shape="J\xff\xff\xff\x7fK\x64\x86", stride="K\x00K\x00\x86")),
    "values_repeated": table(tensor(shape="K\xc8K\x64\x86", stride="K\x00K\x01\x86")),
    "negative_stride": table(tensor(stride="J\xff\xff\xff\xffK\x01\x86")),
    "shape_of_texts": table(tensor(shape="S'a'\nK\x01\x86")),
    "many_axes": table(tensor(shape="(" + "K\x01" * 500 + "t", stride="(" + "K\x01" * 500 + "t")),
    "memo_bomb": b"\x80\x02}r\xff\xff\xff\x7f0.",
    "nothing_on_the_stack": b"\x80\x02R.",
    "marks_only": b"\x80\x02" + b"(" * 1000 + b"t.",
    "no_stop": b"\x80\x02}",
    "text_for_a_pickle": b"hello",
    "half_an_instruction": b"\x80\x02X\xff\xff\xff\x7fa",
    "shared_nesting_as_key": b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s.",
    "shared_nesting_as_value": table(b"]" + b"2\x86" * 60),
    "contains_itself": b"\x80\x02]q\x00h\x00a.",
    "endless_number_as_key": b"\x80\x02}\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + tensor() + b"s.",
    "name_that_breaks_lines": b"\x80\x02}X\x03\x00\x00\x00a\nb" + tensor() + b"s.",
    "name_that_colours_terminals": b"\x80\x02}X\x05\x00\x00\x00\x1b[31m" + tensor() + b"s.",
    "class_that_colours_terminals": table(b"cos\n\x1b[31m\n(tR"),
    "name_without_end": b"\x80\x02}X\x10\x27\x00\x00" + b"a" * 10_000 + tensor() + b"s.",
    "long_number": table(b"\x8b" + struct.pack("<i", 1 << 30)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_give_nothing_and_do_nothing(kind: str, folder: Path) -> None:
    path = folder / "own.pth"
    path.write_bytes(repacked(data_pkl=HOSTILE[kind]))
    refusal(path)
    assert "tests.models.poison" not in sys.modules


def test_the_hand_written_tensor_is_one(folder: Path) -> None:
    """Otherwise the tensors above would be refused for another reason than the one they are named after."""
    path = folder / "own.pth"
    path.write_bytes(repacked(data_pkl=table(tensor())))
    assert torch.equal(read_tensors(path)["a"], TENSORS["image_encoder.neck.weight"])


@pytest.mark.parametrize("kind", ["reduce", "instance", "object", "named_on_the_stack", "evaluated"])
def test_the_hostile_pickles_would_act(kind: str) -> None:
    pickle.loads(HOSTILE[kind])
    assert Path(SENTINEL).exists()


def test_a_huge_table_of_contents_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_STEP_LIMIT", 1000)
    with pytest.raises(pickles.MalformedPickle, match="more entries"):
        pickles.read(b"\x80\x02" + b"N" * 2000 + b".")
    monkeypatch.setattr(pickles, "SIZE_LIMIT", 1000)
    path = folder / "own.pth"
    path.write_bytes(repacked(data_pkl=b"\x80\x02" + b"N" * 2000 + b"."))
    assert "table of contents of 2,003 bytes" in refusal(path)
