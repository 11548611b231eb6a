"""``napari-sammed auto`` for folders: every image in one gets its labels in another, here or on a cluster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Backend, Cancel, Progress
from napari_sammed.backend.local import LocalBackend
from napari_sammed.cluster import joined
from napari_sammed.commands.auto import Request, auto, classes_of, write_labels
from napari_sammed.commands.common import check_folder, parse_window
from napari_sammed.commands.servers import backend_for
from napari_sammed.commands.terminal import bar, note, say, say_json, wait
from napari_sammed.errors import Cancelled, InputError, ServerError, WeightsError
from napari_sammed.formats import itk, ome_zarr
from napari_sammed.models import registry
from napari_sammed.segments import SUFFIX
from napari_sammed.series.finding import find_images, stem
from napari_sammed.tasks import Crew, check_here, through
from napari_sammed.volume import read_volume

_FLAT = (".png", ".jpg", ".jpeg", ".bmp")
_ENDINGS = (*itk.WRITABLE, ome_zarr.SUFFIX, SUFFIX)


@dataclass(frozen=True)
class _Task:
    """An image, and where its labels go."""

    name: str
    image: Path
    series: str | None
    output: Path


@dataclass(frozen=True)
class _Way:
    """How all of them are labelled."""

    model: str
    window: str | None
    frame: int | None


def run(request: Request, crew: Crew | None) -> int:
    """Label an image, or all images of a folder; the exit status.

    Raises
    ------
    InputError
        For everything that the user can put right; where a folder has images that cannot be labelled, after the others.
    """
    to_file = request.output.name.lower().endswith(_ENDINGS)
    if request.image.is_dir() and not to_file and not request.image.name.lower().endswith(ome_zarr.SUFFIX):
        _auto_folder(request, crew)
        return 0
    if crew is not None:
        raise InputError("--cluster is for folders: give a folder of images, and a folder for the labels after -o.")
    auto(request)
    return 0


def _auto_folder(request: Request, crew: Crew | None) -> None:
    start = time.perf_counter()
    if request.series is not None:
        raise InputError(
            "--series chooses among the series of one image's folder: leave it out for a folder of images."
        )
    if crew is not None and request.server is not None:
        raise InputError("--server and --cluster are two places to work at: choose one.")
    card = registry.card(request.model)
    tasks = _tasks(request)
    for folder in dict.fromkeys(task.output.parent for task in tasks):
        _make(folder)
    todo = [task for task in tasks if not task.output.exists()]
    if len(todo) < len(tasks):
        note(
            f"Note: {len(tasks) - len(todo)} of {len(tasks)} have labels in {request.output} already, which stay: "
            "delete them to have them made anew."
        )
    way = _Way(card.name, request.window, request.frame)
    failed: dict[str, str] = {}

    def not_done(number: int, why: str) -> None:
        note(f"Note: {todo[number].name}: {why} The others go on.")
        failed[todo[number].name] = why

    found = _labelled(request, crew, todo, way, not_done) if todo else []
    _report(request, card.name, found, failed, time.perf_counter() - start)
    if failed:
        shown = ", ".join(list(failed)[:5]) + (" ..." if len(failed) > 5 else "")
        raise InputError(f"{len(failed)} of {len(tasks)} could not be labelled: {shown}.")


def _tasks(request: Request) -> list[_Task]:
    folder, target = request.image.absolute(), request.output.absolute()
    images = find_images(folder, without=target)
    if any(path == "." for path, _ in images):
        raise InputError(
            f"{request.image} is a DICOM series: name a file for its labels, such as {request.output.name}.nii.gz. For "
            "several series, name the folder above."
        )
    if not images:
        raise InputError(f"There is no image in {request.image}.")
    names = [_name(path, series) for path, series in images]
    often = Counter(names)
    return [
        _Task(path, folder / path, series, target / (name if often[name] == 1 else f"{path}.nii.gz"))
        for (path, series), name in zip(images, names, strict=True)
    ]


def _name(path: str, series: str | None) -> str:
    if series is not None:
        return f"{path}/{series}.nii.gz"
    return stem(path) + (".png" if path.lower().endswith(_FLAT) else ".nii.gz")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    check_folder(folder)


def _labelled(
    request: Request, crew: Crew | None, tasks: Sequence[_Task], way: _Way, failed: Callable[[int, str], None]
) -> list[dict[str, Any]]:
    """What was found in the images that could be labelled, in their order."""
    own = {way.model: tuple(path.absolute() for path in request.weights)} if request.weights else {}
    if crew is not None:
        make = partial(LocalBackend, request.device, precision=request.precision, weights=own)

        def came(number: int, part: dict[str, Any]) -> None:
            if not tasks[number].output.exists():
                failed(
                    number, f"the labels are at {tasks[number].output} on the worker, which this machine cannot see."
                )

        with joined(crew.address, logs=False):
            work = partial(through, tasks, make, partial(_label_there, way), crew, came=came, failed=failed)
            return [part for parts in _beside(work, request.output) for part in parts]
    images = f"the {len(tasks)} images of {request.image}, voxels and their geometry, no names"
    with backend_for(images, request.server, request.device, own, request.precision) as backend:
        return _beside(partial(_one_after_another, way, backend, tasks, failed), request.output)


def _beside(work: Callable[..., list[Any]], output: Path) -> list[Any]:
    """Beside this thread, so that Ctrl-C gets through; what is labelled by then stays."""
    cancel = threading.Event()
    with ThreadPoolExecutor(1) as beside, bar() as progress:
        try:
            return wait(beside.submit(work, cancel=cancel, progress=progress))
        except (KeyboardInterrupt, Cancelled):
            cancel.set()
            note(f"Stopped. The labels so far are in {output}; the same command goes on from there.")
            raise


def _one_after_another(
    way: _Way,
    backend: Backend,
    tasks: Sequence[_Task],
    failed: Callable[[int, str], None],
    cancel: Cancel,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    found = []
    for number, task in enumerate(tasks):

        def part(what: str, share: float, number: int = number, task: _Task = task) -> None:
            if progress is not None:
                progress(f"{task.name}: {what}", (number + share) / len(tasks))

        try:
            found.append(_label(way, backend, task, cancel, part))
        except (ServerError, WeightsError):
            raise  # which stand in the way of all the others, too
        except InputError as error:
            failed(number, str(error))
    return found


def _label_there(way: _Way, backend: Backend, task: _Task, done: Sequence[dict]) -> Iterator[dict[str, Any]]:
    """On a worker."""
    check_here((task.image, task.output.parent))
    if not done:
        yield _label(way, backend, task)


def _label(
    way: _Way, backend: Backend, task: _Task, cancel: Cancel | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Label one image and write that; what there is to say of it, as for JSON."""
    start = time.perf_counter()
    image = read_volume(task.image, frame=way.frame, series=task.series)
    window = None if way.window is None else parse_window(way.window)
    opened = backend.open(image)
    try:
        found = backend.automatic(opened, way.model, window=window, cancel=cancel, progress=progress)
    finally:
        backend.close(opened)
    write_labels(found, image, task.output)
    return {
        "image": task.name,
        "output": str(task.output),
        "weights_sha256": found.weights_hash or None,
        "classes": classes_of(found, image.grid),
        "notes": list(found.notes),
        "seconds": round(time.perf_counter() - start, 3),
    }


def _report(
    request: Request, model: str, found: Sequence[dict[str, Any]], failed: Mapping[str, str], total: float
) -> None:
    if request.as_json:
        refused = [{"image": name, "error": why} for name, why in failed.items()]
        seconds = {"total": round(total, 3)}
        result = {"output": str(request.output), "model": model, "images": list(found), "failed": refused}
        say_json(result | {"seconds": seconds})
        return
    for sentence in dict.fromkeys(sentence for entry in found for sentence in entry["notes"]):
        note(f"Note: {sentence}")
    for entry in found:
        here = ", ".join(item["name"] for item in entry["classes"] if item["voxels"])
        say(f"{entry['image']}: {here or 'none of the classes'} ({entry['seconds']:.1f} s)")
    say(f"{request.output}: {len(found)} images, {model}, {total:.1f} s")
