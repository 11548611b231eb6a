"""The loop: learns, measures, stops, and goes on after a kill as if nothing had been."""

from __future__ import annotations

import copy
import csv
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training.fitting import CURVE, STATE, Run, Standing, best_of, fit, learnt
from napari_sammed.training.losses import Loss
from tests.training.learners import Plane, batch


class Line:
    """Learns a line through a network of which the first part stays as it is; two losses a draw."""

    def __init__(self, slow: float = 0.0) -> None:
        torch.manual_seed(3)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.network[0].requires_grad_(False)
        self.slow = slow
        self.scores: list[float] | None = None

    def optimizer(self):
        return torch.optim.AdamW([p for p in self.network.parameters() if p.requires_grad], lr=1.0)

    def rate(self, step):
        return 0.02 / (1 + step / 50)

    def losses(self, random, device):
        for _ in range(2):
            time.sleep(self.slow)
            x = torch.from_numpy(random.normal(size=(16, 2)).astype(np.float32)).to(device)
            error = (self.network(x) - (x[:, :1] - 2 * x[:, 1:])).square().mean()
            yield Loss(error, {"error": error.item()})

    def measure(self, device):
        if self.scores is not None:
            return {"score": self.scores.pop(0)}
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)).to(device)
        return {"score": -(self.network(x) - (x[:, :1] - 2 * x[:, 1:])).square().mean().item()}


def cpu(out, **how):
    return Run(out, **{"steps": 60, "measure_every": 20, "keep_every": 7, "accelerator": "cpu", **how})


def test_it_learns_what_may_learn_and_nothing_else(tmp_path):
    task = Line()
    fixed = task.network[0].weight.clone()
    said: list[tuple[str, float]] = []
    standing = fit(task, cpu(tmp_path, steps=300, measure_every=100), progress=lambda *what: said.append(what))
    assert standing.step == 300 and standing.best > -0.6 and standing.curve[0]["score"] < standing.best
    assert torch.equal(task.network[0].weight, fixed)
    assert said[0] == ("step 1 of 300", 0.0)
    assert len(said) == 300 and said[-1][0].startswith("step 300 of 300, loss 0.") and said[-1][1] == 299 / 300
    rows = list(csv.DictReader((tmp_path / CURVE).open()))
    assert [row["step"] for row in rows] == ["100", "200", "300"]
    assert float(rows[-1]["score"]) == pytest.approx(standing.curve[-1]["score"], rel=1e-4)


def test_samples_in_a_second_are_told(tmp_path):
    task, said = Line(slow=0.02), []
    task.settings = SimpleNamespace(batch=8)
    run = cpu(tmp_path, steps=4, accumulate=2)
    fit(task, run, progress=lambda text, share: said.append(text))
    assert "samples" not in said[0]
    fastest = 8 * 2 / (2 * 2 * 0.02)  # two draws of two losses
    assert 0 < float(said[-1].rpartition(", ")[2].removesuffix(" samples/s")) < fastest


def test_the_weights_of_the_best_measure_are_what_is_left(tmp_path):
    task = Line()
    task.scores = [0.1, 0.5, 0.3]
    kept = []
    standing = fit(
        task, cpu(tmp_path), told=lambda s: kept.append({k: v.clone() for k, v in learnt(task.network).items()})
    )
    assert (standing.best, standing.best_step) == (0.5, 40)
    now = learnt(task.network)
    assert all(torch.equal(now[name], kept[1][name]) for name in now)
    assert any(not torch.equal(now[name], kept[2][name]) for name in now)


def test_a_run_that_measures_first_never_ends_worse_than_it_began(tmp_path):
    task, run = Line(), cpu(tmp_path, measure_first=True)
    task.scores = [0.6, 0.1, 0.5, 0.3]
    before = {name: value.clone() for name, value in learnt(task.network).items()}
    told = []
    standing = fit(task, run, told=lambda standing: told.append(standing.step))
    assert told == [0, 20, 40, 60] and [row["step"] for row in standing.curve] == told
    assert (standing.best, standing.best_step, standing.since) == (0.6, 0, 3)
    assert all(torch.equal(value, before[name]) for name, value in learnt(task.network).items())
    assert fit(Line(), run).curve[0]["step"] == 0, "and does not when it is gone on with"


