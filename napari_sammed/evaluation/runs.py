"""Runs: a simulated user goes through all structures of all cases with all methods; every result is kept at once.

Results are appended to a file as they come, so that a run that was stopped goes on where it was. What is drawn by lot
depends on the seed, the case and the label only, so neither on the order nor on the methods beside it.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError, ServerError
from napari_sammed.evaluation.cases import Case
from napari_sammed.evaluation.methods import PROPAGATION, Answerer, Method
from napari_sammed.evaluation.metrics import dice, hausdorff_95, surface_dice
from napari_sammed.evaluation.protocols import Protocol
from napari_sammed.evaluation.results import Key, Result, keeping, read_results
from napari_sammed.evaluation.users import Situation
from napari_sammed.geometry import Grid
from napari_sammed.prompts import prompt_to_json
from napari_sammed.volume import Volume, read_volume, resample_labels


@dataclass(frozen=True)
class Plan:
    """What is asked about every case.

    Parameters
    ----------
    protocol : Protocol
    seed : int
    least_voxels : int
        Smaller structures are left out; on the slice that is looked at if the protocol is flat.
    labels : tuple of int
        Only these; empty for all.
    """

    protocol: Protocol
    seed: int = 0
    least_voxels: int = 1
    labels: tuple[int, ...] = ()


def evaluate(
    cases: Sequence[Case],
    methods: Mapping[str, Method],
    plan: Plan,
    folder: Path,
    *,
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Go through everything that has no result in the folder yet; returns all results about these cases.

    Parameters
    ----------
    cases : sequence of Case
    methods : mapping of str to Method
    plan : Plan
    folder : Path
        Of the results; made if it is not there.
    cancel : threading.Event, optional
        Asked between prompts.
    progress : callable, optional

    Raises
    ------
    InputError
        If an image or its labels cannot be read; what was measured so far is kept.
    Cancelled
    """
    known = answered(read_results(folder))
    check = same_weights(known.values())
    wanted: list[Result] = []
    with keeping(folder) as keep:
        for number, case in enumerate(cases):
            for result in results_of(case, methods, plan, known, cancel, _part(progress, number, len(cases))):
                if result.key not in known:
                    check(result)
                    keep(result)
                wanted.append(result)
    return wanted


