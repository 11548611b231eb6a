"""The report of a run: one HTML page that needs no network, with tables, curves and the worst cases as pictures."""

from __future__ import annotations

import html
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_sammed.evaluation.cases import Case
from napari_sammed.evaluation.methods import Method
from napari_sammed.evaluation.plots import bars, curves, picture
from napari_sammed.evaluation.protocols import Protocol
from napari_sammed.evaluation.results import Result
from napari_sammed.evaluation.summary import GROUPS, Row, summarise
from napari_sammed.prompts import prompt_from_json
from napari_sammed.volume import Volume, read_volume, resample_labels

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-size: 13px; }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
th { background: #f3f3f3; position: sticky; top: 0; }
img { max-width: 100%; }
figure { margin: 0 0 1rem; } figcaption { font-size: 13px; }
.note { color: #555; font-size: 13px; }
"""
_WORST = 6


def write_report(
    results: Sequence[Result],
    protocol: Protocol,
    path: Path,
    *,
    title: str,
    pictures: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page.

    Parameters
    ----------
    results : sequence of Result
    protocol : Protocol
    path : Path
    title : str
    pictures : sequence of (str, str)
        Caption and data address of each; see `worst_pictures`.
    """
    rows = summarise(results, protocol)
    overall = [row for row in rows if row.group == "all"]
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(protocol.title)}. {html.escape(protocol.source)}</p>",
        f"<p class='note'>{html.escape(_setting(results))}</p>",
        "<h2>Methods</h2>",
        _table(overall, "", protocol),
        f"<img alt='Dice and surface Dice after each prompt' src='{curves(overall, protocol.tolerance)}'>",
    ]
    for group in GROUPS:
        if group != "all":
            part = [row for row in rows if row.group == group]
            parts += [f"<h2>By {group}</h2>", _table(part, group, protocol)]
            if group == "structure":
                parts.append(f"<img alt='Dice by structure' src='{bars(part)}'>")
    if pictures:
        parts.append("<h2>Where it went worst</h2><p class='note'>Orange: reference. Blue: answer. Green: both.</p>")
        parts += [
            f"<figure><img alt='' src='{address}'><figcaption>{html.escape(caption)}</figcaption></figure>"
            for caption, address in pictures
        ]
    errors = [result for result in results if result.error]
    if errors:
        lines = (f"{r.case}, {r.name}, {r.method}: {r.error}" for r in errors)
        parts += ["<h2>Refused</h2><ul>", *(f"<li>{html.escape(line)}</li>" for line in lines), "</ul>"]
    parts.append("</body></html>\n")
    path.write_text("\n".join(parts), encoding="utf-8")


def worst_pictures(
    results: Sequence[Result], cases: Sequence[Case], methods: Mapping[str, Method], count: int = _WORST
) -> list[tuple[str, str]]:
    """Pictures of the structures with the lowest final Dice, asked again with the prompts that were kept.

    Parameters
    ----------
    results : sequence of Result
    cases : sequence of Case
        Where the images are.
    methods : mapping of str to Method
    count : int
        Pictures at most.

    Returns
    -------
    list of (str, str)
        Caption and data address.
    """
    known = {case.name: case for case in cases}
    good = [r for r in results if r.dice and r.case in known and r.method in methods]
    pictures = []
    for result in sorted(good, key=lambda r: r.dice[-1])[:count]:
        image, target = _of(result, known[result.case])
        answerer = methods[result.method](image)
        mask = np.zeros_like(target)
        answerer.begin()
        for prompt in result.prompts:
            mask = answerer.answer(prompt_from_json(prompt))
        answerer.close()
        caption = f"{result.case}, {result.name}, {result.method}: Dice {result.dice[-1]:.3f}"
        pictures.append((caption, picture(image, target, mask)))
    return pictures


def _of(result: Result, case: Case) -> tuple[Volume, np.ndarray]:
    """The image or slice that a result is about, and its target."""
    image = read_volume(case.image)
    target = resample_labels(read_volume(case.labels), image.grid) == result.label
    if result.slice is None:
        return image, target
    from napari_sammed.geometry import Grid

    flat = Grid.plain(image.grid.shape[1:], image.grid.spacing[1:])
    return Volume(image.array[result.slice], flat, image.name, image.modality), target[result.slice]


def _setting(results: Sequence[Result]) -> str:
    cases, seeds = {result.case for result in results}, sorted({result.seed for result in results})
    return (
        f"{len(cases)} cases, {len({(r.case, r.label) for r in results})} structures, seed "
        f"{', '.join(map(str, seeds))}. {platform.system()} {platform.machine()}, Python {platform.python_version()}. "
        "Seconds include everything between a prompt and its mask; they depend on the machine and on what else it did."
    )


def _table(rows: Sequence[Row], group: str, protocol: Protocol) -> str:
    rounds = max((len(row.dice) for row in rows), default=0)
    shown = [n for n in (1, 3, 5, rounds) if n <= rounds]
    shown = list(dict.fromkeys(shown))
    final = "best" if protocol.best else "final"
    titles = [
        "method", *([group] if group else []), "structures", *(f"Dice {n}" for n in shown), f"{final} Dice",
        "area Dice", f"{final} surface Dice", "HD95 mm", "prompts to .85", "to .90", "reach .90", "first s", "next s",
    ]  # fmt: skip
    lines = ["<table><thead><tr>", *(f"<th>{html.escape(t)}</th>" for t in titles), "</tr></thead><tbody>"]
    for row in rows:
        count = f"{row.count}" + (f" (+ {row.failed} refused)" if row.failed else "")
        cells = [
            row.method, *([row.value] if group else []), count,
            *(_number(row.dice[n - 1] if len(row.dice) >= n else math.nan) for n in shown),
            _number(row.final_dice), _number(row.dice_auc), _number(row.final_surface_dice),
            _number(row.hausdorff_95, 1), _number(row.to_85, 1), _number(row.to_90, 1), _number(row.reached_90, 2),
            _number(row.first_seconds, 2), _number(row.next_seconds, 2),
        ]  # fmt: skip
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "".join([*lines, "</tbody></table>"])


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
