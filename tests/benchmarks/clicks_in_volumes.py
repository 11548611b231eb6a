"""One, three and five clicks in every structure of the torso volumes: Dice and seconds a click, methods side by side.

    python tests/benchmarks/clicks_in_volumes.py [--method random-walker]... [--item NAME]... [--least-voxels 400]

The clicks come from a simulated user (`napari_sammed.evaluation.clicks`), for each method from its own mistakes. A
method is a function from a volume to one that answers clicks; add it to ``METHODS``. The reference masks are the output
of a network, so these figures are agreement with it, not with a person.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_sammed.evaluation.clicks import click_through
from napari_sammed.evaluation.metrics import dice
from napari_sammed.models.random_walker import segment
from napari_sammed.prompts import Point
from napari_sammed.volume import Volume, read_volume, resample_labels

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ITEMS = ("3d_ct_torso_multiorgan", "3d_mr_torso_multiorgan")
REPORTED = (1, 3, 5)

Answer = Callable[[list[Point]], np.ndarray]


def random_walker(volume: Volume) -> Answer:
    """Arrays straight into the algorithm: no queue, and no embedding kept from click to click."""

    def answer(clicks: list[Point]) -> np.ndarray:
        positive = [click.index for click in clicks if click.positive]
        negative = [click.index for click in clicks if not click.positive]
        found = segment(volume.array, volume.grid.spacing, np.array(positive), np.array(negative))
        mask = np.zeros(volume.grid.shape, bool)
        mask[tuple(slice(a, b) for a, b in zip(found.low, found.high, strict=True))] = found.mask
        return mask

    return answer


def through_backend(model: str) -> Callable[[Volume], Answer]:
    """A model as users get it: planned, cached and grown by the backend on this machine."""

    def method(volume: Volume) -> Answer:
        from napari_sammed.backend.local import LocalBackend
        from napari_sammed.prompts import Prompts

        backend = LocalBackend()
        image = backend.open(volume)

        def answer(clicks: list[Point]) -> np.ndarray:
            prediction = backend.predict(image, model, Prompts(tuple(clicks)))
            mask = np.zeros(volume.grid.shape, bool)
            mask[prediction.box.slices] = prediction.mask
            return mask

        return answer

    return method


def ladder_and_propagation(volume: Volume) -> Answer:
    """LiteMedSAM: a ladder of boxes on the clicked slice, then a walk through the stack from all clicked slices.

    A click on a slice that the walk has answered corrects that answer. Where a click leaves nothing of the object on a
    slice, the walk ends before it.
    """
    from napari_sammed.backend.local import LocalBackend
    from napari_sammed.backend.slicing import in_region, slice_of
    from napari_sammed.geometry import Box
    from napari_sammed.models.base import Logits
    from napari_sammed.models.planes import slice_axis
    from napari_sammed.prompts import MaskPrompt, Prompts

    backend = LocalBackend()
    image = backend.open(volume)
    axis = slice_axis(volume.grid, Prompts())
    mask = np.zeros(volume.grid.shape, bool)
    anchors: dict[int, MaskPrompt] = {}
    answered: dict[int, Logits | None] = {}
    walls: set[int] = set()

    def answer(clicks: list[Point]) -> np.ndarray:
        if len(clicks) == 1:
            mask[...] = False
            for state in (anchors, answered, walls):
                state.clear()
        index = round(clicks[-1].index[axis])
        region = slice_of(volume.grid, axis, index)
        prompts = in_region(Prompts(tuple(clicks)), region)
        if index not in answered and mask[region.slices].any():
            prompts = Prompts((MaskPrompt(mask[region.slices], region.low), *prompts))
        if not prompts.points(positive=True).size and not mask[region.slices].any():
            return mask.copy()
        found = backend.predict(image, "litemedsam", prompts, region=region, previous=answered.get(index))
        answered[index] = found.logits
        if found.mask.any():
            anchors[index] = MaskPrompt(found.mask, found.box.low)
        else:
            walls.add(index)
            anchors.pop(index, None)
        if not anchors:
            return mask.copy()
        low, high = [0, 0, 0], list(volume.grid.shape)
        low[axis] = max((w + 1 for w in walls if w < min(anchors)), default=0)
        high[axis] = min((w for w in walls if w > max(anchors)), default=high[axis])
        walk = backend.propagate(
            image, "litemedsam", list(anchors.values()), axis, within=Box(tuple(low), tuple(high)) if walls else None
        )
        mask[...] = False
        mask[walk.box.slices] = walk.mask
        return mask.copy()

    return answer


METHODS: dict[str, Callable[[Volume], Answer]] = {
    "random-walker": random_walker,
    "random-walker-backend": through_backend("random-walker"),
    "litemedsam": ladder_and_propagation,
}


def load(item: str) -> tuple[Volume, np.ndarray, dict[int, str]]:
    """An item's image, its label map on the image's grid, and the names of the labels."""
    folder = DATA / item
    series = folder / "dicom"
    image = read_volume(series if series.is_dir() else next(folder.glob("image.*")))
    labels = resample_labels(read_volume(next(folder.glob("labels.n*"))), image.grid)
    names = json.loads((folder / "labels.json").read_text())
    return image, labels, {int(value): str(name) for value, name in names.items()}


def measure(answer: Answer, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """Dice after each of the reported numbers of clicks, and the seconds of every click."""
    seconds: list[float] = []

    def timed(clicks: list[Point]) -> np.ndarray:
        start = time.perf_counter()
        mask = answer(clicks)
        seconds.append(time.perf_counter() - start)
        return mask

    scores = [dice(mask, truth) for _, mask in click_through(timed, truth, spacing, max(REPORTED))]
    scores += [scores[-1]] * (max(REPORTED) - len(scores))  # the user stops when the mask is right
    return [scores[count - 1] for count in REPORTED], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", choices=sorted(METHODS))
    parser.add_argument("--item", action="append", help="folder of shared/data; default: the two torso volumes")
    parser.add_argument("--least-voxels", type=int, default=400)
    options = parser.parse_args()
    methods = options.method or ["random-walker"]
    columns = [f"{count} clicks".rjust(8) for count in REPORTED]
    print(f"{'structure':45}" + "".join(f" | {name:^{9 * len(columns) + 7}}" for name in methods))
    print(f"{'':45}" + f" | {' '.join(columns)} s/click " * len(methods))
    rows: list[list[list[float]]] = []
    slowest = dict.fromkeys(methods, 0.0)
    for item in options.item or ITEMS:
        image, labels, names = load(item)
        answers = {name: METHODS[name](image) for name in methods}
        for label in np.unique(labels[labels > 0]):
            truth = labels == label
            if truth.sum() <= options.least_voxels:
                continue
            row = []
            for name in methods:
                scores, seconds = measure(answers[name], truth, image.grid.spacing)
                row.append([*scores, float(np.mean(seconds))])
                slowest[name] = max(slowest[name], *seconds)
            rows.append(row)
            print(_line(f"{item[3:11]} {names[int(label)]}", row), flush=True)
    print(_line(f"mean of {len(rows)}", np.mean(rows, axis=0).tolist()))
    print("slowest click: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slowest.items()))


def _line(title: str, row: list[list[float]]) -> str:
    cells = [" ".join(f"{value:8.3f}" for value in values) for values in row]
    return f"{title[:45]:45}" + "".join(f" | {cell}" for cell in cells)


if __name__ == "__main__":
    main()
