"""Whether runs of one seed end with the same weights, to the last bit, be they stopped in between or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from napari_sammed.errors import Cancelled
from napari_sammed.training.fitting import Run, Task, fit, learnt


def check_runs_are_alike(make: Callable[[], Task], run: Run) -> None:
    """Learn twice from start to end, and once with a stop in the middle and a new task after it."""
    ends = []
    for name in ("whole", "again"):
        task = make()
        fit(task, replace(run, out=run.out / name))
        ends.append(learnt(task.network))
    there, cancel = replace(run, out=run.out / "stopped"), threading.Event()
    with pytest.raises(Cancelled):
        fit(make(), there, cancel=cancel, progress=lambda what, share: share >= 0.3 and cancel.set())
    task = make()
    assert 0 < fit(task, there).step == run.steps
    for other in (ends[1], learnt(task.network)):
        assert ends[0].keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in ends[0].items())
