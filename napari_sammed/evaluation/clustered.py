"""A run over a Ray cluster: each worker takes one case with one method after the other and has models of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.evaluation.cases import Case
from napari_sammed.evaluation.methods import Method
from napari_sammed.evaluation.results import Key, Result, keeping, read_results
from napari_sammed.evaluation.runs import Plan, answered, results_of, same_weights
from napari_sammed.tasks import Crew, check_here, through


@dataclass(frozen=True)
class _Task:
    """One case with one method, and what is known of it."""

    case: Case
    method: str
    plan: Plan
    known: Mapping[Key, Result]


def evaluate_on_cluster(
    cases: Sequence[Case],
    make_methods: Callable[[], Mapping[str, Method]],
    names: Sequence[str],
    plan: Plan,
    folder: Path,
    crew: Crew,
    *,
    failed: Callable[[str, str], None],
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """As `napari_sammed.evaluation.runs.evaluate`, with the same results; each is kept as soon as it is there.

    Parameters
    ----------
    make_methods : callable
        Makes the methods in each worker; a function of a module or a partial of one.
    names : sequence of str
        Of these methods.
    folder : Path
        Of the results, on this machine; those of `cases` have to be where all workers can read them.
    crew : Crew
        On the cluster that this process has joined.
    failed : callable
        Is told of each case that cannot be measured, by name and method, and why; the others go on.
    """
    known = answered(read_results(folder))
    check = same_weights(known.values())
    tasks = [_task(case, name, plan, known) for case in cases for name in names]
    with keeping(folder) as keep:

        def came(number: int, result: Result) -> None:
            if result.key not in known:
                check(result)
                keep(result)

        def not_done(number: int, sentence: str) -> None:
            failed(f"{tasks[number].case.name} with {tasks[number].method}", sentence)

        found = through(
            tasks, make_methods, _measure, crew, came=came, failed=not_done, cancel=cancel, progress=progress
        )
    return [result for results in found for result in results]


def _task(case: Case, name: str, plan: Plan, known: Mapping[Key, Result]) -> _Task:
    own = {key: result for key, result in known.items() if (result.case, result.method) == (case.name, name)}
    return _Task(replace(case, image=case.image.absolute(), labels=case.labels.absolute()), name, plan, own)


def _measure(methods: Mapping[str, Method], task: _Task, done: Sequence[Result]) -> Iterator[Result]:
    """On a worker."""
    check_here((task.case.image, task.case.labels))
    known = {**task.known, **{result.key: result for result in done}}
    results = results_of(task.case, {task.method: methods[task.method]}, task.plan, known)
    return islice(results, len(done), None)
