"""LiteMedSAM through stacks, from one box an object: Dice and seconds.

    python tests/benchmarks/propagation.py [--shared ../shared] [--axis 0] [--item NAME]...

Prints a Markdown table with three ways to begin: a tight box on the middle slice, alone; the same with a 3D box as
limit; the 3D box only, where the walk finds its own first slice. Seconds are those of the first way and include
encoding; the others find the slices encoded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_sammed.backend.propagation import propagate, start
from napari_sammed.backend.slicing import grey, slice_of
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel, Embedding, Logits
from napari_sammed.models.registry import load
from napari_sammed.prompts import MaskPrompt, Prompts
from napari_sammed.volume import Volume, read_volume

OBJECTS = {
    "3d_ct_torso_multiorgan": ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "stomach"),
    "3d_mr_brain_tumour_aniso": ("tumour",),
    "3d_mr_torso_multiorgan": ("liver", "spleen", "kidney_right", "kidney_left", "stomach"),
}


class Slices:
    """A `propagation.Engine` without threads: a model, a volume, and embeddings kept."""

    def __init__(self, model: BoxModel, volume: Volume) -> None:
        self.model, self.volume, self.grid = model, volume, volume.grid
        self.window = Window.auto(volume)
        self._embeddings: dict[Box, Embedding] = {}

    def decode(self, region: Box, boxes: Sequence[Box]) -> list[Logits]:
        if region not in self._embeddings:
            plan = self.model.plan(self.grid, Prompts(), region)
            self._embeddings[region] = self.model.embed(self.volume, plan, self.window)
        return self.model.decode_boxes(self._embeddings[region], boxes)

    def restore(self, logits: Logits) -> np.ndarray:
        return self.model.restore(logits)

    def pixels(self, region: Box) -> np.ndarray:
        return grey(self.volume, region)

    def ahead(self, regions: Sequence[Box]) -> None:
        pass


def middle_anchor(engine: Slices, truth: np.ndarray, axis: int) -> MaskPrompt:
    """The answer to the tight box of the middle slice of an object."""
    whole = Box.of_mask(truth)
    region = slice_of(engine.grid, axis, whole.low[axis] + (whole.shape[axis] - 1) // 2)
    tight = Box.of_mask(truth[region.slices]).shift(region.low)
    return MaskPrompt(engine.restore(engine.decode(region, [tight])[0]) > 0, region.low)


def ways(engine: Slices, truth: np.ndarray, axis: int) -> list[tuple[float, float]]:
    """Dice and seconds of each way to begin."""
    whole = Box.of_mask(truth)
    begins: list[tuple[Callable[[], MaskPrompt], Box | None]] = [
        (lambda: middle_anchor(engine, truth, axis), None),
        (lambda: middle_anchor(engine, truth, axis), whole),
        (lambda: start(engine, whole, axis), whole),
    ]
    results = []
    for begin, limits in begins:
        begun = time.perf_counter()
        walk = propagate(engine, [begin()], axis, within=limits)
        mask = np.zeros_like(truth)
        mask[walk.scope.slices] = walk.mask
        results.append((dice(mask, truth), time.perf_counter() - begun))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--item", action="append", choices=sorted(OBJECTS))
    parser.add_argument("--axis", type=int, default=0, help="array axis to walk along")
    options = parser.parse_args()
    model = load("litemedsam")
    print("| item | object | middle box | middle box in 3D box | 3D box | seconds |")
    print("|---|---|---:|---:|---:|---:|")
    for item in options.item or OBJECTS:
        folder = options.shared / "data" / item
        volume = read_volume(next(folder.glob("image.*")))
        labels = read_volume(next(folder.glob("labels.n*"))).array
        ids = {name: int(label) for label, name in json.loads((folder / "labels.json").read_text()).items()}
        engine = Slices(model, volume)
        for name in OBJECTS[item]:
            results = ways(engine, labels == ids[name], options.axis)
            cells = " | ".join(f"{score:.3f}" for score, _ in results)
            print(f"| {item[3:]} | {name} | {cells} | {results[0][1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
