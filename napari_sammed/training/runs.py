"""How long a run is, how far it is, and what of it lies in its folder."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from napari_sammed.errors import InputError

STATE, CURVE = "state.pt", "curve.csv"
"""In the folder of a run: what it goes on from, and its losses and measures by step."""

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Of what is computed; weights and their gradients have 32 bits with all of them."""


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
    measure_first : bool
        Measure before the first step, too: the run then never ends with weights worse than those it began with.
    patience : int
        Measures without a better score after which the run ends; 0 for never.
    accumulate : int
        Draws whose gradients are added up before the optimizer makes a step, on each device.
    clip : float
        Norm to which gradients are cut down; 0 for none.
    average : float
        How much of a moving average of the weights is kept per step, such as 0.997; it is then the average that is
        measured, and that the run ends with. 0 for none.
    accelerator, precision : str
        Of Lightning Fabric.
    devices : int
        More than one are for `napari_sammed.training.launching`.
    cluster : str, optional
        Ray cluster whose devices they are, also for `launching`: ``HOST:PORT``, ``auto``, or ``here`` for one of this
        machine's own. Data, weights and `out` are then absolute paths that hold on all of its machines.
    """

    out: Path
    steps: int
    seed: int = 0
    measure_every: int = 100
    keep_every: int = 50
    measure_first: bool = False
    patience: int = 0
    accumulate: int = 1
    clip: float = 0.0
    average: float = 0.0
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    cluster: str | None = None

    def check(self) -> None:
        """Refuse numbers that make no sense; InputError."""
        for name in ("steps", "measure_every", "keep_every", "accumulate", "devices"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, not {getattr(self, name)}.")
        if self.seed < 0 or self.patience < 0 or self.clip < 0:
            raise InputError("Seed, patience and clipping are not negative.")
        if not 0 <= self.average < 1:
            raise InputError(f"A moving average keeps a share from 0 to below 1 per step, not {self.average:g}.")
        if self.precision not in PRECISIONS:
            raise InputError(f"The precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}.")


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
        Smoothed; NaN before the first step.
    curve : list of dict
        A row for each measure: "step", "loss" and what was measured.
    """

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    since: int = 0
    loss: float = math.nan
    curve: list[dict[str, float]] = field(default_factory=list)


Told: TypeAlias = Callable[[Standing], None]
"""Called after each measure."""


@dataclass
class Learning:
    """A run at work: how far it is, and the tensors that it is about.

    Attributes
    ----------
    standing : Standing
    now : dict of str to Tensor
        `learnt` of the network: the network's own, which change as it learns.
    best, average : dict of str to Tensor
        Those of the best measure, and the moving average (empty without one).
    """

    standing: Standing
    now: dict[str, Tensor]
    best: dict[str, Tensor]
    average: dict[str, Tensor]


def learnt(network: nn.Module) -> dict[str, Tensor]:
    """What a run changes of a network: parameters with gradients, and what layers note of what they see."""
    own = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    fixed = {name for name, _ in network.named_parameters()} - own
    return {name: value for name, value in network.state_dict().items() if name not in fixed}


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def best_of(out: Path) -> dict[str, Tensor]:
    """The weights that a run has found best so far, by their names in the network; on the CPU.

    Raises
    ------
    InputError
        If the folder holds no run.
    """
    if not (out / STATE).exists():
        raise InputError(f"There is no run in {out}.")
    return _read(out / STATE)["best"]


def prepare(out: Path) -> None:
    """Have the folder of a run; InputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} cannot be used: {error.strerror}.") from None


def begun(run: Run, network: nn.Module, optimizer: Any, precision: Any) -> Learning:
    """Where a run stands, from its folder; the network and the optimizer are brought there."""
    path, now = run.out / STATE, learnt(network)
    if not path.exists():
        return Learning(Standing(), now, copied(now), copied(now) if run.average else {})
    state = _read(path)
    kept = state["network"]
    if state["seed"] != run.seed or {k: v.shape for k, v in kept.items()} != {k: v.shape for k, v in now.items()}:
        raise InputError(f"{path} is of another run (another recipe, network or seed): choose another folder.")
    network.load_state_dict(kept, strict=False)
    optimizer.load_state_dict(state["optimizer"])
    precision.load_state_dict(state.get("precision", {}))
    best, average = (_beside(state.get(name, {}), now) for name in ("best", "average"))
    if bool(average) != bool(run.average):
        average = copied(now) if run.average else {}
    return Learning(Standing(**state["standing"]), now, best, average)


def _beside(kept: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(now[name].device) for name, value in kept.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        Standing(**state["standing"])
        assert state.keys() >= {"seed", "network", "best", "optimizer"}
    except Exception as error:  # whatever a damaged file makes torch raise
        raise InputError(f"{path} cannot be gone on from ({type(error).__name__}): delete it to begin anew.") from None
    return state


def keep(run: Run, learning: Learning, optimizer: Any, precision: Any) -> None:
    """Have the state on disk, whole: the one of before is there until then."""
    state = {
        "seed": run.seed,
        "standing": asdict(learning.standing),
        "network": learning.now,
        "best": learning.best,
        "average": learning.average,
        "optimizer": optimizer.state_dict(),
        "precision": precision.state_dict(),
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


def write_curve(out: Path, curve: list[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in curve for name in row))
    path = out / CURVE
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in curve)
    temporary.replace(path)
