"""What a tuning has come to, for people: a page with curves, figures by structure and pictures of what was held out."""

from __future__ import annotations

import html
import platform
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed import __version__
from napari_sammed.backend.devices import choose
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.evaluation.methods import ModelAnswerer
from napari_sammed.evaluation.plots import changes, learning, picture
from napari_sammed.evaluation.report import STYLE
from napari_sammed.evaluation.runs import Opened
from napari_sammed.geometry import Box
from napari_sammed.models import registry
from napari_sammed.models.base import AutomaticModel
from napari_sammed.prompts import Point
from napari_sammed.training import recipes
from napari_sammed.training.material import Example
from napari_sammed.training.orders import Order
from napari_sammed.training.preparing import Prepared
from napari_sammed.training.samed_slices import class_names
from napari_sammed.training.tuning import Outcome
from napari_sammed.volume import Volume

REPORT = "report.html"
"""In the folder of a run."""

_MOST = 3  # pictures
_BESIDE = "style='display: inline-block; margin-right: 1rem'"


def write_report(order: Order, found: Prepared, outcome: Outcome) -> Path:
    """Write the page; gives its path.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    card = outcome.card
    start = {"step": 0, "loss": float("nan"), **card.before}
    held = bool(found.material.held_out)
    on = "held out" if held else "learnt from, since nothing was held out: these figures say little about other images"
    pictures = [
        f"<figure {_BESIDE}><img alt='{html.escape(caption, quote=True)}' src='{address}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, address in _pictures(order, found, outcome)
    ]
    parts = [
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(card.title)}</title>",
        f"<style>{STYLE}</style></head><body><h1>{html.escape(card.title)}</h1>",
        f"<p>{html.escape(card.summary)} {html.escape(_gain(card.before, card.after))} Dice is of what was {on}.</p>",
        "<h2>By structure</h2>",
        _structures(card.before, card.after, found),
        f"<img alt='Dice before and after' src='{changes(card.before, card.after)}'>",
        "<h2>While it learnt</h2>",
        f"<img alt='Loss and Dice over the steps' src='{learning([start, *outcome.standing.curve])}'>",
        f"<p class='note'>The weights of step {outcome.standing.best_step}, of the highest mean Dice, are kept.</p>",
        *(["<h2>Pictures</h2>", _KEY, *pictures] if pictures else []),
        "<h2>Data</h2>",
        _table(found.summary),
        *_list("Problems", [str(problem) for problem in found.problems]),
        *_list("Remarks", found.remarks),
        "<h2>Settings</h2>",
        _table(
            {"recipe": card.recipe, "base": card.base, "sha256 of its weights": card.base_sha256, "seed": card.seed}
        ),
        _table(card.settings),
        f"<p class='note'>{html.escape(_versions(order))}</p>",
        "</body></html>\n",
    ]
    path = order.out / REPORT
    try:
        path.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None
    return path


_KEY = (
    "<p class='note'>Orange: reference only. Blue: answer only. Green: both. Models that take prompts were given the "
    "box of the reference, or a click in its middle.</p>"
)


def _gain(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    return f"Mean Dice {after['score']:.3f}, before {before['score']:.3f}."


def _structures(before: Mapping[str, float], after: Mapping[str, float], found: Prepared) -> str:
    """A row a structure, with the number of cases that it was learnt from and measured on."""
    lines = ["<table><thead><tr><th>structure</th><th>cases learnt from</th><th>cases measured</th>"]
    lines.append("<th>Dice before</th><th>Dice after</th></tr></thead><tbody>")
    measured = found.material.held_out or found.material.train
    for name in [*(name for name in after if name != "score"), "score"]:
        counts = [
            sum(name in example.names.values() or name == "score" for example in part)
            for part in (found.material.train, measured)
        ]
        figures = [f"{values[name]:.3f}" if name in values else "-" for values in (before, after)]
        shown = "mean" if name == "score" else name
        cells = "".join(f"<td>{cell}</td>" for cell in (*counts, *figures))
        lines.append(f"<tr><th>{html.escape(shown)}</th>{cells}</tr>")
    return "".join([*lines, "</tbody></table>"])


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(str(key)).replace('_', ' ')}</th><td>{html.escape(_said(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items()).replace("_", " ")
    if isinstance(value, list | tuple):
        return "; ".join(map(_said, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return [f"<h2>{title}</h2><ul>", *(f"<li>{html.escape(line)}</li>" for line in dict.fromkeys(lines)), "</ul>"]


def _versions(order: Order) -> str:
    packages = []
    for name in ("torch", "lightning-fabric", "numpy"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return (
        f"napari-sammed {__version__}, {', '.join(packages)}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, device {order.run.accelerator}."
    )


# ---- pictures


def _pictures(order: Order, found: Prepared, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Captions and data addresses: what was there and what the models say now and, where the base can, said before."""
    device = choose({"gpu": "cuda"}.get(order.run.accelerator, order.run.accelerator))
    models = {"after": registry.load_tuned(outcome.path, order.weights, device, config=order.config)}
    if not recipes.recipe(order.recipe).makes and order.config is None:
        models = {"before": registry.load(order.base, order.weights, device), **models}
    backend, classes = (
        LocalBackend(device, models={model.card.name: model for model in models.values()}),
        class_names(found.material),
    )
    try:
        for place, (example, value) in enumerate(_shown(found)):
            for when, model in models.items():
                number = classes.index(example.names[value]) + 1
                target, mask, index = _answered(example, value, number, model, backend)
                dice = 2 * (target & mask).sum() / max(target.sum() + mask.sum(), 1)
                caption = f"Case {place + 1}, {example.names[value]}, {when}: Dice {dice:.3f}"
                yield caption, picture(example.image, target, mask, index)
    finally:
        backend.shutdown()


