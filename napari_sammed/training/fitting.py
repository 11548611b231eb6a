"""The one loop in which everything is learnt: on a processor, a GPU or several, to be stopped and gone on with.

What is drawn at a step depends on the seed and the step's number alone. So a run that was killed and goes on ends with
the weights of one that was not (to the last bit, on a processor).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training import devices, runs
from napari_sammed.training.losses import Loss
from napari_sammed.training.runs import CURVE, STATE, Learning, Run, Standing, Told, best_of, copied, learnt

__all__ = ["CURVE", "STATE", "Run", "Standing", "Task", "Told", "best_of", "fit", "learnt"]

_SMOOTH = 0.98  # of the loss that is told kept per step


class Task(Protocol):
    """What is learnt, and from what."""

    @property
    def network(self) -> nn.Module:
        """Parameters that need gradients are learnt, and kept in the run's state; all others stay as they are."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A new one, for what is learnt. A group of its parameters with a "share" learns at that share of the rate."""

    def rate(self, step: int) -> float:
        """Learning rate."""

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[Loss]:
        """Draw examples, and give one loss after the other; the optimizer makes a step after each."""

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """How good the network is on what it does not learn from; "score" is the one that counts, more is better."""


def fit(
    task: Task, run: Run, *, progress: Progress | None = None, cancel: Cancel | None = None, told: Told | None = None
) -> Standing:
    """Learn until the steps are done, or nothing gets better any more; the network then has its best weights.

    Parameters
    ----------
    task : Task
    run : Run
    progress : callable, optional
    cancel : Event, optional
        The state is kept, and the run can be gone on with.
    told : callable, optional
        Called after each measure.

    Returns
    -------
    Standing

    Raises
    ------
    InputError
        If the folder holds another run, or learning has gone wrong (a loss that is no number).
    Cancelled

    Notes
    -----
    In one of several processes (see `napari_sammed.training.launching`) all make the same steps; the first one alone
    measures, writes and tells.
    """
    run.check()
    runs.prepare(run.out)
    fabric = devices.begin(run.accelerator, run.devices, run.precision)
    network = task.network.to(fabric.device)
    devices.have_same(fabric, network)
    optimizer = fabric.setup_optimizers(task.optimizer())
    learning = runs.begun(run, network, optimizer, fabric.strategy.precision)
    standing = learning.standing
    _check_same_step(fabric, run, standing)
    _set_modes(network)
    if run.measure_first and not standing.step and not standing.curve:
        _measure(fabric, task, run, learning, told)
    words = _Words(task, run, fabric.world_size, standing.step)
    while standing.step < run.steps and not (run.patience and standing.since >= run.patience):
        if _is_set(fabric, cancel):
            _keep(fabric, run, learning, optimizer)
            raise Cancelled
        if progress is not None and fabric.is_global_zero:
            progress(words(standing), standing.step / run.steps)
        _step(fabric, task, optimizer, run, standing)
        _average(run, learning)
        if standing.step % run.measure_every == 0 or standing.step == run.steps:
            _measure(fabric, task, run, learning, told)
        if standing.step % run.keep_every == 0 or standing.step == run.steps:
            _keep(fabric, run, learning, optimizer)
    network.load_state_dict(learning.best, strict=False)
    return standing


class _Words:
    """How far a run is, and how fast since it was begun here; a task with ``settings.batch`` draws so many samples."""

    def __init__(self, task: Task, run: Run, devices: int, step: int) -> None:
        self._steps, self._first, self._begun = run.steps, step, time.monotonic()
        self._samples = getattr(getattr(task, "settings", None), "batch", 1) * run.accumulate * devices

    def __call__(self, standing: Standing) -> str:
        loss = "" if math.isnan(standing.loss) else f", loss {standing.loss:.3g}"
        done, seconds = standing.step - self._first, time.monotonic() - self._begun
        speed = f", {done * self._samples / seconds:.3g} samples/s" if done and seconds else ""
        return f"step {standing.step + 1} of {self._steps}{loss}{speed}"


