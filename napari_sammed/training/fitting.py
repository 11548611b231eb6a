"""The one loop in which everything is learnt: on a processor, a GPU or several, to be stopped and gone on with.

What is drawn at a step depends on the seed and the step's number alone. So a run that was killed and goes on ends with
the weights of one that was not (to the last bit, on a processor).
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training.losses import Loss

STATE, CURVE = "state.pt", "curve.csv"
"""In the folder of a run: what it goes on from, and its losses and measures by step."""

_SMOOTH = 0.98  # of the loss that is told kept per step


class Task(Protocol):
    """What is learnt, and from what."""

    @property
    def network(self) -> nn.Module:
        """Parameters that need gradients are learnt, and kept in the run's state; all others stay as they are."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A new one, for what is learnt."""

    def rate(self, step: int) -> float:
        """Learning rate."""

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[Loss]:
        """Draw examples, and give one loss after the other; the optimizer makes a step after each."""

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """How good the network is on what it does not learn from; "score" is the one that counts, more is better."""


@dataclass(frozen=True)
class Run:
    """How long and on what.

    Parameters
    ----------
    out : Path
        Folder of the run; one that has a state is gone on with.
    steps : int
    seed : int
    measure_every, keep_every : int
        Steps between two measures, and between two states on disk.
    patience : int
        Measures without a better score after which the run ends; 0 for never.
    accumulate : int
        Draws whose gradients are added up before the optimizer makes a step.
    clip : float
        Norm to which gradients are cut down; 0 for none.
    accelerator, devices, precision : str, int, str
        Of Lightning Fabric.
    """

    out: Path
    steps: int
    seed: int = 0
    measure_every: int = 100
    keep_every: int = 50
    patience: int = 0
    accumulate: int = 1
    clip: float = 0.0
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"

    def check(self) -> None:
        """Refuse numbers that make no sense; InputError."""
        for name in ("steps", "measure_every", "keep_every", "accumulate", "devices"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, not {getattr(self, name)}.")
        if self.seed < 0 or self.patience < 0 or self.clip < 0:
            raise InputError("Seed, patience and clipping are not negative.")


@dataclass
class Standing:
    """How far a run is.

    Attributes
    ----------
    step : int
        Steps that are done.
    best : float
        The best score, and `best_step` when that was.
    since : int
        Measures since then.
    loss : float
        Smoothed.
    """

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    since: int = 0
    loss: float = math.nan
    curve: list[dict[str, float]] = field(default_factory=list)


Told = Callable[[Standing], None]


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
    """
    run.check()
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {run.out} cannot be used: {error.strerror}.") from None
    fabric = Fabric(accelerator=run.accelerator, devices=run.devices, precision=run.precision)
    fabric.launch()
    network = task.network.to(fabric.device)
    optimizer = fabric.setup_optimizers(task.optimizer())
    standing, best = _begun(run, network, optimizer)
    while standing.step < run.steps and not (run.patience and standing.since >= run.patience):
        if cancel is not None and cancel.is_set():
            _keep(fabric, run, network, optimizer, standing, best)
            raise Cancelled
        if progress is not None:
            progress(f"step {standing.step + 1} of {run.steps}, loss {standing.loss:.3g}", standing.step / run.steps)
        _step(fabric, task, optimizer, run, standing)
        if standing.step % run.measure_every == 0 or standing.step == run.steps:
            best = _measure(fabric, task, run, standing, best)
            if told is not None:
                told(standing)
        if standing.step % run.keep_every == 0 or standing.step == run.steps:
            _keep(fabric, run, network, optimizer, standing, best)
    network.load_state_dict(best, strict=False)
    return standing


def learnt(network: nn.Module) -> dict[str, Tensor]:
    """What a run changes of a network: parameters with gradients, and what layers note of what they see."""
    own = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    fixed = {name for name, _ in network.named_parameters()} - own
    return {name: value for name, value in network.state_dict().items() if name not in fixed}


def _step(fabric: Fabric, task: Task, optimizer: Any, run: Run, standing: Standing) -> None:
    network = task.network
    _set_modes(network)
    for group in optimizer.param_groups:
        group["lr"] = task.rate(standing.step)
    where = (run.seed, standing.step, fabric.global_rank)
    torch.manual_seed(int(np.random.SeedSequence([*where, 1]).generate_state(1)[0]))
    draws = [task.losses(np.random.default_rng([*where, 2, part]), fabric.device) for part in range(run.accumulate)]
    while True:
        value, count = 0.0, 0
        for draw in draws:
            with fabric.autocast():
                loss = next(draw, None)
            if loss is not None:
                fabric.backward(loss.total / len(draws))
                value += loss.total.item() / len(draws)
                count += 1
        if not count:
            break
        if not math.isfinite(value):
            raise InputError(
                f"At step {standing.step + 1} the loss is {value}: learning has gone wrong. What was learnt before is "
                f"in {run.out}; a smaller rate may help."
            )
        _together(fabric, network)
        if run.clip:
            torch.nn.utils.clip_grad_norm_((p for p in network.parameters() if p.grad is not None), run.clip)
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


def _together(fabric: Fabric, network: nn.Module) -> None:
    """The mean of gradients over all devices. Not by a wrapped network, whose parts could not be called one by one."""
    if fabric.world_size > 1:
        for parameter in network.parameters():
            if parameter.requires_grad:
                grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = fabric.all_reduce(grad, reduce_op="mean")


@torch.no_grad()
def _measure(fabric: Fabric, task: Task, run: Run, standing: Standing, best: dict[str, Tensor]) -> dict[str, Tensor]:
    """Note how good the network is; its weights if it never was better, else those of before."""
    task.network.eval()
    with fabric.autocast():
        measures = dict(task.measure(fabric.device))
    standing.curve.append({"step": standing.step, "loss": standing.loss, **measures})
    standing.since += 1
    if measures["score"] > standing.best:
        standing.best, standing.best_step, standing.since = measures["score"], standing.step, 0
        best = {name: value.detach().clone() for name, value in learnt(task.network).items()}
    if fabric.is_global_zero:
        _write_curve(run.out / CURVE, standing.curve)
    return best


def _begun(run: Run, network: nn.Module, optimizer: Any) -> tuple[Standing, dict[str, Tensor]]:
    """Where a run stands, from its folder."""
    path = run.out / STATE
    now = learnt(network)
    if not path.exists():
        return Standing(), {name: value.detach().clone() for name, value in now.items()}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        standing = Standing(**state["standing"])
        fits = state["seed"] == run.seed and {k: v.shape for k, v in state["network"].items()} == {
            k: v.shape for k, v in now.items()
        }
    except Exception as error:  # whatever a damaged file makes torch raise
        raise InputError(f"{path} cannot be gone on from ({type(error).__name__}): delete it to begin anew.") from None
    if not fits:
        raise InputError(f"{path} is of another run (another recipe, network or seed): choose another folder.")
    network.load_state_dict(state["network"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    device = next(network.parameters()).device
    return standing, {name: value.to(device) for name, value in state["best"].items()}


def _keep(
    fabric: Fabric, run: Run, network: nn.Module, optimizer: Any, standing: Standing, best: dict[str, Tensor]
) -> None:
    """Have the state on disk, whole: the one of before is there until then."""
    if fabric.is_global_zero:
        state = {
            "seed": run.seed,
            "standing": asdict(standing),
            "network": learnt(network),
            "best": best,
            "optimizer": optimizer.state_dict(),
        }
        path = run.out / STATE
        temporary = path.with_suffix(".part")
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's own for a full disk
            raise InputError(f"{path} cannot be written ({error}): make room, and run the same again.") from None
    fabric.barrier()


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in curve for name in row))
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in curve)
    temporary.replace(path)
