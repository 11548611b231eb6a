"""``napari-sammed auto``: an image becomes a label image of classes, without prompts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.base import Backend, ClassMap
from napari_sammed.commands.common import amount, check_output, check_source, parse_window
from napari_sammed.commands.servers import Server, backend_for, told
from napari_sammed.commands.terminal import bar, note, say, say_json, wait
from napari_sammed.geometry import Grid
from napari_sammed.models import registry
from napari_sammed.segments import is_segmentation_name, of_labels, write_segments
from napari_sammed.volume import Volume, read_volume, write_mask


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; the fields are its arguments and options."""

    image: Path
    output: Path
    model: str = "samed"
    weights: tuple[Path, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    window: str | None = None
    frame: int | None = None
    series: str | None = None
    server: Server | None = None
    as_json: bool = False


def auto(request: Request) -> None:
    """Label an image, write the label image with the names of its classes, and say how much there is of each.

    Raises
    ------
    InputError
        For everything that the user can put right.
    """
    start = time.perf_counter()
    check_output(request.output)
    card = registry.card(request.model)
    image = read_volume(request.image, frame=request.frame, series=request.series)
    check_source(request.output, image)
    own = {card.name: request.weights} if request.weights else {}
    with backend_for(told(image), request.server, request.device, own, request.precision) as backend:
        found = _label(request, card.name, image, backend)
    write_labels(found, image, request.output)
    _report(request, found, image.grid, time.perf_counter() - start)


def write_labels(found: ClassMap, image: Volume, path: Path) -> None:
    """Write classes as labels 1, 2, ... on an image's grid, with their names; errors as of `write_mask`."""
    names = dict(enumerate(found.classes, 1))
    labels = np.zeros(image.grid.shape, np.uint8)
    labels[found.box.slices] = found.labels
    if is_segmentation_name(path):
        made = of_labels(labels, names, algorithm=found.model, weights_hash=found.weights_hash)
        write_segments(made, image, path)
    else:
        write_mask(labels, image.grid, path, names)


def classes_of(found: ClassMap, grid: Grid) -> list[dict[str, Any]]:
    """How much there is of each class, as for JSON."""
    return [
        {"label": label, "name": name, **amount(voxels, grid)}
        for label, (name, voxels) in enumerate(found.counts.items(), 1)
    ]


def _label(request: Request, model: str, image: Volume, backend: Backend) -> ClassMap:
    """Beside this thread, so that Ctrl-C gets through; it then ends the work at the next slices."""
    window = None if request.window is None else parse_window(request.window)
    cancel = threading.Event()
    opened = backend.open(image)
    with ThreadPoolExecutor(1) as beside, bar() as progress:
        try:
            return wait(
                beside.submit(backend.automatic, opened, model, window=window, cancel=cancel, progress=progress)
            )
        except KeyboardInterrupt:
            cancel.set()
            raise


def _report(request: Request, found: ClassMap, grid: Grid, total: float) -> None:
    classes = classes_of(found, grid)
    if not any(entry["voxels"] for entry in classes):
        note("Note: none of the classes was found; all labels are 0.")
    if request.as_json:
        seconds = {step: round(found.seconds.get(step, 0.0), 3) for step in ("load", "segment")}
        say_json(
            {
                "output": str(request.output),
                "model": found.model,
                "weights_sha256": found.weights_hash or None,
                "classes": classes,
                "notes": list(found.notes),
                "seconds": {**seconds, "total": round(total, 3)},
            }
        )
        return
    for sentence in found.notes:
        note(f"Note: {sentence}")
    unit, key = ("ml", "volume_ml") if grid.ndim == 3 else ("mm²", "area_mm2")
    width = max(len("class"), *(len(entry["name"]) for entry in classes))
    say(f"label  {'class':<{width}}  {'voxels':>12}  {unit:>10}")
    for entry in classes:
        say(f"{entry['label']:>5}  {entry['name']:<{width}}  {entry['voxels']:>12,}  {entry[key]:>10.2f}")
    say(f"{request.output}: {len(classes)} classes, {found.model}, {total:.1f} s")
