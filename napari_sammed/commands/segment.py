"""``napari-sammed segment``: prompts and an image become a mask file."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.base import Prediction, Progress
from napari_sammed.commands import coordinates
from napari_sammed.commands.common import amount, check_output, check_source, ended, extent, parse_window
from napari_sammed.commands.servers import Server, backend_for, told
from napari_sammed.commands.terminal import bar, note, say, say_json, wait
from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.models import registry
from napari_sammed.prompts import Box, MaskPrompt, Prompt
from napari_sammed.session import AUTO, Session
from napari_sammed.session.actions import ObjectState
from napari_sammed.volume import Volume, read_volume, resample_labels


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; the fields are its arguments and options.

    `refine` is a box, or empty for the part around the mask.
    """

    image: Path
    output: Path
    model: str = AUTO
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    points: Sequence[str] = ()
    negatives: Sequence[str] = ()
    boxes: Sequence[str] = ()
    mask: Path | None = None
    ras: bool = False
    each: bool = False
    mask_index: int | None = None
    propagate: bool = False
    refine: str | None = None
    axis: str | None = None
    window: str | None = None
    frame: int | None = None
    series: str | None = None
    session: Path | None = None
    server: Server | None = None
    as_json: bool = False


@dataclass
class _Tally:
    """Everything that was answered, added up; `chosen` are the objects before they were propagated."""

    answers: list[Prediction] = field(default_factory=list)
    chosen: list[ObjectState] = field(default_factory=list)

    @property
    def reductions(self) -> list[str]:
        return list(dict.fromkeys(sentence for answer in self.answers for sentence in answer.reductions))

    def seconds(self, step: str) -> float:
        return sum(answer.seconds.get(step, 0.0) for answer in self.answers)


def segment(request: Request) -> None:
    """Segment one object, or one for each box, write the mask and say how large it is.

    Raises
    ------
    InputError
        For everything that the user can put right.
    """
    start = time.perf_counter()
    check_output(request.output)
    image = read_volume(request.image, frame=request.frame, series=request.series)
    check_source(request.output, image)
    axis = coordinates.array_axis(request.axis, image.grid)
    prompts = _prompts(request, image)
    closer = coordinates.box(request.refine, image.grid, ras=request.ras) if request.refine else None
    model = _model(request, image, prompts)
    own = {} if request.weights is None else {registry.card(model).name: request.weights}
    source = {"path": str(request.image.absolute()), "frame": request.frame, "series": request.series}
    at = backend_for(told(image), request.server, request.device, own, request.precision)
    with at as backend, bar() as progress:
        window = None if request.window is None else parse_window(request.window)
        session = Session(image, backend, journal=request.session, source=source, window=window)
        with ended(session):
            session.model = model
            tally = _answer(request, session, prompts, axis, closer, progress)
            states = [(session.objects[state.label], state) for state in tally.chosen]
            found = [_describe(state, chosen, _shown(session, state), image.grid) for state, chosen in states]
            session.save(request.output)
    _report(request, image.grid, found, tally, time.perf_counter() - start)


def _answer(
    request: Request,
    session: Session,
    prompts: Sequence[Prompt],
    axis: int | None,
    closer: Box | None,
    progress: Progress | None,
) -> _Tally:
    """Have the session answer all that was asked for; `closer` is the part to look closer at, if one is named."""
    tally = _Tally()
    if request.each:
        first = max(session.objects, default=0)
        tally.answers += wait(session.add_objects(prompts, axis=axis, progress=progress))
        labels = [label for label in session.objects if label > first]
    else:
        for prompt in prompts:  # one after another, as if clicked: the answer does not depend on the machine's haste
            tally.answers.append(wait(session.add(prompt, axis=axis, progress=progress)))
        labels = [] if session.current is None else [session.current]
    for label in labels:
        session.select(label)
        _choose(request, session)
        tally.chosen.append(session.objects[label])
        if request.propagate:
            tally.answers.append(wait(session.propagate(axis=axis, progress=progress)))
        if request.refine is not None:
            tally.answers.append(wait(session.refine(closer, axis=axis, progress=progress)))
    return tally


def _choose(request: Request, session: Session) -> None:
    """Take the reading of the answer that ``--mask-index`` names."""
    state = session.objects[session.current]
    count = max(len(state.readings), 1)
    if request.mask_index is None:
        return
    if not 0 <= request.mask_index < count:
        gave = "one mask only, so it can be 0" if count == 1 else f"{count} masks, 0 (the best) to {count - 1}"
        raise InputError(f"--mask-index {request.mask_index}: the model gave {gave}.")
    session.choose(request.mask_index)


def _model(request: Request, image: Volume, prompts: Sequence[Prompt]) -> str:
    """The model that was named; else one of slices if they are to be walked through, else up to the session.

    Weights without a name belong to the model that the first prompt asks for.
    """
    if request.model == AUTO and prompts and (request.propagate or request.weights is not None):
        return registry.default_for(2 if request.propagate else image.grid.ndim, prompts[0])
    return request.model


