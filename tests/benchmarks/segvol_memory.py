"""Memory of SegVol on a large CT: from a click to the mask of a volume of 1000 x 512 x 512 voxels.

    python -m tests.benchmarks.segvol_memory [--slices 1000] [--dtype int16]

Prints seconds, and how far the peak resident size grows over that with image and network in memory (Linux). Weights are
random: the mask means nothing, but takes as long and as much as any other that is as large as the volume.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from napari_sammed import networks
from napari_sammed.backend.local import LocalBackend
from napari_sammed.models.segvol import SegVol
from napari_sammed.models.segvol_windows import measured
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume
from tests.benchmarks.measuring import peak_growth


def ct(slices: int, dtype: str) -> Volume:
    """Air, and a noisy cylinder of soft tissue; made slice by slice."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[:512, :512]
    body = (rows - 256) ** 2 + (columns - 256) ** 2 < 240**2
    array = np.empty((slices, 512, 512), dtype)
    for part in array:
        part[:] = np.where(body, rng.normal(40, 60, body.shape), -1000)
    return Volume.from_array(array, (1.0, 0.8, 0.8))


def show(step: str, call: Callable[[], object]) -> None:
    start = time.perf_counter()
    growth = peak_growth(call)
    print(f"{step:32}{time.perf_counter() - start:7.1f} s{growth:9.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--dtype", default="int16")
    chosen = parser.parse_args()
    volume = ct(chosen.slices, chosen.dtype)
    backend = LocalBackend(models={"segvol": SegVol(networks.create("segvol").eval())})
    opened = backend.open(volume)
    middle = chosen.slices // 2
    print(f"image: {volume.array.nbytes / 2**20:.0f} MiB of {chosen.dtype}")
    show("grey limits and foreground", lambda: measured(volume))
    show("click to mask", lambda: backend.predict(opened, "segvol", Prompts((Point((middle, 256, 256)),))))
    two = Prompts((Point((middle, 256, 256)), Point((middle, 200, 256), False)))
    show("next click to mask", lambda: backend.predict(opened, "segvol", two))
    backend.shutdown()


if __name__ == "__main__":
    main()
