"""``napari-sammed evaluate``: simulated users measure models on a folder of images with labels."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_sammed import __version__
from napari_sammed.backend.local import LocalBackend
from napari_sammed.cluster import joined
from napari_sammed.commands.servers import Server, backend_for
from napari_sammed.commands.terminal import bar, note, say, say_json, wait
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation.cases import Case, find_cases
from napari_sammed.evaluation.clustered import evaluate_on_cluster
from napari_sammed.evaluation.methods import Method, methods
from napari_sammed.evaluation.parallel import evaluate_in_processes
from napari_sammed.evaluation.protocols import Protocol, protocol
from napari_sammed.evaluation.report import worst_pictures, write_report
from napari_sammed.evaluation.results import FILE, Result, read_results
from napari_sammed.evaluation.runs import Plan, check_weights, evaluate, kept_beside
from napari_sammed.evaluation.summary import Row, as_csv, as_json, summarise
from napari_sammed.tasks import Crew

SUMMARY, TABLE, REPORT = "summary.json", "results.csv", "report.html"
DEFAULT_METHODS = ("random-walker", "confidence-connected")


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; the fields are its arguments and options."""

    data: Path
    output: Path
    models: tuple[str, ...] = ()
    protocol: str = "clicks"
    weights: tuple[str, ...] = ()
    device: str = "auto"
    cases: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    least_voxels: int = 1
    seed: int = 0
    jobs: int | None = None
    pictures: bool = True
    tolerance: float | None = None
    remark: str = ""
    server: Server | None = None
    cluster: Crew | None = None
    as_json: bool = False


def run(request: Request) -> None:
    """Measure what has not been measured yet, write tables and the report, and say the means.

    Raises
    ------
    InputError
        For everything that the user can put right.
    """
    _check_installed()
    chosen = protocol(request.protocol, request.tolerance)
    cases = _chosen(find_cases(request.data), request.cases)
    _check_places(request)
    plan = Plan(chosen, request.seed, request.least_voxels, request.labels)
    names, own = request.models or DEFAULT_METHODS, own_weights(request.weights)
    images = f"the images of {len(cases)} cases, voxels and their geometry, no names"
    cluster = nullcontext() if request.cluster is None else joined(request.cluster.address, logs=False)
    with cluster, backend_for(images, request.server, request.device, own) as backend:
        if isinstance(backend, LocalBackend):
            check_weights(read_results(request.output), names, backend)
        _run(request, chosen, cases, plan, methods(names, backend), partial(make_methods, names, own, request.device))


def own_weights(entries: Sequence[str]) -> dict[str, list[Path]]:
    """Weight files by model, from ``NAME=FILE``; InputError for anything else."""
    own: dict[str, list[Path]] = {}
    for entry in entries:
        name, _, file = entry.partition("=")
        if not file:
            raise InputError(f"--weights needs the model's name here: NAME=FILE, not {entry!r}.")
        own.setdefault(name, []).append(Path(file).absolute())
    return own


def make_methods(names: Sequence[str], own: Mapping[str, Sequence[Path]], device: str) -> Mapping[str, Method]:
    """The methods on a backend of their own, which ends with the process."""
    return methods(names, LocalBackend(device, weights=own))


def _run(
    request: Request,
    chosen: Protocol,
    cases: Sequence[Case],
    plan: Plan,
    asked: Mapping[str, Method],
    make: partial[Mapping[str, Method]],
) -> None:
    failed: list[str] = []
    results = _measured(request, cases, asked, plan, make, failed)
    results += kept_beside(read_results(request.output), results, cases, plan)
    if not results and failed:
        raise _not_measured(failed)
    if not results:
        raise InputError(
            f"{request.data} has no structure with {request.least_voxels} voxels or more"
            + (f" among the labels {', '.join(map(str, request.labels))}." if request.labels else ".")
        )
    rows = summarise(results, chosen)
    summary = {**_setting(request, chosen), "rows": as_json(rows)}
    _write(request.output / SUMMARY, json.dumps(summary, indent=1, allow_nan=False) + "\n")
    _write(request.output / TABLE, as_csv(results, chosen))
    pictures = worst_pictures(results, cases, asked) if request.pictures else {}
    title = f"{request.data.resolve().name}: {', '.join(dict.fromkeys(r.method for r in results))}"
    write_report(results, chosen, request.output / REPORT, title=title, remark=request.remark, pictures=pictures)
    _report(request, rows, chosen, results)
    if failed:
        raise _not_measured(failed)


