"""Tables from results: a row a method, and for each method a row a structure, size class and modality."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from napari_sammed.evaluation.metrics import area_under_curve, interactions_to
from napari_sammed.evaluation.protocols import Protocol
from napari_sammed.evaluation.results import Result

SIZES = ((1.0, "under 1 ml"), (10.0, "1 to 10 ml"), (100.0, "10 to 100 ml"), (float("inf"), "100 ml and more"))
AREAS = ((100.0, "under 1 cm²"), (1000.0, "1 to 10 cm²"), (float("inf"), "10 cm² and more"))

GROUPS: Mapping[str, Callable[[Result], str]] = {
    "all": lambda result: "all",
    "structure": lambda result: result.name,
    "size": lambda result: size_class(result),
    "modality": lambda result: result.modality or "not stated",
}


@dataclass(frozen=True)
class Row:
    """The mean over the structures of a group with one method.

    Parameters
    ----------
    method, group, value : str
        `group` is a key of `GROUPS`, `value` what its structures have in common.
    count, failed : int
        Structures that were measured, and such that a method refused.
    dice, surface_dice : tuple of float
        Means after 1, 2, ... prompts.
    final_dice, final_surface_dice : float
        Of the last round, or of the best one where the protocol says so.
    dice_auc, surface_dice_auc : float
        Area under the curve over the rounds that the protocol counts, 0..1, or undivided where it says so.
    hausdorff_95 : float
        Median of the last round, mm, over the structures where a mask was found; NaN if there are none.
    to_85, to_90 : float
        Prompts to a Dice of 0.85 and 0.90; one more than the protocol's rounds where that was not reached.
    reached_85, reached_90 : float
        Share of the structures that got there.
    first_seconds, next_seconds : float
        Median of the first and of the further prompts; NaN if there are none.
    first_processor_seconds, next_processor_seconds : float
        The same of the processor's seconds.
    """

    method: str
    group: str
    value: str
    count: int
    failed: int
    dice: tuple[float, ...]
    surface_dice: tuple[float, ...]
    final_dice: float
    final_surface_dice: float
    dice_auc: float
    surface_dice_auc: float
    hausdorff_95: float
    to_85: float
    to_90: float
    reached_85: float
    reached_90: float
    first_seconds: float
    next_seconds: float
    first_processor_seconds: float
    next_processor_seconds: float


def size_class(result: Result) -> str:
    """How large a structure is: by volume, on flat images by area."""
    flat = result.slice is not None or all(len(_place(p)) == 2 for p in result.prompts[:1])
    return next(name for limit, name in (AREAS if flat else SIZES) if result.volume < limit)


def summarise(results: Sequence[Result], protocol: Protocol) -> list[Row]:
    """Rows by group, method and value, in the order in which they first come."""
    rows = []
    for group, value_of in GROUPS.items():
        parts: dict[tuple[str, str], list[Result]] = {}
        for result in results:
            parts.setdefault((value_of(result), result.method), []).append(result)
        rows += [_row(part, protocol, group, value) for (value, _), part in parts.items()]
    return rows


def area(values: Sequence[float], protocol: Protocol) -> float:
    """Area under a curve over the rounds that a protocol counts."""
    return area_under_curve(values[protocol.skipped :], undivided=protocol.undivided)


def as_csv(results: Sequence[Result], protocol: Protocol) -> str:
    """One line a structure and method: areas, prompts to a Dice, then each metric after each prompt."""
    rounds = max((len(result.dice) for result in results), default=0)
    names = ("case", "method", "protocol", "seed", "label", "name", "modality", "voxels", "volume", "slice", "error")
    metrics = ("dice", "surface_dice", "hausdorff_95", "seconds", "processor_seconds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    summed = ("dice_auc", "surface_dice_auc", "to_85", "to_90")
    writer.writerow([*names, *summed, *(f"{metric}_{n + 1}" for metric in metrics for n in range(rounds))])
    for result in results:
        lists = [getattr(result, metric) for metric in metrics]
        areas = [round(area(values, protocol), 5) if values else "" for values in (result.dice, result.surface_dice)]
        reached = ["" if (n := interactions_to(result.dice, target)) is None else n for target in (0.85, 0.90)]
        cells = [values[n] if n < len(values) else "" for values in lists for n in range(rounds)]
        own = ["" if (v := getattr(result, n)) is None else v for n in names]
        writer.writerow([*own, *areas, *reached, *cells])
    return text.getvalue()


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows as plain values; NaN becomes None."""
    return [{name: _plain(value) for name, value in asdict(row).items()} for row in rows]


def _row(results: Sequence[Result], protocol: Protocol, group: str, value: str) -> Row:
    good = [result for result in results if not result.error and result.dice]
    dices = np.array([result.dice for result in good])
    surfaces = np.array([result.surface_dice for result in good])
    pick = np.max if protocol.best else _last
    distances = [result.hausdorff_95[-1] for result in good if result.hausdorff_95[-1] is not None]
    first, later = _medians([result.seconds for result in good])
    first_worked, later_worked = _medians([result.processor_seconds for result in good])
    to = {target: [interactions_to(result.dice, target) for result in good] for target in (0.85, 0.90)}
    return Row(
        method=results[0].method,
        group=group,
        value=value,
        count=len(good),
        failed=len(results) - len(good),
        dice=tuple(dices.mean(0).tolist()) if good else (),
        surface_dice=tuple(surfaces.mean(0).tolist()) if good else (),
        final_dice=_mean([pick(line) for line in dices]),
        final_surface_dice=_mean([pick(line) for line in surfaces]),
        dice_auc=_mean([area(line, protocol) for line in dices]),
        surface_dice_auc=_mean([area(line, protocol) for line in surfaces]),
        hausdorff_95=float(np.median(distances)) if distances else float("nan"),
        to_85=_mean([n or protocol.rounds + 1 for n in to[0.85]]),
        to_90=_mean([n or protocol.rounds + 1 for n in to[0.90]]),
        reached_85=_mean([float(n is not None) for n in to[0.85]]),
        reached_90=_mean([float(n is not None) for n in to[0.90]]),
        first_seconds=first,
        next_seconds=later,
        first_processor_seconds=first_worked,
        next_processor_seconds=later_worked,
    )


def _medians(lists: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of the first ones, and of all others."""
    parts = [seconds[0] for seconds in lists if seconds], [s for seconds in lists for s in seconds[1:]]
    first, later = (float(np.median(part)) if part else float("nan") for part in parts)
    return first, later


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _last(values: np.ndarray) -> float:
    return float(values[-1])


def _place(prompt: Mapping[str, object]) -> Sequence[object]:
    return prompt.get("index") or prompt.get("low") or prompt.get("points", [()])[0]  # type: ignore[index, return-value]


def _plain(value: object) -> object:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
