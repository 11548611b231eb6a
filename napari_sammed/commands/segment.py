"""``napari-sammed segment`` and ``replay``: prompts and an image become a mask file."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.local import LocalBackend
from napari_sammed.commands import coordinates
from napari_sammed.commands.terminal import bar, note, say, say_json, wait
from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.history import History
from napari_sammed.intensity import Window
from napari_sammed.journal import read_journal
from napari_sammed.models import registry
from napari_sammed.prompts import MaskPrompt, Prompt
from napari_sammed.records import refill, replay
from napari_sammed.session import AUTO, Session
from napari_sammed.volume import Volume, read_volume, resample_labels, write_mask


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; the fields are its arguments and options."""

    image: Path
    output: Path
    model: str = AUTO
    weights: Path | None = None
    device: str = "auto"
    points: Sequence[str] = ()
    negatives: Sequence[str] = ()
    boxes: Sequence[str] = ()
    mask: Path | None = None
    ras: bool = False
    propagate: bool = False
    axis: str | None = None
    window: str | None = None
    frame: int | None = None
    series: str | None = None
    session: Path | None = None
    as_json: bool = False


@dataclass
class _Tally:
    """Answers to one object's prompts, added up."""

    answers: list[Prediction] = field(default_factory=list)

    @property
    def reductions(self) -> list[str]:
        return list(dict.fromkeys(sentence for answer in self.answers for sentence in answer.reductions))

    def seconds(self, step: str) -> float:
        return sum(answer.seconds.get(step, 0.0) for answer in self.answers)


def segment(request: Request) -> None:
    """Segment one object, write its mask and say how large it is.

    Raises
    ------
    InputError
        For everything that the user can put right.
    """
    start = time.perf_counter()
    check_output(request.output)
    image = read_volume(request.image, frame=request.frame, series=request.series)
    axis = coordinates.array_axis(request.axis, image.grid)
    prompts = _prompts(request, image)
    model = _model(request, image, prompts)
    own = {} if request.weights is None else {registry.card(model).name: request.weights}
    source = {"path": str(request.image.absolute()), "frame": request.frame, "series": request.series}
    tally = _Tally()
    with local_backend(request.device, own) as backend, bar() as progress:
        window = None if request.window is None else parse_window(request.window)
        session = Session(image, backend, journal=request.session, source=source, window=window)
        with ended(session):
            session.model = model
            for (
                prompt
            ) in prompts:  # one after another, as if clicked: the answer does not depend on the machine's haste
                tally.answers.append(wait(session.add(prompt, axis=axis, progress=progress)))
            if request.propagate:
                tally.answers.append(wait(session.propagate(axis=axis, progress=progress)))
            labels = session.labels()
            voxels = int(np.count_nonzero(labels == session.current))
            session.save(request.output)
    _report(request, image, voxels, tally, time.perf_counter() - start)


def replay_session(
    path: Path, output: Path, image: Path | None, device: str, weights: Path | None, as_json: bool
) -> None:
    """Ask everything in a session file again, write the labels, and say whether they equal the stored answers.

    Raises
    ------
    InputError
    """
    check_output(output)
    header, entries = read_journal(path)
    source = header.get("source") or {}
    if image is None:
        if not source.get("path"):
            raise InputError(f"The session {path} does not say where its image is: name it with --image.")
        image = Path(source["path"])
    volume = read_volume(image, frame=source.get("frame"), series=source.get("series"))
    used = dict.fromkeys(entry["model"] for entry in entries if entry.get("do") in ("prompt", "propagate"))
    own = {} if weights is None else {name: weights for name in used if registry.card(name).weights is not None}
    with local_backend(device, own) as backend, bar() as progress:
        history = replay(path, volume, backend, progress=progress)
    stored = History()
    refill(stored, entries)
    masks = {label: state.mask for label, state in history.objects.items()}
    identical = masks == {label: state.mask for label, state in stored.objects.items()}
    labels = history.labels(volume.grid.box)
    write_mask(labels, volume.grid, output)
    objects = [
        {"label": state.label, "name": state.name, **amount(int((labels == state.label).sum()), volume.grid)}
        for state in history.objects.values()
    ]
    if as_json:
        say_json({"output": str(output), "identical": identical, "objects": objects})
        return
    for entry in objects:
        say(f"{entry['label']} {entry['name']}: {entry['voxels']:,} voxels")
    agree = "identical to the stored answers" if identical else "NOT identical to the stored answers"
    say(f"{output}: {len(objects)} objects, {agree}")


def check_output(path: Path) -> None:
    """Refuse what cannot be written before, not after, minutes of computing."""
    from napari_sammed.formats.itk import WRITABLE

    if not path.name.lower().endswith(WRITABLE):
        raise InputError(f"{path.name} has no format to write: choose one of {', '.join(WRITABLE)}.")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is absent or cannot be written to."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written to: {error.strerror}.") from None


def parse_window(text: str) -> Window:
    """A preset's name, or ``level,width``."""
    if "," not in text:
        return Window.preset(text)
    try:
        level, width = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"The window {text!r} is neither level,width nor one of {', '.join(Window.presets())}."
        ) from None
    return Window.custom(level, width)


def amount(voxels: int, grid: Grid) -> dict[str, Any]:
    """How large so many voxels are: a volume in ml, or an area in mm² for flat images."""
    size = voxels * grid.voxel_volume
    if grid.ndim == 2:
        return {"voxels": voxels, "volume_ml": None, "area_mm2": round(size, 3)}
    return {"voxels": voxels, "volume_ml": round(size / 1000, 6)}


@contextmanager
def local_backend(device: str, weights: dict[str, Path]) -> Iterator[LocalBackend]:
    """A backend on this machine that ends with the block."""
    backend = LocalBackend(device, weights=weights)
    try:
        yield backend
    finally:
        backend.shutdown()


@contextmanager
def ended(session: Session) -> Iterator[None]:
    """Close the session at the end, whatever it is; on Ctrl-C stop what is running first."""
    try:
        yield
    except KeyboardInterrupt:
        session.cancel()
        raise
    finally:
        session.close()


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
    if not prompts and not request.propagate:
        raise InputError("There is nothing to do: give a --point, --negative, --box or --mask, or --propagate.")
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


def _report(request: Request, image: Volume, voxels: int, tally: _Tally, total: float) -> None:
    last = tally.answers[-1] if tally.answers else None
    score = last.score if last is not None and not math.isnan(last.score) else None
    seconds = {step: round(tally.seconds(step), 3) for step in ("load", "embed", "decode")}
    result = {
        "output": str(request.output),
        **amount(voxels, image.grid),
        "score": None if score is None else round(score, 4),
        "model": last.model if last is not None else None,
        "weights_sha256": last.weights_hash or None if last is not None else None,
        "reductions": tally.reductions,
        "seconds": {**seconds, "total": round(total, 3)},
    }
    if voxels == 0:
        note("Note: nothing was found for these prompts; the mask is empty.")
    if request.as_json:
        say_json(result)
        return
    for sentence in tally.reductions:
        note(f"Note: {sentence}")
    size = f"{result['volume_ml']:.2f} ml" if image.grid.ndim == 3 else f"{result['area_mm2']:.0f} mm²"
    scored = "" if score is None else f", score {score:.2f}"
    say(f"{request.output}: {voxels:,} voxels, {size}{scored}, {result['model']}, {total:.1f} s")
