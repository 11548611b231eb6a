"""Speed, memory and accuracy of LiteMedSAM's fast form against its plain eager form.

    python -m tests.benchmarks.litemedsam [--threads 2] [--rounds 7] [--cpu-time] [--weights FILE]
    [--no-images]

Plain and fast take turns; times are medians. Peak memory is the growth of the peak resident size over one
embedding in a fresh process. The Dice drift (masks of the plain against those of the fast form, and both
against the reference) is taken over the structures of the labelled flat images, one tight box each, with the
published weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import litemedsam, registry
from napari_sammed.models.checkpoints import read_tensors
from napari_sammed.models.weights import obtain
from napari_sammed.networks import PromptableNetwork
from napari_sammed.prompts import Prompts
from napari_sammed.volume import Volume, read_volume
from tests.benchmarks.measuring import peak_growth, take_turns
from tests.benchmarks.plain_litemedsam import plain

FORMS: dict[str, Callable[[PromptableNetwork], PromptableNetwork]] = {
    "plain": plain,
    "fast": networks.optimized,
}
BOXES = (1, 7, 21)
SMALLEST = 200  # pixels of a structure; smaller ones say little


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(_peak_memory(options.memory_of))
        return
    network = networks.create("litemedsam").eval()
    weights = _weights(options.weights)
    if weights is not None:
        network.load_state_dict(read_tensors(weights))
    forms = {name: make(network) for name, make in FORMS.items()}
    clock = time.process_time if options.cpu_time else time.perf_counter
    with torch.inference_mode():
        _compare_speed(forms, options.rounds, clock)
    _compare_memory(options.threads)
    images = Path(__file__).resolve().parents[3] / "shared" / "data"
    if weights is not None and images.is_dir() and not options.no_images:
        _compare_masks(forms, images)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true", help="processor time instead of wall time")
    parser.add_argument("--weights", type=Path, help="the published weights; fetched without")
    parser.add_argument("--no-images", action="store_true", help="leave the masks out")
    parser.add_argument("--memory-of", choices=FORMS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _weights(given: Path | None) -> Path | None:
    try:
        return given or obtain(registry.card("litemedsam"))
    except InputError as error:
        print(f"random weights, because: {error}")
        return None


def _compare_speed(forms: dict[str, PromptableNetwork], rounds: int, clock: Callable[[], float]) -> None:
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    _row("step", *forms, "ratio", "max difference")
    times, results = take_turns(
        {name: lambda form=form: form.image_encoder(image) for name, form in forms.items()}, rounds, clock
    )
    _report("embed", times, _difference(results))
    embedding = results["plain"]
    for count in BOXES:
        boxes = _boxes(count)
        calls = {name: lambda form=form, boxes=boxes: _decode(form, embedding, boxes) for name, form in forms.items()}
        times, results = take_turns(calls, rounds, clock)
        _report(f"decode {count} boxes", times, _difference(results))


def _decode(form: PromptableNetwork, embedding: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    sparse, dense = form.prompt_encoder(points=None, boxes=boxes, masks=None)
    masks, _ = form.mask_decoder(
        image_embeddings=embedding,
        image_pe=form.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return masks


def _boxes(count: int) -> torch.Tensor:
    boxes = 100 * torch.rand(count, 4, generator=torch.Generator().manual_seed(count))
    boxes[:, 2:] += 120
    return boxes


def _difference(results: dict[str, torch.Tensor]) -> float:
    return (results["plain"] - results["fast"]).abs().max().item()


def _report(step: str, times: dict[str, float], difference: float) -> None:
    ratio = times["plain"] / times["fast"]
    _row(step, *(f"{1e3 * value:.0f} ms" for value in times.values()), f"{ratio:.2f}", f"{difference:.1e}")


def _row(*cells: str) -> None:
    print("".join(f"{cell:<18}" for cell in cells))


def _peak_memory(form: str) -> float:
    """Growth of the peak resident size over one embedding, MiB; meant for a process of its own."""
    network = FORMS[form](networks.create("litemedsam").eval())
    image = torch.rand(1, 3, 256, 256)
    return peak_growth(lambda: network.image_encoder(image))


def _compare_memory(threads: int) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.litemedsam", "--threads", str(threads), "--memory-of"]
    peaks = [
        float(subprocess.run([*command, form], check=True, capture_output=True, text=True).stdout) for form in FORMS
    ]
    _row("peak memory", *(f"{peak:.0f} MiB" for peak in peaks), f"{peaks[0] / peaks[1]:.1f}")


def _compare_masks(forms: dict[str, PromptableNetwork], folder: Path) -> None:
    models = {name: litemedsam.LiteMedSAM(form) for name, form in forms.items()}
    for model, form in zip(models.values(), forms.values(), strict=True):
        model.network = form  # the model would make the fast form of both
    drifts, scores = [], {name: [] for name in models}
    for image, labels in _labelled(folder):
        embeddings = {}
        for label in np.unique(labels[labels > 0]):
            reference = labels == label
            if reference.sum() < SMALLEST:
                continue
            prompts = Prompts((_tight_box(reference),))
            masks = {}
            for name, model in models.items():
                if name not in embeddings:
                    region = model.plan(image.grid, prompts, None)
                    embeddings[name] = model.embed(image, region, Window.preset("as-is"))
                masks[name] = model.restore(model.decode(embeddings[name], prompts, None)) > 0
                scores[name].append(dice(masks[name], reference))
            drifts.append(1 - dice(masks["plain"], masks["fast"]))
    _row("mean Dice", *(f"{np.mean(values):.5f}" for values in scores.values()), f"{len(drifts)} structures")
    change = np.abs(np.subtract(*scores.values())).max()
    print(f"largest drift: {max(drifts):.6f} between the masks, {change:.6f} in a structure's Dice")


def _labelled(folder: Path) -> Iterator[tuple[Volume, np.ndarray]]:
    for item in sorted(folder.glob("2d_*")):
        yield read_volume(next(item.glob("image.*"))), read_volume(item / "labels.png").array


def _tight_box(mask: np.ndarray) -> Box:
    inside = np.argwhere(mask)
    return Box(tuple(map(int, inside.min(0))), tuple(map(int, inside.max(0) + 1)))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice overlap of two masks; 1 for two empty ones."""
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else 1.0


if __name__ == "__main__":
    main()