def _is_set(fabric: Fabric, cancel: Cancel | None) -> bool:
    """Whether anybody is to stop; then all do at the same step."""
    return devices.total(fabric, float(cancel is not None and cancel.is_set()))[0] > 0


def _check_same_step(fabric: Fabric, run: Run, standing: Standing) -> None:
    steps, squares = devices.total(fabric, standing.step, standing.step**2)
    if steps**2 != fabric.world_size * squares:  # of numbers that are not all the same it is less
        raise InputError(f"{run.out} has to be the same folder on all machines.")


def _step(fabric: Fabric, task: Task, optimizer: Any, run: Run, standing: Standing) -> None:
    network = task.network
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for group in optimizer.param_groups:
        group["lr"] = task.rate(standing.step) * group.get("share", 1.0)
    rank, count = fabric.global_rank, run.accumulate * fabric.world_size
    torch.manual_seed(int(np.random.SeedSequence([run.seed, standing.step, rank, 1]).generate_state(1)[0]))
    # Numbered through all devices: two of them draw what one draws that accumulates twice as much.
    numbers = range(rank * run.accumulate, (rank + 1) * run.accumulate)
    draws = [
        task.losses(np.random.default_rng([run.seed, standing.step, 0, 2, number]), fabric.device) for number in numbers
    ]
    while True:
        value, left = 0.0, 0
        for draw in draws:
            with fabric.autocast():
                loss = next(draw, None)
            if loss is not None:
                fabric.backward(loss.total / len(draws))
                value += loss.total.item() / count
                left += 1
        value, left = devices.total(fabric, value, left)
        if not left:
            break
        if not math.isfinite(value):
            raise InputError(
                f"At step {standing.step + 1} the loss is {value}: learning has gone wrong. What was learnt before is "
                f"in {run.out}; a smaller rate may help."
            )
        devices.have_mean_gradients(fabric, parameters)
        if run.clip:
            fabric.clip_gradients(network, optimizer, max_norm=run.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        standing.loss = value if math.isnan(standing.loss) else _SMOOTH * standing.loss + (1 - _SMOOTH) * value
    standing.step += 1


def _set_modes(network: nn.Module) -> None:
    """What is learnt learns; a part that stays as it is does so altogether, its running means among it."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


@torch.no_grad()
def _average(run: Run, learning: Learning) -> None:
    """Have the average follow; faster at first, so that it forgets what it began with."""
    step = learning.standing.step - 1
    share = min(run.average, (step + 1) / (step + 10))
    for name, mean in learning.average.items():
        value = learning.now[name]
        if mean.is_floating_point():
            mean.lerp_(value, 1 - share)
        else:
            mean.copy_(value)


@contextlib.contextmanager
def _in_its_place(now: dict[str, Tensor], other: dict[str, Tensor]) -> Iterator[None]:
    """The network with other weights for as long as the block lasts."""
    kept = copied(now) if other else {}
    for name, value in other.items():
        now[name].copy_(value)
    try:
        yield
    finally:
        for name, value in kept.items():
            now[name].copy_(value)


@torch.no_grad()
def _measure(fabric: Fabric, task: Task, run: Run, learning: Learning, told: Told | None) -> None:
    """Note how good the network, or its average, is; and its weights if it never was better."""
    standing, measures = learning.standing, {"score": 0.0}
    if fabric.is_global_zero:
        task.network.eval()
        with _in_its_place(learning.now, learning.average), fabric.autocast():
            measures = dict(task.measure(fabric.device))
        _set_modes(task.network)
    (measures["score"],) = devices.total(fabric, measures["score"])
    standing.curve.append({"step": standing.step, "loss": standing.loss, **measures})
    standing.since += 1
    if measures["score"] > standing.best:
        standing.best, standing.best_step, standing.since = measures["score"], standing.step, 0
        learning.best = copied(learning.average or learning.now)
    if fabric.is_global_zero:
        runs.write_curve(run.out, standing.curve)
        if told is not None:
            told(standing)


def _keep(fabric: Fabric, run: Run, learning: Learning, optimizer: Any) -> None:
    if fabric.is_global_zero:
        runs.keep(run, learning, optimizer, fabric.strategy.precision)
    fabric.barrier()