def test_it_ends_where_nothing_gets_better(tmp_path):
    task = Line()
    task.scores = [0.1, 0.5, 0.5, 0.4, 0.6, 0.7]
    assert fit(task, cpu(tmp_path, steps=120, patience=2)).step == 80


@pytest.mark.parametrize("how", [{}, {"accumulate": 3}, {"average": 0.9}, {"precision": "bf16-mixed"}], ids=str)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, how):
    whole, halves, cancel = Line(), Line(), threading.Event()
    run = cpu(tmp_path / "whole", clip=1.0, **how)
    fit(whole, run)
    there = replace(run, out=tmp_path / "halves")
    with pytest.raises(Cancelled):
        fit(halves, there, cancel=cancel, progress=lambda what, share: share >= 0.5 and cancel.set())
    again = Line()
    standing = fit(again, there)
    assert standing.step == 60 and len(standing.curve) == 3
    for name, value in learnt(whole.network).items():
        assert torch.equal(value, learnt(again.network)[name]), name


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.full)])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, kills):
    script = (
        "import sys; from pathlib import Path; from tests.training.test_fitting import *\n"
        "fit(Line(slow=0.01), cpu(Path(sys.argv[1])), progress=lambda what, share: print(what, flush=True))"
    )
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout:
            if int(line.split()[1]) >= 15 * (number + 1):
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()
        assert (tmp_path / "killed" / STATE).exists()
    again, whole = Line(), Line()
    fit(again, cpu(tmp_path / "killed"))
    fit(whole, cpu(tmp_path / "whole"))
    for name, value in learnt(whole.network).items():
        assert torch.equal(value, learnt(again.network)[name]), name


class Steps(Plane):
    """One draw and one loss a step, and plain descent, so that what an optimizer was given can be told."""

    def optimizer(self):
        return torch.optim.SGD(self.network.parameters(), lr=1.0)

    def rate(self, step):
        return 0.1

    def losses(self, random, device):
        x, y = batch(random, device)
        self.said = self.network(x)
        yield Loss((self.said - y).square().mean(), {})

    def measure(self, device):
        self.measured = {name: value.clone() for name, value in learnt(self.network).items()}
        return {"score": float(next(self.scores)) if hasattr(self, "scores") else 0.0}


def gradients(task, *draws):
    """Of the mean loss of some draws, from how the loop numbers them at the first step."""
    task.network.zero_grad()
    for number in draws:
        for loss in task.losses(np.random.default_rng([0, 0, 0, 2, number]), "cpu"):
            (loss.total / len(draws)).backward()
    return {name: parameter.grad for name, parameter in task.network.named_parameters()}


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_gradients_of_several_draws_are_averaged(tmp_path, accumulate):
    task, other = Steps(), Steps()
    fit(task, cpu(tmp_path, steps=1, accumulate=accumulate))
    for name, grad in gradients(other, *range(accumulate)).items():
        torch.testing.assert_close(learnt(task.network)[name], learnt(other.network)[name] - 0.1 * grad)


def test_gradients_are_cut_down_to_a_norm(tmp_path):
    task, other = Steps(), Steps()
    fit(task, cpu(tmp_path, steps=1, clip=0.5))
    grads = gradients(other, 0)
    norm = torch.cat([grad.flatten() for grad in grads.values()]).norm()
    assert norm > 1
    for name, grad in grads.items():
        torch.testing.assert_close(learnt(task.network)[name], learnt(other.network)[name] - 0.1 * 0.5 / norm * grad)