def _measured(
    request: Request,
    cases: Sequence[Case],
    asked: Mapping[str, Method],
    plan: Plan,
    make: partial[Mapping[str, Method]],
    failed: list[str],
) -> list[Result]:
    """Beside this thread, so that Ctrl-C gets through; what was measured until then is kept."""
    cancel = threading.Event()

    def not_done(what: str, why: str) -> None:
        note(f"Note: {what}: {why} The others go on.")
        failed.append(what)

    work = partial(evaluate, cases, asked, plan, request.output)
    if request.cluster is not None:
        elsewhere = partial(evaluate_on_cluster, cases, make, list(asked), plan, request.output, request.cluster)
        work = partial(elsewhere, failed=not_done)
    elif request.jobs is not None and request.jobs > 1:
        work = partial(evaluate_in_processes, cases, make, list(asked), plan, request.output, request.jobs)
    with ThreadPoolExecutor(1) as beside, bar() as progress:
        try:
            return wait(beside.submit(work, cancel=cancel, progress=progress))
        except (KeyboardInterrupt, Cancelled):
            cancel.set()
            note(f"Stopped. The results so far are in {request.output / FILE}; the same command goes on from there.")
            raise


def _check_places(request: Request) -> None:
    if request.jobs is not None and request.jobs < 1:
        raise InputError(f"--jobs has to be 1 or more, not {request.jobs}.")
    if request.server is not None and (request.cluster is not None or request.jobs not in (None, 1)):
        raise InputError("A server does one thing after the other: leave out --cluster and --jobs.")


def _not_measured(failed: Sequence[str]) -> InputError:
    shown = ", ".join(failed[:5]) + (" ..." if len(failed) > 5 else "")
    return InputError(f"{len(failed)} could not be measured ({shown}): the same command tries these again.")


def _setting(request: Request, chosen: Protocol) -> dict[str, object]:
    return {
        "data": str(request.data),
        "protocol": chosen.name,
        "tolerance_mm": chosen.tolerance,
        "seed": request.seed,
        "least_voxels": request.least_voxels,
        "version": __version__,
    }


def _chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    unknown = sorted(set(names) - {case.name for case in cases})
    if unknown:
        known = ", ".join(case.name for case in cases[:10]) + (" …" if len(cases) > 10 else "")
        raise InputError(f"There is no case {unknown[0]!r} (there are: {known}).")
    return [case for case in cases if not names or case.name in names]


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("monai", "matplotlib") if find_spec(name) is None]
    if missing:
        raise InputError(f"Evaluation needs {' and '.join(missing)}: pip install napari-sammed[evaluate].")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None


def _report(request: Request, rows: Sequence[Row], chosen: Protocol, results: Sequence[Result]) -> None:
    overall = [row for row in rows if row.group == "all"]
    if request.as_json:
        say_json({"output": str(request.output), **_setting(request, chosen), "methods": as_json(overall)})
        return
    say(f"{chosen.title}: {len({(r.case, r.label) for r in results})} structures, seed {request.seed}")
    width = max(len(row.method) for row in overall)
    rounds = range(1, chosen.rounds + 1)
    titles = "  ".join(f"Dice {n}" for n in rounds) + "   surface   HD95  to .85  to .90   s first    next"
    say(f"{'':<{width}}  {titles}")
    for row in overall:
        dices = "  ".join(f"{value:6.3f}" for value in row.dice)
        say(
            f"{row.method:<{width}}  {dices}   {row.final_surface_dice:7.3f}  {row.hausdorff_95:5.1f}  {row.to_85:6.1f}"
            f"  {row.to_90:6.1f}   {_seconds(row.first_seconds)} {_seconds(row.next_seconds)}"
        )
        if row.failed:
            note(f"Note: {row.method} refused {row.failed} structures; {request.output / REPORT} says why.")
    say(f"{request.output / REPORT}")


def _seconds(value: float) -> str:
    return f"{value:7.2f}" if math.isfinite(value) else f"{'-':>7}"
