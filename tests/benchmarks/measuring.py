"""How the benchmarks of networks take times and memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")


def take_turns(
    calls: dict[str, Callable[[], Result]], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, Result]]:
    """Median seconds and the result of each call; the first round only warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    results = {}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            results[name] = call()
            taken[name].append(clock() - start)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}, results


def peak_growth(call: Callable[[], object]) -> float:
    """Growth of the peak resident size over one call, MiB; meant for a process of its own (Linux)."""
    before = status("VmRSS")
    return peak_size(call) - before


def peak_size(call: Callable[[], object]) -> float:
    """Peak of the resident size during one call, MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what went before
    with torch.inference_mode():
        call()
    return status("VmHWM")


def status(field: str) -> float:
    """A size from the kernel's account of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
