"""Bad data are named with their file before anything is learnt from them, and patients are in one part only."""

from __future__ import annotations

import json
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation.cases import find_cases
from napari_sammed.training.checking import KINDS, check
from napari_sammed.training.splits import Split, draw_split, patients, read_split

SHAPE = (6, 20, 24)
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[1:4, 5:15, 6:18] = 1
LABELS[4, 5:9, 6:9] = 2
GOOD = 42  # seed of the good image


def image(seed: int = 0, shape=SHAPE, dtype=np.int16) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 30, shape).astype(dtype)


def write(path: Path, array: np.ndarray, spacing=(1.0, 1.0, 3.0), origin=(0.0, 0.0, 0.0), vector: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = sitk.GetImageFromArray(array, isVector=vector)
    found.SetSpacing(spacing[: found.GetDimension()])
    found.SetOrigin(origin[: found.GetDimension()])
    sitk.WriteImage(found, str(path))


def case(folder: Path, name: str, voxels=None, labels=LABELS, **where) -> None:
    """An image with its labels, of which something may be wrong."""
    write(folder / "images" / f"{name}.nrrd", image(zlib.crc32(name.encode())) if voxels is None else voxels)
    write(folder / "labels" / f"{name}.nrrd", labels, **where)


def found_in(folder: Path, split: Split | None = None, whose=None, wanted=()):
    cases = find_cases(folder)
    names = [c.name for c in cases]
    return check(folder, cases, split or Split(tuple(names), ()), whose or patients(names, folder), wanted)


def odd(voxel: float) -> np.ndarray:
    array = image(3, dtype=np.float32)
    array[0, 0, 0] = voxel
    return array


ONE = {
    "NaN": lambda f: case(f, "bad", odd(np.nan)),
    "constant image": lambda f: case(f, "bad", np.full(SHAPE, 7, np.int16)),
    "huge values": lambda f: case(f, "bad", odd(1).astype(np.float64) * 1e300),
    "unreadable image": lambda f: (case(f, "bad"), (f / "images" / "bad.nrrd").write_bytes(b"NRRD0004\nnothing")),
    "unreadable labels": lambda f: (case(f, "bad"), (f / "labels" / "bad.nrrd").write_bytes(b"")),
    "no labels": lambda f: write(f / "images" / "bad.nrrd", image(9)),
    "colour labels": lambda f: (
        write(f / "images" / "bad.png", image(4, (40, 50), np.uint8)),
        write(f / "labels" / "bad.png", np.zeros((40, 50, 3), np.uint8), vector=True),
    ),
    "fractional labels": lambda f: case(f, "bad", labels=LABELS * np.float32(0.5)),
    "negative labels": lambda f: case(f, "bad", labels=LABELS.astype(np.int16) - 1),
    "high labels": lambda f: case(f, "bad", labels=LABELS.astype(np.int32) * 70_000),
    "grey values as labels": lambda f: case(f, "bad", labels=np.arange(2880, dtype=np.int16).reshape(SHAPE)),
    "empty labels": lambda f: case(f, "bad", labels=LABELS * 0),
    "no wanted label": lambda f: case(f, "bad", labels=LABELS * 7),
    "unknown label": lambda f: case(f, "bad", labels=LABELS + (LABELS == 2)),
    "other axes": lambda f: case(f, "bad", labels=LABELS[2]),
    "other shape": lambda f: (
        write(f / "images" / "bad.png", image(5, (40, 50), np.uint8)),
        write(f / "labels" / "bad.png", np.eye(40, 48, dtype=np.uint8)),
    ),
    "other grid": lambda f: case(f, "bad", labels=LABELS[:, ::2, ::2], spacing=(2.0, 2.0, 3.0), origin=(0.5, 0.5, 0)),
    "elsewhere": lambda f: case(f, "bad", origin=(200.0, 0.0, 0.0)),
    "odd spacing": lambda f: (
        write(f / "images" / "bad.nrrd", image(6), spacing=(0.0003, 0.0003, 0.003)),
        write(f / "labels" / "bad.nrrd", LABELS, spacing=(0.0003, 0.0003, 0.003)),
    ),
    "image twice": lambda f: case(f, "good_2", image(GOOD)),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_bad_case_is_named_and_the_good_one_is_not(tmp_path, kind):
    case(tmp_path, "good", image(GOOD))
    (tmp_path / "labels.json").write_text(json.dumps({"1": "liver", "2": "spleen"}))
    ONE[kind](tmp_path)
    (problem,) = found_in(tmp_path, wanted=(1, 2, 3) if kind in ("no wanted label", "unknown label") else ())
    assert problem.kind == kind, problem
    assert problem.file.stem in ("bad", "good_2") and str(problem).startswith(str(problem.file))
    assert problem.message.endswith((".", ")", "?")) and len(problem.message) > 15
    assert problem.fatal == KINDS[kind]


def test_good_data_have_no_problem(tmp_path):
    for number in range(3):
        case(tmp_path, f"case_{number}", image(number))
        case(tmp_path, f"whole_{number}", image(10 + number), labels=LABELS.astype(np.float32))
    said: list[tuple[str, float]] = []
    cases = find_cases(tmp_path)
    names = [c.name for c in cases]
    assert not check(
        tmp_path, cases, Split(tuple(names), ()), patients(names, tmp_path), progress=lambda *s: said.append(s)
    )
    assert [share for _, share in said] == [n / 6 for n in range(6)]


def test_the_same_image_or_patient_is_not_in_both_parts(tmp_path):
    case(tmp_path, "anna_1", image(1))
    case(tmp_path, "anna_2", image(2))
    case(tmp_path, "copy_1", image(1))
    split = Split(("anna_1",), ("anna_2", "copy_1"))
    whose = patients(["anna_1", "anna_2", "copy_1"], tmp_path, r"(\w+)_")
    kinds = {problem.kind: problem for problem in found_in(tmp_path, split, whose)}
    assert set(kinds) == {"image in both parts", "patient in both parts"}
    assert kinds["image in both parts"].file.stem == "copy_1"
    assert kinds["patient in both parts"].file.stem == "anna_2" and "'anna'" in kinds["patient in both parts"].message


ELSEWHERE = {  # in tests of sessions, of DICOM Segmentations and of cleaning
    *("image missing", "other image", "not finished", "object without mask", "object without name"),
    *("overlapping segments", "nothing left"),
}


def test_every_kind_is_tested():
    assert set(ONE) | {"image in both parts", "patient in both parts"} | ELSEWHERE == set(KINDS)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_cases.py"))
    assert all(kind in tests for kind in ELSEWHERE - {"nothing left"})


def test_every_kind_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    page = page.partition("### What is checked")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    told = {kind.strip("| "): "✗" in marks for kinds, marks, *_ in rows[2:] for kind in kinds.split(", ")}
    assert told == KINDS


def test_checking_is_cancelled(tmp_path):
    case(tmp_path, "one")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        check(tmp_path, find_cases(tmp_path), Split(("one",), ()), {"one": "one"}, cancel=cancel)


@pytest.mark.parametrize("folder", ["3d_ct_torso_multiorgan", "2d_ct_abdomen_amos", "3d_mr_cord_t2s_aniso_oblique"])
def test_real_images_with_their_labels_are_good(shared, folder):
    cases = [c for c in find_cases(shared / "data") if c.name == folder]
    assert not [
        p for p in check(shared / "data", cases, Split((folder,), ()), {folder: folder}) if p.kind != "no labels"
    ]


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_patients_stay_together():
    whose = {f"p{n // 3}_{n}": f"p{n // 3}" for n in range(30)}
    split = draw_split(whose, 0.2, seed=1)
    assert sorted(split.train + split.held_out) == sorted(whose)
    assert len({whose[case] for case in split.held_out}) == 2
    assert not {whose[case] for case in split.train} & {whose[case] for case in split.held_out}
    again = draw_split(dict(reversed(whose.items())), 0.2, seed=1)
    assert set(again.train) == set(split.train), "whatever the order"
    assert split.train != draw_split(whose, 0.2, seed=2).train


@pytest.mark.parametrize(("share", "kept"), [(0, 0), (0.01, 1), (0.5, 2), (0.99, 3)])
def test_something_is_learnt_from_and_something_kept(share, kept):
    split = draw_split({name: name for name in "abcd"}, share, 0)
    assert len(split.held_out) == kept and len(split.train) == 4 - kept


@pytest.mark.parametrize(
    ("whose", "share", "message"),
    [({}, 0.2, "no cases"), ({"a": "x", "b": "x"}, 0.2, "one patient"), ({"a": "a"}, 1, "not at 1")],
)
def test_what_cannot_be_split(whose, share, message):
    with pytest.raises(InputError, match=message):
        draw_split(whose, share, 0)


def test_patients_come_from_the_file_then_from_the_name(tmp_path):
    (tmp_path / "patients.json").write_text('{"a_1": "anna"}')
    assert patients(["a_1", "b_2"], tmp_path) == {"a_1": "anna", "b_2": "b_2"}
    assert patients(["a_1", "b_2"], tmp_path, "([a-z])_") == {"a_1": "anna", "b_2": "b"}
    for pattern, message in [("(", "no regular expression"), ("b_", "no regular expression"), ("(x)", "does not say")]:
        with pytest.raises(InputError, match=message):
            patients(["b_2"], tmp_path / "none", pattern)
    with pytest.raises(InputError, match="'a_1', which is none"):
        patients(["b_2"], tmp_path)


def test_a_split_may_come_with_the_data(tmp_path):
    assert read_split(tmp_path, ["a"]) is None
    path = tmp_path / "splits.json"
    path.write_text('{"train": ["a", "b"], "held_out": ["c"]}')
    assert read_split(tmp_path, ["a", "b", "c", "d"]) == Split(("a", "b"), ("c",))
    bad = {
        '{"train": ["a"], "held_out": ["x"]}': "'x', which is none",
        '{"train": ["a"], "held_out": ["a"]}': "'a' twice",
        '{"train": [], "held_out": ["a"]}': "nothing to learn from",
        '{"train": "a"}': "is no split",
        '{"training": ["a"]}': "is no split",
        "[1]": "not entries by name",
        "{": "cannot be read",
    }
    for text, message in bad.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_split(tmp_path, ["a", "b"])
