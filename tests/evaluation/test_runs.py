"""Whole runs on real files: resumable, repeatable, the same in several processes, with their report."""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.cli import main
from napari_sammed.commands.evaluate import make_methods
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation import results as kept
from napari_sammed.evaluation.cases import find_cases
from napari_sammed.evaluation.methods import ConfidenceConnected, methods
from napari_sammed.evaluation.parallel import evaluate_in_processes
from napari_sammed.evaluation.protocols import protocol
from napari_sammed.evaluation.report import worst_pictures, write_report
from napari_sammed.evaluation.results import read_results
from napari_sammed.evaluation.runs import Plan, check_weights, evaluate
from napari_sammed.evaluation.summary import summarise
from napari_sammed.geometry import Grid
from napari_sammed.prompts import Point
from napari_sammed.volume import Volume, write_mask, write_volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    for name, shift in (("one", 0), ("two", 2)):
        volume, first, second = two_balls()
        array, labels = volume.array, first.astype(np.uint8) + 2 * second.astype(np.uint8)
        array, labels = np.roll(array, shift, 1), np.roll(labels, shift, 1)
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, volume.grid), folder / "images" / f"{name}.nii.gz")
        write_mask(labels, volume.grid, folder / "labels" / f"{name}.nii.gz")
    (folder / "labels.json").write_text('{"1": "left", "2": "right"}')
    return folder


@pytest.fixture
def backend():
    backend = LocalBackend("cpu")
    yield backend
    backend.shutdown()


class Halves:
    """Answers with half of what a click is on, by grey value: never right, always the same."""

    weights = ""
    opened = 0

    def __init__(self, image: Volume) -> None:
        self.array = image.array
        type(self).opened += 1

    def begin(self) -> None:
        self.mask = np.zeros(self.array.shape, bool)

    def answer(self, prompt) -> np.ndarray:
        place = tuple(map(int, prompt.index)) if isinstance(prompt, Point) else tuple(prompt.low)
        self.mask = (self.array == self.array[place]) & (np.indices(self.array.shape)[-1] % 2 == 0)
        return self.mask

    def close(self) -> None:
        pass


def test_a_run_goes_on_where_it_was_stopped(data, tmp_path):
    cases, out = find_cases(data), tmp_path / "out"
    plan = Plan(protocol("sam-med3d"), seed=4)
    whole = evaluate(cases, {"halves": Halves}, plan, tmp_path / "whole")
    assert [(r.case, r.name) for r in whole] == [("one", "left"), ("one", "right"), ("two", "left"), ("two", "right")]
    evaluate(cases[:1], {"halves": Halves}, plan, out)
    with (out / kept.FILE).open("a") as file:
        file.write('{"case": "two", "torn')
    before = Halves.opened
    again = evaluate(cases, {"halves": Halves}, plan, out)
    assert Halves.opened == before + 1, "the finished case is not opened again"
    for one, other in zip(whole, again, strict=True):
        assert (one.key, one.dice, one.prompts) == (other.key, other.dice, other.prompts)
    assert read_results(out) == again


def test_lots_depend_on_the_seed_only(data, tmp_path):
    cases = find_cases(data)
    runs = [
        evaluate(order, {"halves": Halves}, Plan(protocol("sam-med3d"), seed), tmp_path / str(number))
        for number, (order, seed) in enumerate(((cases, 1), (cases[::-1], 1), (cases, 2)))
    ]
    by_key = [{r.key[:2]: r.prompts for r in run} for run in runs]
    assert by_key[0] == by_key[1] != by_key[2]


def test_what_was_cancelled_keeps_what_was_measured(data, tmp_path):
    cancel = threading.Event()

    class Stops(Halves):
        def answer(self, prompt):
            if len(read_results(tmp_path / "out")) == 2:
                cancel.set()
            return super().answer(prompt)

    with pytest.raises(Cancelled):
        evaluate(find_cases(data), {"stops": Stops}, Plan(protocol("clicks")), tmp_path / "out", cancel=cancel)
    assert len(read_results(tmp_path / "out")) == 2


def test_processes_give_the_same_results(data, tmp_path, backend):
    cases, plan = find_cases(data), Plan(replace(protocol("ritm"), rounds=2), seed=2)
    names = ("confidence-connected", "random-walker")
    make = partial(make_methods, names, {}, "cpu")
    alone = evaluate(cases, methods(names, backend), plan, tmp_path / "alone")
    together = evaluate_in_processes(cases, make, names, plan, tmp_path / "together", 2)
    for one, other in zip(alone, together, strict=True):
        assert (one.key, one.dice, one.surface_dice, one.prompts) == (
            other.key, other.dice, other.surface_dice, other.prompts,
        )  # fmt: skip
    assert {r.key for r in read_results(tmp_path / "together")} == {r.key for r in alone}


def test_flat_protocols_look_at_the_largest_slice(data, tmp_path, backend):
    found = evaluate(find_cases(data), methods(["random-walker"], backend), Plan(protocol("medsam")), tmp_path)
    _, first, _ = two_balls()
    page = worst_pictures(found, find_cases(data), methods(["random-walker"], backend))
    assert [caption.split(":")[0] for caption, _ in page["random-walker"]][:1] == [
        min((r for r in found), key=lambda r: r.dice[-1]).case + ", " + min(found, key=lambda r: r.dice[-1]).name
    ]
    assert found[0].slice == int(first.sum(axis=(1, 2)).argmax()) and found[0].voxels == first[found[0].slice].sum()
    assert len(found[0].dice) == 1 and found[0].prompts[0]["kind"] == "box" and len(found[0].prompts[0]["low"]) == 2