def _shown(found: Prepared) -> list[tuple[Example, int]]:
    """Structures of cases that were not learnt from: as many different ones as there are pictures."""
    pairs = [(example, value) for example in found.material.held_out or found.material.train for value in example.names]
    chosen: dict[str, tuple[Example, int]] = {}
    for example, value in pairs:
        chosen.setdefault(example.names[value], (example, value))
    return [*chosen.values(), *(pair for pair in pairs if pair not in chosen.values())][:_MOST]


def _answered(
    example: Example, value: int, number: int, model: Any, backend: LocalBackend
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Reference and answer, of a slice (its index along the first axis) or of the whole image; `number` is the class
    of a model without prompts."""
    image, target = example.image, np.asarray(example.labels == value)
    index = int(target.sum((1, 2)).argmax()) if image.grid.ndim == 3 else None
    if isinstance(model, AutomaticModel) and not model.card.prompts:
        part = image.grid.box if index is None else _slice(image, index)
        labels = model.segment(image, part).labels
        mask = (labels == number).reshape(target.shape if index is None else target.shape[1:])
        return (target if index is None else target[index]), mask, index
    if 3 in model.card.dimensions and index is not None:
        prompt: Any = _middle(target) if "box" not in model.card.prompts else Box.of_mask(target)
        with Opened(image, partial(ModelAnswerer, backend=backend, model=model.card.name)) as opened:
            answerer, _ = opened.at(None)
            answerer.begin()
            return target, answerer.answer(prompt), None
    flat = target if index is None else target[index]
    prompt = Box.of_mask(flat) if "box" in model.card.prompts else _middle(flat)
    with Opened(image, partial(ModelAnswerer, backend=backend, model=model.card.name)) as opened:
        answerer, _ = opened.at(index)
        answerer.begin()
        return flat, answerer.answer(prompt), index


def _slice(image: Volume, index: int) -> Box:
    low, high = list(image.grid.box.low), list(image.grid.box.high)
    low[0], high[0] = index, index + 1
    return Box(tuple(low), tuple(high))


def _middle(mask: np.ndarray) -> Point:
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    place = np.unravel_index(int(depth.argmax()), depth.shape)
    return Point(tuple(float(p - 1) for p in place))
