"""Loss and held-out Dice over the steps, as a picture for the dock; drawn beside the GUI thread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7")
"""Of the structures: those of Okabe and Ito, which people with any kind of colour vision tell apart."""

_NOT_STRUCTURES = ("step", "loss", "score")
_DPI = 96
_NAME = 18  # letters of a name that are shown


def structures_of(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the structures that were measured, in their order."""
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in _NOT_STRUCTURES]


def draw(
    rows: Sequence[Mapping[str, float]], size: tuple[int, int], text: str, ratio: float = 1.0, steps: int = 0
) -> np.ndarray:
    """Loss above, Dice below, each with its axis.

    Parameters
    ----------
    rows : sequence of mapping
        "step", "loss" (NaN for none), "score" and Dice by structure, by step.
    size : tuple of int
        Width and height in pixels of the window.
    text : str
        Colour of axes and words.
    ratio : float
        Pixels of the screen to one of the window.
    steps : int
        Of the whole run; 0 if that is not known.

    Returns
    -------
    ndarray of uint8
        RGBA, (height, width, 4), on nothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((size[0] / _DPI, size[1] / _DPI), _DPI * ratio, facecolor="none", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    loss, dice = figure.subplots(2, 1, sharex=True)
    learnt = [row for row in rows if not math.isnan(row.get("loss", math.nan))]
    loss.plot(*_line(learnt, "loss"), ".-", color=text, lw=1.5)
    loss.set_ylabel("Loss", color=text, fontsize=8)
    names = structures_of(rows)
    if len(names) > 1:
        for name, colour in zip(names, COLOURS, strict=False):
            dice.plot(*_line(rows, name), "-", color=colour, lw=1, label=_short(name))
    dice.plot(*_line(rows, "score"), ".-", color=text, lw=1.8, label="mean" if len(names) != 1 else _short(names[0]))
    dice.set_ylabel("Dice, held out", color=text, fontsize=8)
    dice.set_xlabel("Step", color=text, fontsize=8)
    dice.set_ylim(_floor(rows), 1)
    last = max([steps, *(int(row["step"]) for row in rows)], default=0)
    dice.set_xlim(0, max(last, 1))
    dice.xaxis.get_major_locator().set_params(integer=True)
    if rows:
        dice.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.34), ncols=3, fontsize=7, frameon=False, labelcolor=text
        )
    for axis in (loss, dice):
        axis.set_facecolor("none")
        axis.tick_params(colors=text, labelsize=7)
        axis.grid(color=text, alpha=0.2, lw=0.5)
        for spine in axis.spines.values():
            spine.set_color(text)
            spine.set_alpha(0.4)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def _line(rows: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    there = [row for row in rows if key in row]
    return [row["step"] for row in there], [row[key] for row in there]


def _floor(rows: Sequence[Mapping[str, float]]) -> float:
    """Where the axis of Dice begins: a tenth below the least value, so that changes can be seen."""
    values = [value for row in rows for key, value in row.items() if key not in ("step", "loss")]
    return max(0.0, math.floor(10 * min(values, default=0.1) - 1) / 10)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
