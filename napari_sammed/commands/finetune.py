"""``napari-sammed finetune``: a model learns from images and labels of the user's own."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.commands.terminal import bar, download_bar, note, one_line, say, say_json, wait
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.models import registry, tuned_store
from napari_sammed.models import weights as store
from napari_sammed.models.cards import CARDS
from napari_sammed.training import recipes
from napari_sammed.training.alone import alone
from napari_sammed.training.recipes import Recipe

if TYPE_CHECKING:
    from napari_sammed.backend.base import Progress
    from napari_sammed.training.orders import Order
    from napari_sammed.training.preparing import Prepared
    from napari_sammed.training.runs import Standing
    from napari_sammed.training.tuning import Outcome

_NEEDED = {"lightning_fabric": "lightning-fabric", "matplotlib": "matplotlib", "monai": "monai"}
_MEASURES, _KEPT = 20, 25  # measures of a run; steps between two states on disk, at most
_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_SHOWN = 20  # problems that are listed one by one


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; the fields are its arguments and options."""

    data: Path
    recipe: str
    output: Path
    base: str | None = None
    weights: Path | None = None
    structures: tuple[str, ...] = ()
    steps: int | None = None
    batch: int | None = None
    rate: float | None = None
    settings: tuple[str, ...] = ()
    published: bool = False
    seed: int = 0
    held_out: float = 0.2
    patients: str | None = None
    device: str = "auto"
    devices: int = 1
    cluster: str | None = None
    precision: str = "float32"
    accumulate: int | None = None
    patience: int | None = None
    name: str | None = None
    clean: bool = False
    strict: bool = False
    check_only: bool = False
    as_json: bool = False


