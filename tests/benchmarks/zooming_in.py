"""Zooming in with LiteMedSAM on small structures: Dice and score before and after, a row a structure.

    python tests/benchmarks/zooming_in.py [--item NAME]... [--most 2000] [--coarse box|click|volume]...

Structures of under 2,000 voxels in the flat images and two volumes (others with --item). The coarse mask is what
LiteMedSAM says about the whole slice: from a tight box + 1 pixel (``box``), or from one click in the middle
(``click``), both on the structure's largest slice; or in volumes what a walk through the stack makes of a tight 3D box
(``volume``). Then the part around the structure, half its size more on every side, is looked at closer with the same
prompts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.masks import apply
from napari_sammed.backend.slicing import slice_of
from napari_sammed.evaluation.clicks import next_click
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Prompts
from napari_sammed.volume import Volume, read_volume

VOLUMES = ("3d_ct_torso_multiorgan", "3d_ct_dicom_series_20slices")
LEAST = 12  # pixels on the largest slice: with fewer, Dice is a matter of luck
MODEL = "litemedsam"


def structures(folder: Path, most: int) -> Iterator[tuple[str, Volume, np.ndarray]]:
    """Name, image and mask of the small structures of an item."""
    image = read_volume(folder / "dicom" if (folder / "dicom").is_dir() else next(folder.glob("image.*")))
    labels = read_volume(next(p for p in folder.glob("labels.*") if p.suffix != ".json")).array
    for label, name in json.loads((folder / "labels.json").read_text()).items():
        truth = labels == int(label)
        if 0 < truth.sum() < most:
            yield name, image, truth


def on(answer: Prediction, shape: tuple[int, ...]) -> np.ndarray:
    """An answer's mask on the whole image."""
    mask = np.zeros(shape, bool)
    mask[answer.box.slices] = answer.mask
    return mask


def before_and_after(backend: LocalBackend, image: Volume, truth: np.ndarray, how: str) -> tuple[float, ...] | None:
    """Dice and score of the coarse answer, and of the closer look; None where there is nothing to measure."""
    name, region, axis = backend.open(image), None, None
    if image.grid.ndim == 3:
        axis = int(np.argmax(image.grid.spacing))
        if how != "volume":
            areas = truth.sum(axis=tuple(a for a in range(3) if a != axis))
            region = slice_of(image.grid, axis, int(areas.argmax()))
            truth = np.where(on_slice(region, truth.shape), truth, False)
    elif how == "volume":
        return None
    tight = Box.of_mask(truth)
    if truth.sum() < LEAST:
        return None
    if how == "click":
        prompts = Prompts((next_click(np.zeros_like(truth), truth, image.grid.spacing),))
    else:
        margin = [0 if region is not None and a == axis else 1 for a in range(truth.ndim)]
        prompts = Prompts((tight.grow(margin).intersect(image.grid.box),))
    coarse = backend.predict(name, MODEL, prompts, region=region)
    known = MaskPrompt(coarse.mask, coarse.box.low) if coarse.mask.any() else None
    margin = [0 if region is not None and a == axis else max(2, size // 2) for a, size in enumerate(tight.shape)]
    part = tight.grow(margin).intersect(image.grid.box)
    closer = backend.refine(name, MODEL, part, coarse=known, prompts=prompts, axis=axis)
    kept = apply(known, closer)
    after = np.zeros_like(truth)
    if kept is not None:
        after[kept.extent.slices] = kept.mask
    backend.close(name)
    return dice(on(coarse, truth.shape), truth), coarse.score, dice(after, truth), closer.score


def on_slice(region: Box, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a slice."""
    mask = np.zeros(shape, bool)
    mask[region.slices] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--item", action="append")
    parser.add_argument("--most", type=int, default=2000)
    parser.add_argument("--coarse", action="append", choices=("box", "click", "volume"))
    options = parser.parse_args()
    data = options.shared / "data"
    items = options.item or [*sorted(p.name for p in data.glob("2d_*")), *VOLUMES]
    backend = LocalBackend()
    for how in options.coarse or ("box", "click"):
        print(f"\nCoarse mask from a {how}\n\n| item | structure | voxels | before | score | after | score |")
        print("|---|---|---:|---:|---:|---:|---:|")
        rows = []
        for item in items:
            for name, image, truth in structures(data / item, options.most):
                row = before_and_after(backend, image, truth, how)
                if row is not None:
                    rows.append(row)
                    figures = " | ".join(f"{value:.3f}" for value in row)
                    print(f"| {item[3:]} | {name} | {truth.sum()} | {figures} |", flush=True)
        before, score, after, closer = np.array(rows).T
        worse = after < before - 0.05
        print(f"| **mean** | {len(rows)} structures | | {before.mean():.3f} | | {after.mean():.3f} | |")
        better, lower = (after > before + 0.05).sum(), closer < score
        print(f"\n{better} better by more than 0.05, {worse.sum()} worse (most by {max(before - after):.3f}).")
        print(f"{(worse & ~lower).sum()} of these without a lower score; {lower.sum()} have one.")
    backend.shutdown()


if __name__ == "__main__":
    main()
