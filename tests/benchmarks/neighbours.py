"""Whether finished neighbours help: one click in each structure of a labelled image, without and with them.

    python tests/benchmarks/neighbours.py [--item NAME]... [--model random-walker] [--model litemedsam] [--most 12]

All other structures of the reference are finished (locked) objects of the session. LiteMedSAM answers on the slice
across the first axis where the structure is deepest, other models in the volume. Dice is that of the answer, before any
overlap rule cuts it.
"""

from __future__ import annotations

import argparse

import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.evaluation.clicks import innermost
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from napari_sammed.volume import Volume
from tests.benchmarks.clicks_in_volumes import load

_LEAST = 400  # voxels


def masks_of(labels: np.ndarray, most: int) -> dict[int, MaskPrompt]:
    """The largest structures, tightly."""
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    order = values[np.argsort(counts)[::-1]][:most]
    found = {}
    for value in sorted(int(v) for v, c in zip(values, counts, strict=True) if v in order and c > _LEAST):
        box = Box.of_mask(labels == value)
        found[value] = MaskPrompt((labels[box.slices] == value).copy(), box.low)
    return found


def answered(
    session: Session, model: str, truth: MaskPrompt, shape: tuple[int, ...], spacing: tuple[float, ...], use: bool
) -> tuple[float, int]:
    """Dice after one click, and how many points the neighbours gave."""
    place = tuple(int(p + o) for p, o in zip(innermost(truth.mask, spacing), truth.offset, strict=True))
    session.neighbours = use
    label = session.new_object()
    session.add(Point(place), model=model, axis=0).result()
    count = len(session.history.done[-1].beside)
    claimed = session.claimed[label].mask
    found, wanted = np.zeros(shape, bool), np.zeros(shape, bool)
    wanted[truth.extent.slices] = truth.mask
    if claimed is not None:
        found[claimed.extent.slices] = claimed.mask
    if 3 not in session.backend.card(model).dimensions:
        found, wanted = found[place[0]], wanted[place[0]]
    session.delete(label)
    return dice(found, wanted), count


def run(item: str, model: str, most: int, backend: LocalBackend) -> list[tuple[float, float]]:
    """A line for each structure."""
    image, labels, names = load(item)
    rows = []
    masks = masks_of(labels, most)
    with Session(Volume(image.array, image.grid), backend) as session:
        for value, mask in masks.items():
            session.lock(session.take(mask, names.get(value, str(value))))
        numbers = dict(zip(masks, session.objects, strict=True))
        for value, mask in masks.items():
            session.lock(numbers[value], False)  # this one is not finished
            without, _ = answered(session, model, mask, labels.shape, image.grid.spacing, False)
            with_them, count = answered(session, model, mask, labels.shape, image.grid.spacing, True)
            session.lock(numbers[value])
            rows.append((without, with_them))
            print(
                f"{item[3:24]:22} {names.get(value, value)!s:28} {without:7.3f} {with_them:7.3f} {count:3}", flush=True
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--item", action="append")
    parser.add_argument("--model", action="append")
    parser.add_argument("--most", type=int, default=12)
    options = parser.parse_args()
    backend = LocalBackend()
    for model in options.model or ["random-walker", "litemedsam"]:
        rows = []
        print(f"{model}: Dice without, with neighbours; points")
        for item in options.item or ["3d_ct_torso_multiorgan", "3d_mr_torso_multiorgan"]:
            rows += run(item, model, options.most, backend)
        pairs = np.array(rows)
        better, worse = (int((sign * np.diff(pairs, axis=1) > 0.01).sum()) for sign in (1, -1))
        means = ", ".join(f"{mean:.3f}" for mean in pairs.mean(0))
        print(f"{model}: mean {means} of {len(rows)}; {better} better, {worse} worse by more than 0.01")
    backend.shutdown()


if __name__ == "__main__":
    main()