def test_the_average_is_what_is_measured_and_left(tmp_path):
    """Where nothing was ever better than the last."""
    plain, task = Steps(), Steps()
    plain.scores, task.scores = iter(range(9)), iter(range(9))
    passed = [copy.deepcopy(learnt(plain.network))]
    fit(plain, cpu(tmp_path / "plain", steps=8, measure_every=1), told=lambda s: passed.append(plain.measured))
    fit(task, cpu(tmp_path / "average", steps=8, measure_every=4, average=0.6))
    expected = passed[0]
    for step, weights in enumerate(passed[1:]):
        share = min(0.6, (step + 1) / (step + 10))
        expected = {name: share * mean + (1 - share) * weights[name] for name, mean in expected.items()}
    now = learnt(task.network)
    torch.testing.assert_close(now, expected)
    torch.testing.assert_close(task.measured, expected)
    torch.testing.assert_close(best_of(tmp_path / "average"), expected)
    state = torch.load(tmp_path / "average" / STATE, weights_only=True)
    torch.testing.assert_close(state["network"], passed[-1])
    assert not torch.allclose(now["0.weight"], passed[-1]["0.weight"], rtol=1e-3)


def test_bfloat16_is_what_is_computed_in_and_not_what_is_learnt(tmp_path):
    task = Steps()
    standing = fit(task, cpu(tmp_path, steps=200, precision="bf16-mixed"))
    assert task.said.dtype == torch.bfloat16
    assert all(value.dtype == torch.float32 for value in learnt(task.network).values())
    assert standing.loss < 1 < fit(Steps(), cpu(tmp_path / "one", steps=1)).loss


def test_what_learns_is_told_so_again_after_a_measure(tmp_path):
    task, modes = Line(), []
    task.network[1].register_forward_hook(lambda module, *_: modes.append((module.training, task.network[0].training)))
    fit(task, cpu(tmp_path, steps=6, measure_every=3))
    assert modes == [*[(True, False)] * 6, (False, False)] * 2


def test_a_finished_run_is_not_run_again_and_a_longer_one_goes_on(tmp_path):
    fit(Line(), cpu(tmp_path))
    said = []
    assert fit(Line(), cpu(tmp_path), progress=lambda *what: said.append(what)).step == 60 and not said
    longer, whole = Line(), Line()
    fit(longer, cpu(tmp_path, steps=80))
    fit(whole, cpu(tmp_path / "whole", steps=80))
    assert all(torch.equal(v, learnt(longer.network)[k]) for k, v in learnt(whole.network).items())


def test_a_folder_of_another_run_or_a_damaged_state_is_refused(tmp_path):
    fit(Line(), cpu(tmp_path))
    with pytest.raises(InputError, match="another run"):
        fit(Line(), cpu(tmp_path, seed=1))
    other = Line()
    other.network[0].requires_grad_(True)
    with pytest.raises(InputError, match="another run"):
        fit(other, cpu(tmp_path))
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:300])
    with pytest.raises(InputError, match="delete it to begin anew"):
        fit(Line(), cpu(tmp_path))


class Wild(Line):
    def rate(self, step):
        return 0.01 if step < 5 else 1e30


def test_a_loss_that_is_no_number_is_told_and_the_state_kept(tmp_path):
    with pytest.raises(InputError, match=r"At step \d+ the loss is (nan|inf)"):
        fit(Wild(), cpu(tmp_path, keep_every=1))
    assert torch.load(tmp_path / STATE, weights_only=True)["standing"]["step"] >= 5


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": 0}, "steps is at least 1"),
        ({"seed": -1}, "not negative"),
        ({"average": 1.0}, "below 1"),
        ({"precision": "8"}, "one of 32-true"),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, how, message):
    with pytest.raises(InputError, match=message):
        fit(Line(), cpu(tmp_path, **how))


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used"):
        fit(Line(), cpu(tmp_path / "file" / "inside"))


def test_it_stands_as_it_was_told(tmp_path):
    told: list[Standing] = []
    fit(Line(), cpu(tmp_path), told=lambda standing: told.append(replace(standing)))
    assert [standing.step for standing in told] == [20, 40, 60] and all(s.loss > 0 for s in told)