def test_a_method_that_refuses_is_named_and_the_others_go_on(data, tmp_path):
    """SAM-Med3D's weights are nowhere on this machine, and must not be fetched by a test."""
    from napari_sammed.errors import WeightsError

    class Refuses(Halves):
        def answer(self, prompt):
            raise WeightsError("There are no weights.")

    asked = {"refuses": Refuses, "halves": Halves}
    found = evaluate(find_cases(data), asked, Plan(protocol("clicks")), tmp_path / "out")
    assert {r.error for r in found if r.method == "refuses"} == {"There are no weights."}
    rows = {row.method: row for row in summarise(found, protocol("clicks")) if row.group == "all"}
    assert rows["refuses"].failed == 4 and math.isnan(rows["refuses"].final_dice)
    assert rows["halves"].count == 4 and 0 < rows["halves"].final_dice < 0.9
    again = evaluate(find_cases(data), {"refuses": Halves}, Plan(protocol("clicks")), tmp_path / "out")
    assert not any(r.error for r in again), "what was refused is tried again"


def test_methods_of_earlier_runs_stay_in_the_report(data, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["evaluate", str(data), "-o", str(out), "--no-pictures", "--remark", "Two balls."]
    assert main([*arguments, "--model", "random-walker"]) == main([*arguments, "--model", "confidence-connected"]) == 0
    rows = json.loads((out / "summary.json").read_text())["rows"]
    assert [r["method"] for r in rows if r["group"] == "all"] == ["confidence-connected", "random-walker"]
    assert len(read_results(out)) == 8 and "<p>Two balls.</p>" in (out / "report.html").read_text()
    capsys.readouterr()
    assert main([*arguments, "--model", "random-walker", "--case", "one", "--label", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {r["method"]: r["count"] for r in shown["methods"]} == {"random-walker": 1, "confidence-connected": 1}


def test_methods_are_also_compared_where_all_of_them_answered(data, tmp_path):
    cases, plan, out = find_cases(data), Plan(protocol("clicks")), tmp_path / "out"
    part = evaluate(cases[:1], {"few": Halves}, replace(plan, labels=(2,)), out)
    found = [*evaluate(cases, {"all": Halves}, plan, out), *part]
    write_report(found, plan.protocol, out / "page.html", title="t")
    page = (out / "page.html").read_text()
    before, after = page.split("On the 1 structure that all methods answered")
    counts = [re.findall(r"<tr><th>(\w+)</th><td>(\d)</td>", part.split("</table>")[0]) for part in (before, after)]
    assert counts == [[("all", "4"), ("few", "1")], [("all", "1"), ("few", "1")]]
    write_report(found[:4], plan.protocol, out / "page.html", title="t")
    assert "that all methods answered" not in (out / "page.html").read_text()


def test_other_weights_under_the_same_name_are_refused(data, tmp_path):
    backend = LocalBackend("cpu", models={"planar": Thresholder(planar=True)})
    asked = methods(["planar"], backend)
    found = evaluate(find_cases(data)[:1], asked, Plan(protocol("clicks")), tmp_path)
    backend.shutdown()
    assert {result.weights for result in found} == {"thresholder-1"}
    check_weights(found, ["planar"], backend_of("thresholder-1"))
    with pytest.raises(InputError, match=r"planar was measured with other weights \(thresholder-, now another\)"):
        check_weights(found, ["planar"], backend_of("another"))


def backend_of(weights: str) -> LocalBackend:
    model = Thresholder(planar=True)
    model.weights_hash = weights
    return LocalBackend("cpu", models={"planar": model})


def test_region_growing_answers_a_click_and_cuts_at_negative_ones():
    array = np.random.default_rng(0).normal(0, 3, (10, 40, 40))
    array[2:8, 10:30, 5:36] += 100
    grown = ConfidenceConnected(Volume(array, Grid.plain(array.shape)))
    grown.begin()
    truth = np.zeros(array.shape, bool)
    truth[2:8, 10:30, 5:36] = True
    mask = grown.answer(Point((5, 20, 10)))
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9
    cut = grown.answer(Point((5, 20, 32), False))
    assert cut[5, 20, 10] and not cut[5, 20, 32] and not cut[..., 25:].any()


def test_the_command_writes_tables_and_a_page(data, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["evaluate", str(data), "-o", str(out), "--protocol", "cvpr2025", "--model", "random-walker"]
    assert main([*arguments, "--model", "confidence-connected"]) == 0
    shown = capsys.readouterr().out
    assert "random-walker" in shown and "4 structures" in shown
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["protocol"], summary["seed"], summary["tolerance_mm"]) == ("cvpr2025", 0, 2)
    rows = summary["rows"]
    walker = next(row for row in rows if row["method"] == "random-walker" and row["group"] == "all")
    assert walker["count"] == 4 and walker["final_dice"] > 0.95 and len(walker["dice"]) == 6
    assert {row["value"] for row in rows if row["group"] == "structure"} == {"left", "right"}
    lines = (out / "results.csv").read_text().splitlines()
    assert len(lines) == 9 and lines[0].startswith("case,method,protocol")
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 8 and "http" not in page, "curves, bars and six pictures, from nowhere else"
    assert main([*arguments, "--json", "--case", "one"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"][0]["count"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "none"], "no protocol 'none'"),
        (["--model", "samed"], "takes no prompts"),
        (["--case", "three"], "no case 'three'"),
        (["--label", "9"], "labels 9"),
        (["--weights", "file.pth"], "NAME=FILE"),
        (["--tolerance", "0"], "more than 0 mm"),
        (["--model", "random-walker+propagation"], "leave '+propagation' out"),
    ],
)
def test_bad_input_is_refused_with_one_line(data, tmp_path, capsys, arguments, words):
    assert main(["evaluate", str(data), "-o", str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out
