"""A run over several processes: each takes one case with one method after the other and has models of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled
from napari_sammed.evaluation.cases import Case
from napari_sammed.evaluation.methods import Method
from napari_sammed.evaluation.results import Keep, Key, Result, keeping, read_results
from napari_sammed.evaluation.runs import Plan, answered, results_of

_POLL = 0.2  # s between looks at what has come, and at `cancel`

_methods: Mapping[str, Method] = {}  # of a worker process
_found: Any = None  # where its results go as they come
_stop: Any = None  # whether nobody waits for them any more


def evaluate_in_processes(
    cases: Sequence[Case],
    make_methods: Callable[[], Mapping[str, Method]],
    names: Sequence[str],
    plan: Plan,
    folder: Path,
    jobs: int,
    *,
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """As `napari_sammed.evaluation.runs.evaluate`, with the same results; each is kept as soon as it is there.

    Parameters
    ----------
    make_methods : callable
        Makes the methods in each process; has to be picklable, so a function of a module or a partial of one.
    names : sequence of str
        Of these methods.
    jobs : int
        Processes. Each loads the models, so memory is needed as often.
    """
    known = answered(read_results(folder))
    context = get_context("spawn")
    coming, stop = context.SimpleQueue(), context.Event()
    start = partial(_start, make_methods, jobs, coming, stop)
    with keeping(folder) as keep, ProcessPoolExecutor(jobs, context, start) as pool:
        futures = [pool.submit(_work, case, name, plan, known) for case in cases for name in names]
        try:
            _collect(futures, partial(_keep_all, coming, keep, progress), cancel)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [result for future in futures for result in future.result()]


def _collect(futures: Sequence[Future[list[Result]]], keep_all: Callable[[float], None], cancel: Cancel | None) -> None:
    """Keep results as they come until all processes are through."""
    left: set[Future[list[Result]]] = set(futures)
    while left:
        done, left = wait(left, _POLL, FIRST_EXCEPTION)
        keep_all(1 - len(left) / len(futures))
        for future in done:
            future.result()
        if cancel is not None and cancel.is_set():
            raise Cancelled
    keep_all(1.0)


def _keep_all(coming: Any, keep: Keep, progress: Progress | None, share: float) -> None:
    while not coming.empty():
        result = coming.get()
        keep(result)
        if progress is not None:
            progress(f"{result.case}: {result.name} with {result.method}", share)


def _start(make_methods: Callable[[], Mapping[str, Method]], jobs: int, coming: Any, stop: Any) -> None:
    import torch

    global _methods, _found, _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max((os.cpu_count() or 1) // jobs, 1))
    _methods, _found, _stop = make_methods(), coming, stop


def _end_with_parent() -> None:
    """A process whose parent was killed would work on for nobody, and then wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(case: Case, name: str, plan: Plan, known: Mapping[Key, Result]) -> list[Result]:
    results = []
    for result in results_of(case, {name: _methods[name]}, plan, known, _stop):
        if result.key not in known:
            _found.put(result)
        results.append(result)
    return results
