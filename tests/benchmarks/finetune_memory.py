"""Memory and time of fine-tuning by SAMed's recipe: low-rank updates of ViT-B at 512 x 512, random weights.

    python -m tests.benchmarks.finetune_memory [--steps 3] [--batch 1] [--gpu-batch 12]

Each precision in a process of its own. On the processor the peak of the resident size stands beside the bound of 12
GiB, and on a GPU, where there is one, that of torch's memory beside 40 GiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_sammed import networks
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.material import Example, Material
from napari_sammed.training.samed_recipe import SamedSettings, SamedTask
from napari_sammed.volume import Volume
from tests.benchmarks.measuring import status

ORGANS = 8
BOUNDS = {"cpu": 12, "cuda": 40}  # GiB


def material() -> Material:
    """A noisy slice with a rectangle of each organ."""
    labels = np.zeros((512, 512), np.uint16)
    for value in range(1, ORGANS + 1):
        labels[40 * value : 40 * value + 30, 100:400] = value
    pixels = (20 * labels + np.random.default_rng(0).integers(0, 20, labels.shape)).astype(np.uint8)
    names = {value: f"organ {value}" for value in range(1, ORGANS + 1)}
    return Material((Example("a", "a", Volume.from_array(pixels), labels, names),), (), names)


class Task(SamedTask):
    """Without a measure, which takes less than a step."""

    def measure(self, device):
        return {"score": 0.0}


def learn(device: str, precision: str, batch: int, steps: int) -> str:
    """One line of figures."""
    settings = SamedSettings(batch=batch, sampled_size=512)
    network = networks.create("samed", {"image_size": 512, "num_classes": ORGANS})
    task, moments = Task(network, material(), settings), [time.perf_counter()]
    with tempfile.TemporaryDirectory() as out:
        run = Run(Path(out), steps + 1, keep_every=steps + 1, accelerator=device, precision=precision)
        fit(task, run, progress=lambda text, share: moments.append(time.perf_counter()))
        moments.append(time.perf_counter())
    seconds = float(np.median(np.diff(moments)[2:-1])) if steps > 1 else moments[-1] - moments[-2]  # the first warms up
    peak = torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else status("VmHWM") / 1024
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return (
        f"{device} ({where}), {precision}, batch {batch}: peak {peak:.2f} of {BOUNDS[device]} GiB, "
        f"{seconds:.2f} s a step, {batch / seconds:.2f} samples/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--gpu-batch", type=int, default=12)
    parser.add_argument("--one", nargs=2, metavar=("DEVICE", "PRECISION"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        batch = chosen.gpu_batch if chosen.one[0] == "cuda" else chosen.batch
        print(learn(*chosen.one, batch, chosen.steps), flush=True)
        return
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for precision in ("32-true", "bf16-mixed"):
            module = [sys.executable, "-m", "tests.benchmarks.finetune_memory", "--one", device, precision]
            sizes = ["--steps", chosen.steps, "--batch", chosen.batch, "--gpu-batch", chosen.gpu_batch]
            subprocess.run([*module, *map(str, sizes)], check=True)
    if "cuda" not in devices:
        print("There is no GPU here.")


if __name__ == "__main__":
    main()