def _part(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Progress within one of several cases as a part of all of them."""
    return None if progress is None else lambda text, share: progress(text, (number + share) / count)


def answered(results: Sequence[Result]) -> dict[Key, Result]:
    """Results by key, without those that only say why there is none: they are tried again."""
    return {result.key: result for result in results if not result.error}


def kept_beside(kept: Sequence[Result], measured: Sequence[Result], cases: Sequence[Case], plan: Plan) -> list[Result]:
    """What a folder holds of earlier methods about the same cases, with the same plan."""
    names, methods = {case.name for case in cases}, {result.method for result in measured}
    asked = {(result.case, result.label): result for result in measured}
    return [
        replace(result, name=(by := asked[result.case, result.label]).name, modality=by.modality)
        for result in kept
        if result.method not in methods
        and result.case in names
        and (result.case, result.label) in asked
        and (result.protocol, result.seed) == (plan.protocol.name, plan.seed)
    ]


def check_weights(kept: Sequence[Result], names: Sequence[str], backend: LocalBackend) -> None:
    """Refuse to go on where a model of the same name has other weights by now, whose results would be mixed in.

    Raises
    ------
    InputError
    """
    check = same_weights(kept)
    for name in names:
        if any(result.method == name and result.weights for result in kept):
            check(Result("", name, "", 0, "", "", 0, 0, None, weights=backend.load(_model(name)).weights_hash))


def same_weights(kept: Iterable[Result]) -> Callable[[Result], None]:
    """Refuses results of other weights than those before (InputError), which of models elsewhere only answers tell."""
    before: dict[str, set[str]] = {}
    for result in kept:
        if result.weights:
            before.setdefault(result.method, set()).add(result.weights)

    def check(result: Result) -> None:
        if not result.weights:
            return
        known = before.setdefault(result.method, {result.weights})
        if known != {result.weights}:
            raise InputError(
                f"What is kept of {result.method} was measured with other weights ({min(known)[:12]}, now "
                f"{result.weights[:12]}): choose another folder for the results."
            )

    return check


def _model(method: str) -> str:
    return method.removesuffix(PROPAGATION)


def random_of(seed: int, case: str, label: int) -> np.random.Generator:
    """The lot for one structure."""
    return np.random.default_rng([seed, zlib.crc32(case.encode()), label])


def go_through(
    answerer: Answerer,
    target: np.ndarray,
    grid: Grid,
    protocol: Protocol,
    random: np.random.Generator,
    cancel: Cancel | None = None,
) -> dict[str, list[Any]]:
    """One structure with one method: the lists of a `Result`."""
    mask = np.zeros_like(target)
    names = ("dice", "surface_dice", "hausdorff_95", "seconds", "processor_seconds", "prompts")
    lists: dict[str, list[Any]] = {name: [] for name in names}
    answerer.begin()
    for number in range(protocol.rounds):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        rule = protocol.begin if number == 0 else protocol.correct
        prompt = rule(Situation(target, mask, grid), random)
        if prompt is None:
            break
        lists["prompts"].append(prompt_to_json(prompt))
        start, worked = time.perf_counter(), time.process_time()
        mask = answerer.answer(prompt)
        lists["seconds"].append(round(time.perf_counter() - start, 4))
        lists["processor_seconds"].append(round(time.process_time() - worked, 4))
        distance = hausdorff_95(mask, target, grid.spacing)
        lists["dice"].append(round(dice(mask, target), 5))
        lists["surface_dice"].append(round(surface_dice(mask, target, grid.spacing, protocol.tolerance), 5))
        lists["hausdorff_95"].append(round(distance, 4) if math.isfinite(distance) else None)
    for name in ("dice", "surface_dice", "hausdorff_95"):
        lists[name] += lists[name][-1:] * (protocol.rounds - len(lists[name]))
    return lists


def results_of(
    case: Case,
    methods: Mapping[str, Method],
    plan: Plan,
    known: Mapping[Key, Result],
    cancel: Cancel | None = None,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """The results about one case, one after the other; known ones are not measured again.

    Raises
    ------
    InputError
        If the image or its labels cannot be read.
    Cancelled
    """
    image = read_volume(case.image)
    reference = resample_labels(read_volume(case.labels), image.grid)
    questions = list(_questions(case, image, reference, plan))
    for number, (name, method) in enumerate(methods.items()):
        with Opened(image, method) as opened:
            for place, question in enumerate(questions):
                result = replace(question, method=name)
                done = known.get(result.key)
                if done is not None:  # names and modality may be known better by now
                    yield replace(done, name=result.name, modality=result.modality)
                    continue
                if progress is not None:
                    share = (number + place / len(questions)) / len(methods)
                    progress(f"{case.name}: {result.name} with {name}", share)
                target = reference == result.label
                if result.slice is not None:
                    target = target[result.slice]
                try:
                    answerer, grid = opened.at(result.slice)
                    random = random_of(plan.seed, case.name, result.label)
                    lists = go_through(answerer, target, grid, plan.protocol, random, cancel)
                    yield replace(result, **lists, weights=answerer.weights)
                except ServerError:
                    raise  # which has no other answer for the next structure
                except InputError as error:
                    yield replace(result, error=str(error))


def _questions(case: Case, image: Volume, reference: np.ndarray, plan: Plan) -> Iterator[Result]:
    """What is asked about a case: results without method and answers."""
    spacing = image.grid.spacing
    for value in map(int, np.unique(reference)):
        if value <= 0 or value in case.ignored or (plan.labels and value not in plan.labels):
            continue
        target, index = reference == value, None
        if plan.protocol.flat and image.grid.ndim == 3:
            index = int(target.sum(axis=(1, 2)).argmax())
            target = target[index]
        voxels = int(target.sum())
        if voxels < plan.least_voxels:
            continue
        yield Result(
            case.name,
            "",
            plan.protocol.name,
            value,
            case.names.get(value, str(value)),
            case.modality or image.modality or "",
            voxels,
            _size(voxels, spacing[image.grid.ndim - target.ndim :]),
            index,
            seed=plan.seed,
        )


class Opened:
    """An image, or slices of it, opened by a method as they are needed."""

    def __init__(self, image: Volume, method: Method) -> None:
        self._image = image
        self._method = method
        self._answerers: dict[int | None, Answerer] = {}

    def at(self, index: int | None) -> tuple[Answerer, Grid]:
        """What answers about a slice (None: the whole image), and its grid."""
        grid = self._image.grid
        if index is not None:
            grid = Grid.plain(grid.shape[1:], grid.spacing[1:])
        if index not in self._answerers:
            image = self._image
            if index is not None:
                image = Volume(image.array[index], grid, image.name, image.modality)
            self._answerers[index] = self._method(image)
        return self._answerers[index], grid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for answerer in self._answerers.values():
            answerer.close()


def _size(voxels: int, spacing: Sequence[float]) -> float:
    """ml of a volume, mm2 of a flat image."""
    size = voxels * math.prod(spacing)
    return round(size / 1000 if len(spacing) == 3 else size, 4)
