"""A model on every labelled structure of the flat images: a tight box + 2 pixels beside one to three clicks.

    python tests/benchmarks/boxes_2d.py [--model litemedsam] [--shared ../shared] [--item NAME]... [--clicks 3]

Prints a Markdown table of Dice. The clicks come from a simulated user: first the innermost point of the structure,
then that of the largest mistake. The mean is over the structures above 200 pixels.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from napari_sammed.backend import reductions
from napari_sammed.evaluation.clicks import next_click
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding, PromptableModel
from napari_sammed.models.registry import load
from napari_sammed.prompts import Prompts
from napari_sammed.volume import read_volume

LEAST_PIXELS = 200


def box_dice(model: PromptableModel, embedding: Embedding, truth: np.ndarray) -> float:
    """Dice of the answer to the tight box of `truth`, 2 pixels wider."""
    logits = model.decode(embedding, Prompts((Box.of_mask(truth).grow(2),)), None)
    return dice(model.restore(logits) > 0, truth)


def click_dice(
    model: PromptableModel, embedding: Embedding, truth: np.ndarray, count: int
) -> tuple[list[float], list[float]]:
    """Dice and seconds after each click."""
    prompts, previous, mask = Prompts(), None, np.zeros_like(truth)
    scores: list[float] = []
    seconds: list[float] = []
    while len(scores) < count:
        click = next_click(mask, truth, embedding.image.spacing)
        if click is None:
            return scores + [1.0] * (count - len(scores)), seconds
        prompts = prompts.add(click)
        begun = time.perf_counter()
        previous, _ = reductions.answer(model, embedding, prompts, previous)
        seconds.append(time.perf_counter() - begun)
        mask = model.restore(previous) > 0
        scores.append(dice(mask, truth))
    return scores, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--item", action="append", help="folder of the data; default: all flat images")
    parser.add_argument("--clicks", type=int, default=3)
    parser.add_argument("--model", default="litemedsam")
    options = parser.parse_args()
    model = load(options.model)
    columns = ["box", *(f"{n + 1} click{'s' * (n > 0)}" for n in range(options.clicks))]
    print("| item | structure | pixels | " + " | ".join(columns) + " |")
    print("|---|---|---:|" + "---:|" * len(columns))
    rows: list[list[float]] = []
    first: list[float] = []
    later: list[float] = []
    for item in options.item or sorted(p.name for p in (options.shared / "data").glob("2d_*")):
        folder = options.shared / "data" / item
        image, labels = read_volume(next(folder.glob("image.*"))), read_volume(folder / "labels.png").array
        embedding = model.embed(image, model.plan(image.grid, Prompts(), None), Window.auto(image))
        for label, name in json.loads((folder / "labels.json").read_text()).items():
            truth = labels == int(label)
            scores, seconds = click_dice(model, embedding, truth, options.clicks)
            first += seconds[:1]
            later += seconds[1:]
            row = [box_dice(model, embedding, truth), *scores]
            if truth.sum() > LEAST_PIXELS:
                rows.append(row)
            print(f"| {item[3:]} | {name} | {truth.sum()} | " + " | ".join(f"{v:.3f}" for v in row) + " |", flush=True)
    mean = " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
    print(f"| **mean** | {len(rows)} above {LEAST_PIXELS} pixels | | {mean} |")
    print(
        f"\nMedian seconds after the embedding: first click {np.median(first):.2f}, next ones {np.median(later):.2f}."
    )


if __name__ == "__main__":
    main()
