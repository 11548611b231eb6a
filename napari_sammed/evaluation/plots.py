"""Pictures for the report: curves over the prompts, and the worst cases, as PNG files in data addresses."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.evaluation.summary import Row
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.overlay import overlay, slice_overlay
from napari_sammed.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 260  # pixels of a picture
_ROOM = 3.0  # side of what a picture shows, in sizes of what is marked
_LEAST = 0.25  # of the image's longer side, so that one sees where it is

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of the methods, in their order: those of Okabe and Ito, which people with any kind of colour vision tell apart."""


def curves(rows: Sequence[Row], tolerance: float) -> str:
    """Mean Dice and surface Dice after each prompt, a line a method."""
    figure = _figure(9, 3.2)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, field, title in (
        (axes[0], "dice", "Dice"),
        (axes[1], "surface_dice", f"Surface Dice at {tolerance:g} mm"),
    ):
        for row, colour in zip(rows, COLOURS * len(rows), strict=False):
            values = getattr(row, field)
            axis.plot(range(1, len(values) + 1), values, "o-", color=colour, label=row.method)
        axis.set(xlabel="Prompts", title=title, ylim=(0, 1))
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(loc="lower right", fontsize=8)
    return _address(figure)


def bars(rows: Sequence[Row]) -> str:
    """Final Dice of each structure, a bar a method."""
    names = list(dict.fromkeys(row.value for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    values: Mapping[tuple[str, str], float] = {(row.value, row.method): row.final_dice for row in rows}
    height = 0.8 / max(len(methods), 1)
    figure = _figure(9, 1.0 + 0.1 * len(names) * (1 + len(methods)))
    axis = figure.subplots()
    for number, (method, colour) in enumerate(zip(methods, COLOURS * len(methods), strict=False)):
        places = np.arange(len(names)) + number * height
        axis.barh(places, [values.get((name, method), np.nan) for name in names], height, color=colour, label=method)
    axis.set_yticks(np.arange(len(names)) + 0.4 - height / 2, [_short(name) for name in names], fontsize=7)
    axis.set(xlim=(0, 1), xlabel="Dice")
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=max(len(methods), 1), fontsize=8, frameon=False)
    return _address(figure)


def learning(curve: Sequence[Mapping[str, float]]) -> str:
    """Loss and Dice over the steps of a training, from rows with "step", "loss", "score" and Dices by structure."""
    figure = _figure(9, 3.2)
    loss, dice = figure.subplots(1, 2)
    learnt = [row for row in curve if np.isfinite(row["loss"])]
    loss.plot([row["step"] for row in learnt], [row["loss"] for row in learnt], ".-", color=COLOURS[0])
    loss.set(xlabel="Step", title="Loss (smoothed)")
    names = [
        name for name in dict.fromkeys(key for row in curve for key in row) if name not in ("step", "loss", "score")
    ]
    for name, colour in zip(names[: len(COLOURS)], COLOURS, strict=False):
        there = [row for row in curve if name in row]
        dice.plot(
            [row["step"] for row in there], [row[name] for row in there], "-", lw=1, color=colour, label=_short(name)
        )
    dice.plot([row["step"] for row in curve], [row["score"] for row in curve], "k.-", lw=2, label="mean")
    dice.set(xlabel="Step", title="Dice", ylim=(0, 1))
    dice.legend(fontsize=7)
    for axis in (loss, dice):
        axis.grid(alpha=0.3)
    return _address(figure)


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Dice of each structure before and after a training, a pair of bars a structure."""
    names = [name for name in after if name != "score"]
    figure = _figure(9, 1.2 + 0.3 * len(names))
    axis = figure.subplots()
    places = np.arange(len(names))
    for offset, values, colour, label in ((0, before, "#bbbbbb", "before"), (0.4, after, COLOURS[0], "after")):
        axis.barh(places + offset, [values.get(name, np.nan) for name in names], 0.38, color=colour, label=label)
    axis.set_yticks(places + 0.2, [_short(name) for name in names], fontsize=8)
    axis.set(xlim=(0, 1), xlabel="Dice on what was held out")
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    return _address(figure)


def picture(image: Volume, target: np.ndarray, mask: np.ndarray, index: int | None = None) -> str:
    """The reference (orange) and an answer (blue; green where both agree) on an image, with what is around them.

    Parameters
    ----------
    image : Volume
    target, mask : ndarray of bool
        Of the image's shape, or of that of the slice.
    index : int, optional
        Of the slice across the first axis that they are about.
    """
    from PIL import Image

    labels = target.astype(np.uint8) + 2 * mask.astype(np.uint8)
    window = _seen_whole(image)
    image, labels = _near(image, labels)
    if index is None:
        drawn = overlay(image, labels, window=window, height=_HEIGHT)
    else:
        drawn = slice_overlay(image, index, labels, window=window, height=_HEIGHT)
    buffer = io.BytesIO()
    Image.fromarray(drawn).quantize(128).save(buffer, "PNG", optimize=True)
    return _as_address(buffer)


def _near(image: Volume, labels: np.ndarray) -> tuple[Volume, np.ndarray]:
    """The part of an image in which something is marked, and the marks in it; `labels` may be those of one slice."""
    if not labels.any():
        return image, labels
    first = image.grid.ndim - labels.ndim
    marked, spacing = Box.of_mask(labels), image.grid.spacing[first:]
    sizes = [size * step for size, step in zip(marked.shape, spacing, strict=True)]
    side = max(_ROOM * max(sizes), _LEAST * max(n * step for n, step in zip(labels.shape, spacing, strict=True)))
    low, high = [0] * first, list(image.grid.shape[:first])
    for start, stop, step, whole in zip(marked.low, marked.high, spacing, labels.shape, strict=True):
        wide = min(math.ceil(side / step), whole)
        low.append(min(max((start + stop - wide) // 2, 0), whole - wide))
        high.append(low[-1] + wide)
    box = Box(tuple(low), tuple(high))
    return Volume(image.part(box), image.grid.crop(box)), labels[box.slices[first:]]


def _seen_whole(image: Volume) -> Window | None:
    """A window with which a part of an image looks as it does in the whole."""
    low, high = Window.auto(image).limits(image)
    return Window.displayed(low, high) if low < high else None


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:31]}…"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")  # without pyplot, which would choose a GUI
    FigureCanvasAgg(figure)
    return figure


def _address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _as_address(buffer)


def _as_address(buffer: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
