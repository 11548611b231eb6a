"""A run over several processes: each takes one case after the other and has models of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled
from napari_sammed.evaluation.cases import Case
from napari_sammed.evaluation.methods import Method
from napari_sammed.evaluation.results import Key, Result, keeping, read_results
from napari_sammed.evaluation.runs import Plan, answered, results_of

_POLL = 0.5  # s between looks at `cancel`

_methods: Mapping[str, Method] = {}  # of a worker process


def evaluate_in_processes(
    cases: Sequence[Case],
    make_methods: Callable[[], Mapping[str, Method]],
    plan: Plan,
    folder: Path,
    jobs: int,
    *,
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """As `napari_sammed.evaluation.runs.evaluate`, with the same results; a case's are kept once it is through.

    Parameters
    ----------
    make_methods : callable
        Makes the methods in each process; has to be picklable, so a function of a module or a partial of one.
    jobs : int
        Processes. Each loads the models, so memory is needed as often.
    """
    known = answered(read_results(folder))
    found: dict[int, list[Result]] = {}
    with (
        keeping(folder) as keep,
        ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=(make_methods, jobs)) as pool,
    ):
        futures = {pool.submit(_work, case, plan, known): number for number, case in enumerate(cases)}
        try:
            for future in _as_done(futures, cancel):
                number = futures[future]
                found[number] = future.result()
                for result in found[number]:
                    if result.key not in known:
                        keep(result)
                if progress is not None:
                    progress(f"{cases[number].name}: done", len(found) / len(cases))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [result for number in sorted(found) for result in found[number]]


def _as_done(futures: Mapping[Future[list[Result]], int], cancel: Cancel | None) -> Iterator[Future[list[Result]]]:
    left = set(futures)
    while left:
        done, left = wait(left, _POLL, FIRST_COMPLETED)
        yield from done
        if cancel is not None and cancel.is_set():
            raise Cancelled


def _start(make_methods: Callable[[], Mapping[str, Method]], jobs: int) -> None:
    import os

    import torch

    global _methods
    torch.set_num_threads(max((os.cpu_count() or 1) // jobs, 1))
    _methods = make_methods()


def _work(case: Case, plan: Plan, known: Mapping[Key, Result]) -> list[Result]:
    return list(results_of(case, _methods, plan, known))
