"""How much sooner a folder is measured by the workers of a Ray cluster than by one process.

    python -m tests.benchmarks.spreading [--workers 2] [--cases 8] [--model random-walker]...

Makes a folder of images with two balls each, and has simulated users click in them: in this process, then by a cluster
of this machine. Prints seconds and the ratio plain / cluster, with and without the start of the cluster (that of its
workers counts in both), and whether the results are the same.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from napari_sammed.cluster import joined
from napari_sammed.commands.evaluate import make_methods
from napari_sammed.evaluation.cases import find_cases
from napari_sammed.evaluation.clustered import evaluate_on_cluster
from napari_sammed.evaluation.protocols import protocol
from napari_sammed.evaluation.results import Result
from napari_sammed.evaluation.runs import Plan, evaluate
from napari_sammed.tasks import Crew
from napari_sammed.volume import Volume, write_mask, write_volume
from tests.phantoms import two_balls


def main() -> None:
    """The command of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--model", action="append", metavar="NAME")
    chosen = parser.parse_args()
    names = chosen.model or ["random-walker"]
    with tempfile.TemporaryDirectory() as scratch:
        compare(Path(scratch), chosen.cases, names, chosen.workers)


def compare(scratch: Path, count: int, names: list[str], workers: int) -> None:
    """Measure a folder both ways, and print what it took."""
    cases, plan = find_cases(folder_of(scratch / "data", count)), Plan(protocol("random+middle:9"))
    make = partial(make_methods, names, {}, "cpu")
    start = time.perf_counter()
    alone = evaluate(cases, make(), plan, scratch / "alone")
    plain = time.perf_counter() - start
    start = time.perf_counter()
    with joined(None, workers, logs=False):
        there = time.perf_counter()
        crew = Crew(workers=workers)
        spread = evaluate_on_cluster(cases, make, names, plan, scratch / "spread", crew, failed=print)
        end = time.perf_counter()
    print(f"{count} cases, {', '.join(names)}; {workers} workers")
    print(f"one process             {plain:7.1f} s")
    print(f"a cluster started for it {end - start:6.1f} s   ratio {plain / (end - start):.2f}")
    print(f"a cluster that is there  {end - there:6.1f} s   ratio {plain / (end - there):.2f}")
    print("the same results" if list(map(said, alone)) == list(map(said, spread)) else "OTHER RESULTS")


def folder_of(folder: Path, count: int) -> Path:
    """Images with labels, each a little different."""
    volume, first, second = two_balls((32, 96, 112))
    labels = first.astype(np.uint8) + 2 * second.astype(np.uint8)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        write_volume(Volume(np.roll(volume.array, number, 1), volume.grid), folder / "images" / f"case{number}.nii.gz")
        write_mask(np.roll(labels, number, 1), volume.grid, folder / "labels" / f"case{number}.nii.gz")
    return folder


def said(result: Result) -> tuple[object, ...]:
    """Of a result, what does not depend on the speed of the machine."""
    return (result.key, result.dice, result.surface_dice, result.hausdorff_95, result.prompts, result.weights)


if __name__ == "__main__":
    main()
