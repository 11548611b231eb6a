"""Tasks for the loop, which other processes can make, too."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from napari_sammed.errors import InputError
from napari_sammed.training.losses import Loss


def batch(random: np.random.Generator, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Points, and how high a plane lies there."""
    x = torch.from_numpy(random.normal(size=(16, 2)).astype(np.float32)).to(device)
    return x, x[:, :1] - 2 * x[:, 1:]


class Plane:
    """Learns a plane; nothing is drawn but the points.

    Parameters
    ----------
    drawn : str
        "" for weights that are the same in all processes, "apart" for others in each.
    trouble : str
        What rank 1 does at step 5: "refuse", "fail", "die", "wait" (for ever), "nan".
    note : Path, optional
        File for the id of each process.
    slow : float
        Seconds a step.
    uneven : bool
        Whether some draws have more losses than others.
    resting : bool
        Whether the first layer learns from the first loss of a draw only.
    """

    def __init__(
        self,
        drawn: str = "",
        trouble: str = "",
        note: Path | None = None,
        slow: float = 0.0,
        uneven: bool = False,
        resting: bool = False,
    ) -> None:
        torch.manual_seed(os.getpid() if drawn == "apart" else 3)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        self.trouble, self.slow, self.uneven, self.resting = trouble, slow, uneven, resting
        self._step = 0
        if note is not None:
            with note.open("a") as file:
                file.write(f"{os.getpid()}\n")

    def optimizer(self):
        return torch.optim.AdamW(self.network.parameters(), lr=1.0)

    def rate(self, step):
        self._step = step
        return 0.02

    def losses(self, random, device):
        time.sleep(self.slow)
        self._stumble()
        for number in range(1 + int(random.integers(3)) if self.uneven else 2):
            x, y = batch(random, device)
            hidden = self.network[0](x)
            hidden = hidden.detach() if self.resting and number else hidden
            error = (self.network[1:](hidden) - y).square().mean()
            yield Loss(error * float("nan") if self._has("nan") else error, {})

    def measure(self, device):
        x, y = batch(np.random.default_rng(0), device)
        return {"score": -(self.network(x) - y).square().mean().item(), "rank": float(rank())}

    def _has(self, trouble: str) -> bool:
        return self.trouble == trouble and self._step == 5 and rank() == 1

    def _stumble(self) -> None:
        if self._has("refuse"):
            raise InputError("The image 7 cannot be read.")
        if self._has("fail"):
            raise ZeroDivisionError("a defect")
        if self._has("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._has("wait"):
            time.sleep(10_000)


def rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def refused() -> Plane:
    raise InputError("There is nothing labelled to learn from.")
