"""From a folder of images and labels to a tuned file and a report: the whole way, to be stopped and gone on with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_sammed import __version__
from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.backend.devices import choose
from napari_sammed.errors import Cancelled
from napari_sammed.models import registry, sums, tuned
from napari_sammed.models.tuned import TunedCard
from napari_sammed.training import launching, orders, recipes
from napari_sammed.training.orders import Order
from napari_sammed.training.preparing import Prepared
from napari_sammed.training.runs import Standing, Told, best_of
from napari_sammed.training.samed_slices import class_names

if TYPE_CHECKING:
    from napari_sammed.training.fitting import Task

BEFORE = "before.json"
"""In the folder of a run: how good the base was."""


@dataclass(frozen=True)
class Outcome:
    """What a tuning has come to.

    Parameters
    ----------
    path : Path
        The tuned file.
    card : TunedCard
        With the figures before and after.
    standing : Standing
        Of the run.
    """

    path: Path
    card: TunedCard
    standing: Standing


def tune(
    order: Order,
    found: Prepared,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    told: Told | None = None,
) -> Outcome:
    """Measure, learn, measure again, and write the tuned file; what was done before is not done again.

    Parameters
    ----------
    order : Order
    found : Prepared
        From `orders.prepared`.
    progress, cancel, told
        As for `napari_sammed.training.fitting.fit`; `told` also of the measure before, at step 0.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the folder is about something else, or learning goes wrong.
    Cancelled
        What was learnt is kept: the same order goes on.
    """
    say = progress or (lambda what, share: None)
    device = choose({"gpu": "cuda"}.get(order.run.accelerator, order.run.accelerator))
    orders.begin(order)
    orders.keep_parts(order, found)
    say("measuring before", 0.0)
    task = orders.make_task(order, found)
    before: dict[str, float] = {}
    if not order.run.measure_first:
        before = _before(order, task, device)
        _check(cancel)
        if told is not None:
            told(Standing(curve=[{"step": 0, "loss": math.nan, **before}]))
    make = (
        partial(_given, task)
        if order.run.devices == 1 and order.run.cluster is None
        else partial(orders.make_task, order)
    )
    standing = launching.run(make, order.run, progress=progress, cancel=cancel, told=told)
    say("measuring after", 1.0)
    before = before or {key: value for key, value in standing.curve[0].items() if key not in ("step", "loss")}
    path = order.out / f"{order.name}{tuned.SUFFIX}"
    tensors = best_of(order.out)
    task.network.load_state_dict(tensors, strict=False)
    after = measured(task, device)
    _check(cancel)
    written = tuned.write(path, tensors, _card(order, found, before, after, task))
    return Outcome(path, written, standing)


def measured(task: Task, device: str) -> dict[str, float]:
    """How good a network is as it stands, in single precision."""
    network = task.network.to(device)
    network.eval()
    with torch.no_grad():
        return dict(task.measure(torch.device(device)))


def title_of(structures: Sequence[str], model: str) -> str:
    """As people call a model that was tuned for some structures."""
    shown = ", ".join(structures[:3]) + (", …" if len(structures) > 3 else "")
    return f"{shown[:1].upper()}{shown[1:]} ({registry.card(model).title})"


def _given(task: Task) -> Task:
    return task


def _before(order: Order, task: Task, device: str) -> dict[str, float]:
    """The measures of the base, which are taken once."""
    path = order.out / BEFORE
    try:
        return {str(key): float(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        before = measured(task, device)
    orders.write_whole(path, json.dumps(before) + "\n")
    return before


def _check(cancel: Cancel | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled


def _card(
    order: Order, found: Prepared, before: Mapping[str, float], after: Mapping[str, float], task: Task
) -> TunedCard:
    chosen = recipes.recipe(order.recipe)
    model = chosen.makes or order.base
    structures = tuple(map(_plain, class_names(found.material)))
    title = title_of(structures, model)
    config: dict[str, int | bool] = {}
    settings = {**asdict(order.settings), **_of_run(order), **_as_seen(task)}
    if chosen.network:
        config = {"num_classes": len(structures), "rank": order.settings.rank}
    return TunedCard(
        name=order.name,
        title=title[:200],
        summary=f"{registry.card(model).title}, tuned for {', '.join(structures)}"[:400] + ".",
        model=model,
        base=order.base,
        base_sha256=sums.sha256_of(order.weights),
        network=chosen.network,
        config=config,
        recipe=order.recipe,
        settings=settings,
        classes=structures,
        data=_plain_all(dict(found.summary)),
        before={_plain(name): value for name, value in before.items()},
        after={_plain(name): value for name, value in after.items()},
        seed=order.run.seed,
        version=__version__,
        date=date.today().isoformat(),
        sum="0" * 64,
    )


def _plain(text: str) -> str:
    """A name of a structure as a card can have it."""
    return "".join(letter if letter.isprintable() and letter != "<" else "_" for letter in text)[:100]


def _plain_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(str(key)): _plain_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_all(each) for each in value]
    return _plain(value) if isinstance(value, str) else value


def _of_run(order: Order) -> dict[str, Any]:
    run = order.run
    return {
        "run_steps": run.steps,
        "accumulate": run.accumulate,
        "devices": run.devices,
        "precision": run.precision,
        "clip": run.clip,
        "average": run.average,
        "patience": run.patience,
    }


def _as_seen(task: Task) -> dict[str, Any]:
    """How images were seen, where the task says so (SAMed)."""
    window = getattr(task, "window", None)
    return {} if window is None else {"window": window.kind}
