"""The report of a run: one HTML page that needs no network, with tables, curves and the worst cases as pictures."""

from __future__ import annotations

import html
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from napari_sammed import __version__
from napari_sammed.evaluation.cases import Case
from napari_sammed.evaluation.methods import Method
from napari_sammed.evaluation.plots import bars, curves, picture
from napari_sammed.evaluation.protocols import Protocol
from napari_sammed.evaluation.results import Result
from napari_sammed.evaluation.runs import Opened
from napari_sammed.evaluation.summary import AREAS, GROUPS, SIZES, Row, summarise
from napari_sammed.prompts import prompt_from_json
from napari_sammed.volume import read_volume, resample_labels

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-size: 13px; }
th, td { padding: 0.15rem 0.55rem; text-align: right; border-bottom: 1px solid #e6e6e6; }
thead th { background: #f3f3f3; position: sticky; top: 0; vertical-align: bottom; }
tbody th { font-weight: normal; text-align: left; white-space: nowrap; vertical-align: top; }
thead th:first-child, .grouped thead th:nth-child(2) { text-align: left; }
tr.first td, tr.first th { border-top: 1px solid #aaa; }
img { max-width: 100%; }
figure { margin: 0 0 1rem; } figcaption { font-size: 13px; }
.note { color: #555; font-size: 13px; }
"""
_OVERALL_ONLY = ("area surface Dice", "reach .85", "reach .90", "first CPU s")
WORST = 3
"""Pictures of each method."""


def write_report(
    results: Sequence[Result],
    protocol: Protocol,
    path: Path,
    *,
    title: str,
    remark: str = "",
    pictures: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    results : sequence of Result
    protocol : Protocol
    path : Path
    title : str
    remark : str
        Something to know about the data; a paragraph near the top.
    pictures : mapping of str to sequence of (str, str), optional
        For each method caption and data address; see `worst_pictures`.
    """
    rows = summarise(results, protocol)
    overall = [row for row in rows if row.group == "all"]
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(protocol.title)}. {html.escape(protocol.source)}</p>",
        *([f"<p>{html.escape(remark)}</p>"] if remark else []),
        f"<p class='note'>{html.escape(_setting(results, protocol))}</p>",
        "<h2>Methods</h2>",
        _overall(overall, protocol),
        *_fair(results, protocol),
    ]
    for group in GROUPS:
        if group != "all":
            part = [row for row in rows if row.group == group]
            parts += [f"<h2>By {group}</h2>", _grouped(part, group, protocol)]
            if group == "structure":
                parts.append(f"<img alt='Dice by structure' src='{bars(part)}'>")
    if pictures:
        parts.append(
            "<h2>Where it went worst</h2><p class='note'>The lowest last Dice of each method. Orange: reference only. "
            "Blue: answer only. Green: both. A anterior, P posterior, S superior, I inferior, R and L the patient's "
            "right and left.</p>"
        )
    for method, shown in (pictures or {}).items():
        parts.append(f"<h3>{html.escape(method)}</h3><div class='worst'>")
        parts += [
            f"<figure><img alt='{html.escape(caption, quote=True)}' src='{address}'>"
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for caption, address in shown
        ]
        parts.append("</div>")
    errors = [result for result in results if result.error]
    if errors:
        lines = (f"{r.case}, {r.name}, {r.method}: {r.error}" for r in errors)
        parts += ["<h2>Refused</h2><ul>", *(f"<li>{html.escape(line)}</li>" for line in lines), "</ul>"]
    parts.append("</body></html>\n")
    path.write_text("\n".join(parts), encoding="utf-8")


def worst_pictures(
    results: Sequence[Result], cases: Sequence[Case], methods: Mapping[str, Method], count: int = WORST
) -> dict[str, list[tuple[str, str]]]:
    """Pictures of each method's lowest final Dices, of structures that are asked again with the prompts that were kept.

    Parameters
    ----------
    results : sequence of Result
    cases : sequence of Case
        Where the images are.
    methods : mapping of str to Method
    count : int
        Pictures of each method at most.

    Returns
    -------
    dict of str to list of (str, str)
        Caption and data address by method, the lowest Dice first.
    """
    known = {case.name: case for case in cases}
    pictures = {}
    for name, method in methods.items():
        good = [r for r in results if r.method == name and r.dice and r.case in known]
        worst = sorted(good, key=lambda r: r.dice[-1])[:count]
        shown: dict[int, tuple[str, str]] = {}
        for case in dict.fromkeys(result.case for result in worst):  # an image is read and encoded once
            wanted = {place: result for place, result in enumerate(worst) if result.case == case}
            shown |= _drawn(known[case], wanted, method)
        if shown:
            pictures[name] = [shown[place] for place in sorted(shown)]
    return pictures


def _drawn(case: Case, wanted: Mapping[int, Result], method: Method) -> dict[int, tuple[str, str]]:
    """Captions and pictures of some results about one case."""
    image = read_volume(case.image)
    reference = resample_labels(read_volume(case.labels), image.grid)
    shown = {}
    with Opened(image, method) as opened:
        for place, result in wanted.items():
            target = reference == result.label
            if result.slice is not None:
                target = target[result.slice]
            answerer, _ = opened.at(result.slice)
            mask = np.zeros_like(target)
            answerer.begin()
            for prompt in result.prompts:
                mask = answerer.answer(prompt_from_json(prompt))
            caption = f"{result.case}, {result.name}: Dice {result.dice[-1]:.3f} after {len(result.prompts)} prompts"
            shown[place] = caption, picture(image, target, mask, result.slice)
    return shown


def _setting(results: Sequence[Result], protocol: Protocol) -> str:
    cases, seeds = {result.case for result in results}, sorted({result.seed for result in results})
    structures, least = {(r.case, r.label) for r in results}, min(r.voxels for r in results)
    return (
        f"{len(cases)} case{'s' * (len(cases) != 1)}, {len(structures)} structures of {least} voxels or more, protocol "
        f"{protocol.name}, seed {', '.join(map(str, seeds))}. napari-sammed {__version__}, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}. Seconds include everything between a prompt and "
        "its mask; they depend on the machine and on what else it did. CPU seconds are those that the program itself "
        "was at work."
    )


def _fair(results: Sequence[Result], protocol: Protocol) -> list[str]:
    """The curves; where methods have answered different structures, over those of all, with a table of these."""
    answered: dict[str, set[tuple[str, int]]] = {}
    for result in results:
        answered.setdefault(result.method, set()).update([(result.case, result.label)] if result.dice else [])
    common = set.intersection(*answered.values())
    parts = []
    rows = [row for row in summarise(results, protocol) if row.group == "all"]
    if common and any(found != common for found in answered.values()):
        same = [result for result in results if (result.case, result.label) in common]
        rows = [row for row in summarise(same, protocol) if row.group == "all"]
        count = f"{len(common)} structure{'s' * (len(common) != 1)}"
        parts = [f"<h2>On the {count} that all methods answered</h2>", _overall(rows, protocol)]
    curve = curves(rows, protocol.tolerance)
    return [*parts, f"<img alt='Dice and surface Dice after each prompt' src='{curve}'>"]


def _overall(rows: Sequence[Row], protocol: Protocol) -> str:
    """A row a method, with everything."""
    columns = _columns(rows, protocol)
    lines = [_head(["method", *columns])]
    for row in rows:
        cells = [_cell(row.method, "th"), *(_cell(read(row)) for read in columns.values())]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table>"])


def _grouped(rows: Sequence[Row], group: str, protocol: Protocol) -> str:
    """The methods beneath each other for each value of a group, with what can be compared there."""
    columns = {title: read for title, read in _columns(rows, protocol).items() if title not in _OVERALL_ONLY}
    lines = [_head([group, "method", *columns], "grouped")]
    values: dict[str, list[Row]] = {}
    for row in rows:
        values.setdefault(row.value, []).append(row)
    for value in sorted(values, key=_rank) if group == "size" else values:
        for place, row in enumerate(values[value]):
            first = [_cell(value, "th", rows=len(values[value]))] if place == 0 else []
            cells = [*first, _cell(row.method, "th"), *(_cell(read(row)) for read in columns.values())]
            lines.append(f"<tr{' class=first' if place == 0 else ''}>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table>"])


def _columns(rows: Sequence[Row], protocol: Protocol) -> dict[str, Callable[[Row], str]]:
    """Titles, and what is read from a row."""
    rounds = max((len(row.dice) for row in rows), default=0)
    shown = dict.fromkeys(n for n in (1, 3, 5, rounds) if n < rounds + protocol.best)  # the last one is the final one
    final = "best" if protocol.best else "final"
    return {
        "structures": lambda row: f"{row.count}" + (f" (+ {row.failed} refused)" if row.failed else ""),
        **{f"Dice {n}": partial(_dice, n=n) for n in shown},
        f"{final} Dice": lambda row: _number(row.final_dice),
        "area Dice": lambda row: _number(row.dice_auc),
        f"{final} surface Dice": lambda row: _number(row.final_surface_dice),
        "area surface Dice": lambda row: _number(row.surface_dice_auc),
        "HD95 mm": lambda row: _number(row.hausdorff_95, 1),
        "prompts to .85": lambda row: _number(row.to_85, 1),
        "to .90": lambda row: _number(row.to_90, 1),
        "reach .85": lambda row: _number(row.reached_85, 2),
        "reach .90": lambda row: _number(row.reached_90, 2),
        "first s": lambda row: _number(row.first_seconds, 2),
        "next s": lambda row: _number(row.next_seconds, 2),
        "first CPU s": lambda row: _number(row.first_processor_seconds, 2),
        "next CPU s": lambda row: _number(row.next_processor_seconds, 2),
    }


def _dice(row: Row, n: int) -> str:
    return _number(row.dice[n - 1] if len(row.dice) >= n else math.nan)


def _rank(size: str) -> int:
    """The smallest size class first."""
    return [name for _, name in (*SIZES, *AREAS)].index(size)


def _head(titles: Sequence[str], kind: str = "overall") -> str:
    cells = "".join(_cell(title, "th") for title in titles)
    return f"<table class={kind}><thead><tr>{cells}</tr></thead><tbody>"


def _cell(text: str, kind: str = "td", rows: int = 1) -> str:
    return f"<{kind}{f' rowspan={rows}' if rows > 1 else ''}>{html.escape(text)}</{kind}>"


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