def _prompts(request: Request, image: Volume) -> list[Prompt]:
    """Masks first, then boxes, clicks, and clicks on the background, which mean nothing on their own."""
    grid = image.grid
    prompts: list[Prompt] = []
    if request.mask is not None:
        prompts.append(_mask_prompt(request.mask, image))
    prompts += [coordinates.box(text, grid, ras=request.ras) for text in request.boxes]
    prompts += [coordinates.point(text, grid, positive=True, ras=request.ras) for text in request.points]
    if not prompts and not (request.session is not None and request.session.exists()):
        raise InputError("There is nothing to segment from: give a --point, --box or --mask.")
    prompts += [coordinates.point(text, grid, positive=False, ras=request.ras) for text in request.negatives]
    if not prompts and not request.propagate and request.refine is None:
        raise InputError(
            "There is nothing to do: give a --point, --negative, --box or --mask, or --propagate or --refine."
        )
    if request.each and not (prompts and all(isinstance(prompt, Box) for prompt in prompts)):
        raise InputError("--each makes one object of each box: give it boxes only, with --box.")
    return prompts


def _mask_prompt(path: Path, image: Volume) -> MaskPrompt:
    mask = read_volume(path)
    if mask.channels != 1 or mask.grid.ndim != image.grid.ndim:
        raise InputError(f"{path} is no mask for this image: it has the shape {mask.array.shape}.")
    if not mask.grid.same_place(image.grid):
        note(f"Note: {path} lies on another grid than the image and was resampled to it.")
    array = resample_labels(mask, image.grid) > 0
    if not array.any():
        raise InputError(f"The mask {path} has no voxel inside the image.")
    return MaskPrompt(array, (0,) * image.grid.ndim)


def _shown(session: Session, state: ObjectState) -> np.ndarray:
    """The voxels that an object has where others overlap it: a mask of the part of the image around it."""
    if state.mask is None:
        return np.zeros((1,) * session.image.grid.ndim, bool)
    return session.labels(state.mask.extent) == state.label


def _describe(state: ObjectState, chosen: ObjectState, mask: np.ndarray, grid: Grid) -> dict[str, Any]:
    """One object for the report: how large it is, and how sure the model was of it and of its other readings."""
    return {
        "label": state.label,
        "name": state.name,
        **amount(int(np.count_nonzero(mask)), grid),
        **extent(mask, grid),
        "score": _rounded(state.score),
        "mask_index": chosen.reading,
        "scores": [_rounded(score) for score in chosen.readings or (chosen.score,)],
    }


def _report(request: Request, grid: Grid, found: list[dict[str, Any]], tally: _Tally, total: float) -> None:
    last = tally.answers[-1] if tally.answers else None
    voxels = sum(entry["voxels"] for entry in found)
    seconds = {step: round(tally.seconds(step), 3) for step in ("load", "embed", "decode")}
    first = found[0] if len(found) == 1 else {}
    result = {
        "output": str(request.output),
        **amount(voxels, grid),
        "diameter_mm": first.get("diameter_mm"),
        "perpendicular_mm": first.get("perpendicular_mm"),
        "score": first.get("score"),
        "mask_index": first.get("mask_index"),
        "scores": first.get("scores"),
        "model": last.model if last is not None else None,
        "weights_sha256": last.weights_hash or None if last is not None else None,
        "reductions": tally.reductions,
        **({"slice_scores": _slice_scores(tally)} if request.propagate and not request.each else {}),
        "seconds": {**seconds, "total": round(total, 3)},
    }
    if request.each:
        result["objects"] = found
    if voxels == 0:
        note("Note: nothing was found for these prompts; the mask is empty.")
    if request.as_json:
        say_json(result)
        return
    for sentence in tally.reductions:
        note(f"Note: {sentence}")
    if request.mask_index is None and len(result["scores"] or ()) > 1:
        scores = ", ".join("?" if score is None else f"{score:.2f}" for score in result["scores"])
        note(f"Note: there are {len(result['scores'])} readings (scores {scores}); --mask-index takes another one.")
    if request.each:
        for entry in found:
            say(f"{entry['label']} {entry['name']}: {_size(entry, grid)}")
    scored = "" if result["score"] is None else f", score {result['score']:.2f}"
    say(f"{request.output}: {_size(result, grid)}{scored}, {result['model']}, {total:.1f} s")


def _rounded(score: float) -> float | None:
    return None if math.isnan(score) else round(score, 4)


def _slice_scores(tally: _Tally) -> dict[str, float]:
    """Confidence on each slice of the propagation, by its index along the axis; 1 where it began."""
    scores = next((answer.slice_scores for answer in reversed(tally.answers) if answer.slice_scores), {})
    return {str(index): round(score, 4) for index, score in sorted(scores.items())}


def _size(entry: dict[str, Any], grid: Grid) -> str:
    size = f"{entry['volume_ml']:.2f} ml" if grid.ndim == 3 else f"{entry['area_mm2']:.0f} mm²"
    return f"{entry['voxels']:,} voxels, {size}"