def show_recipes(as_json: bool) -> None:
    """The recipes as a table."""
    if as_json:
        shown = ("name", "title", "learns", "bases", "steps", "published_steps")
        say_json({"recipes": [{key: getattr(recipe, key) for key in shown} for recipe in recipes.RECIPES]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "what for", "learns", "begins with", "steps (published)"):
        table.add_column(heading)
    for each in recipes.RECIPES:
        table.add_row(
            each.name, each.title, each.learns, ", ".join(each.bases), f"{each.steps:,} ({each.published_steps:,})"
        )
    Console().print(table)


def run(request: Request) -> None:
    """Check, prepare, learn, measure, write the tuned file and the report.

    Raises
    ------
    InputError
        For everything that the user can put right.
    """
    _check_installed()
    order = _order(request)
    cancel = threading.Event()
    with _stoppable(), alone(order.out), ThreadPoolExecutor(1) as beside, bar() as shown:
        progress = _Ears(request.as_json, shown)
        try:
            found = _prepared(request, order, beside, cancel, progress)
            if request.check_only:
                return
            _say_settings(request, order)
            from napari_sammed.training.tuning import tune

            told = partial(_told, request.as_json)
            outcome = wait(beside.submit(tune, order, found, progress=progress, cancel=cancel, told=told))
            progress("writing the report", 1.0)
            from napari_sammed.training.showing import write_report

            report = wait(beside.submit(write_report, order, found, outcome))
        except (KeyboardInterrupt, Cancelled):
            cancel.set()
            note("Stopping: what was learnt so far is kept.")
            beside.shutdown(wait=True)
            note(f"Stopped. The same command goes on from what is in {order.out}.")
            raise
    _report(request, outcome, report)


class _Ears:
    """Hears what is being done, for people or for programs."""

    def __init__(self, as_json: bool, shown: Progress | None) -> None:
        self._as_json, self._shown = as_json, shown

    def __call__(self, what: str, share: float) -> None:
        if self._as_json:
            _event("progress", text=what, share=round(share, 4))
        if self._shown is not None:
            self._shown(what, share)


def _event(what: str, /, **values: Any) -> None:
    import sys

    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
    say(json.dumps({"event": what, **clean}, allow_nan=False))
    sys.stdout.flush()


def _told(as_json: bool, standing: Standing) -> None:
    """A line for each measure."""
    row = standing.curve[-1]
    if as_json:
        _event("measure", **row)
        return
    loss = "before" if row["step"] == 0 else f"loss {row['loss']:.3f},"
    structures = ", ".join(f"{key} {value:.3f}" for key, value in row.items() if key not in ("step", "loss", "score"))
    note(f"step {int(row['step'])}: {loss} Dice {row['score']:.3f} ({structures})")


@contextmanager
def _stoppable() -> Iterator[None]:
    """What ends programs politely is taken as Ctrl-C."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_installed() -> None:
    missing = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"Training needs {' and '.join(missing)}: pip install 'napari-sammed[train]'.")


def _order(request: Request) -> Order:
    """Everything that can be told wrong before an image is read, the weights of the base among it."""
    chosen = recipes.recipe(request.recipe)
    base = recipes.base_of(chosen, request.base)
    if not request.data.is_dir():
        raise InputError(f"There is no folder {request.data}.")
    name = _name(request)
    changes: dict[str, Any] = dict(_setting(text) for text in request.settings)
    changes |= {key: value for key in ("batch", "rate") if (value := getattr(request, key)) is not None}
    settings = chosen.settings(request.published, changes)
    steps = request.steps or (chosen.published_steps if request.published else chosen.steps)
    if any(each.name == "steps" for each in fields(settings)) and "steps" not in changes and request.steps:
        whole = chosen.published_steps if request.published else chosen.steps
        settings = recipes.with_value(settings, "steps", max(1, round(settings.steps * steps / whole)), chosen.name)
    card = registry.card(base)
    with download_bar(base) as fetched:
        weights = store.obtain(card, request.weights, fetched)
    store.check_sum(weights, card)
    if request.precision not in _PRECISIONS:
        raise InputError(f"--precision is one of {', '.join(_PRECISIONS)}, not {request.precision!r}.")
    from napari_sammed.backend.devices import choose
    from napari_sammed.training.cleaning import Rules
    from napari_sammed.training.orders import Order
    from napari_sammed.training.preparing import Options
    from napari_sammed.training.runs import Run

    choose(request.device)
    every = max(1, steps // _MEASURES)
    wanted = {
        "measure_every": every,
        "keep_every": min(every, _KEPT),
        **chosen.run,
        **({"accumulate": settings.accumulate} if hasattr(settings, "accumulate") else {}),
        **{key: value for key in ("accumulate", "patience") if (value := getattr(request, key)) is not None},
    }
    run = Run(
        request.output.absolute(),
        steps,
        seed=request.seed,
        accelerator=request.device,
        devices=request.devices,
        cluster=request.cluster,
        precision=_PRECISIONS[request.precision],
        **wanted,
    )
    run.check()
    options = Options(
        request.structures,
        request.held_out,
        request.patients,
        request.seed,
        Rules() if request.clean else None,
        request.strict,
    )
    return Order(request.data.absolute(), chosen.name, base, weights.absolute(), name, options, settings, run)


def _name(request: Request) -> str:
    official = {card.name for card in CARDS}
    if request.name is None:
        return tuned_store.free_name(request.output.absolute().name, official)
    tuned_store.check_name(request.name, official)
    return request.name


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InputError(f"--set takes NAME=VALUE, not {text!r}.")
    return name.strip(), value.strip()


def _prepared(
    request: Request, order: Order, beside: ThreadPoolExecutor, cancel: threading.Event, progress: Progress
) -> Prepared:
    """The data; everything that is wrong with them, and what was done, is said before anything is learnt."""
    from napari_sammed.training.orders import begin, prepared

    begin(order)
    found = wait(beside.submit(prepared, order, progress=progress, cancel=cancel))
    if request.as_json:
        for problem in found.problems:
            _event("problem", kind=problem.kind, file=str(problem.file), text=problem.message, fatal=problem.fatal)
        for remark in found.remarks:
            _event("remark", text=remark)
        _event("data", **_plain(found.summary))
    else:
        _say_problems(found)
        for remark in found.remarks:
            note(remark)
        say(_counts(found))
    return found


def _say_problems(found: Prepared) -> None:
    for problem in found.problems[:_SHOWN]:
        note(f"{'Left out' if problem.fatal else 'Note'}: {problem}")
    if len(found.problems) > _SHOWN:
        note(f"And {len(found.problems) - _SHOWN} more problems; the report lists them all.")


def _counts(found: Prepared) -> str:
    train, held = found.material.train, found.material.held_out
    structures = {name for example in (*train, *held) for name in example.names.values()}
    people = len({example.patient for example in train})
    kept = f"{len(held)} are held out to measure with" if held else "none is held out: what is learnt from is measured"
    return (
        f"{len(train)} case{'s' * (len(train) != 1)} of {people} patient{'s' * (people != 1)} to learn from, {kept}; "
        f"structures: {', '.join(sorted(structures))}"
    )


def _plain(values: Any) -> Any:
    return json.loads(json.dumps(values, default=str))


def _say_settings(request: Request, order: Order) -> None:
    chosen: Recipe = recipes.recipe(order.recipe)
    run = order.run
    which = "published" if request.published else "for small data, ours; --published takes the published ones"
    settings = asdict(order.settings)
    if request.as_json:
        _event("settings", recipe=chosen.name, base=order.base, steps=run.steps, settings=_plain(settings))
        return
    said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "steps")
    say(f"{chosen.title}, from {registry.card(order.base).title}: learns {chosen.learns}")
    say(f"{run.steps} steps; settings ({which}): {said}")


def _report(request: Request, outcome: Outcome, report: Path) -> None:
    card = outcome.card
    if request.as_json:
        _event(
            "done",
            model=str(outcome.path),
            before=dict(card.before),
            after=dict(card.after),
            report=str(report),
            steps=outcome.standing.step,
            best_step=outcome.standing.best_step,
        )
        return
    say(f"Mean Dice {card.after['score']:.3f}, before {card.before['score']:.3f} (step {outcome.standing.best_step})")
    for name in (name for name in card.after if name != "score"):
        before = f", before {card.before[name]:.3f}" if name in card.before else ""
        say(f"  {one_line(name)}: {card.after[name]:.3f}{before}")
    say(f"{outcome.path} ({outcome.path.stat().st_size / 1e6:.1f} MB), {report}")
    say(f"To use it: napari-sammed models add {outcome.path}")


def structures_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Names from options that may be repeated and hold several, separated by commas."""
    return tuple(name for text in texts for part in text.split(",") if (name := part.strip()))
