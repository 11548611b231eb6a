"""Fingerprint and percentiles of a large volume, against plain SHA-256 and NumPy in the same run.

    python tests/benchmarks/volumes.py [--rounds 5]

Both are on the way of every opened image. Prints medians and ratios for 200 x 512 x 512 voxels of 16 bits.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable

import numpy as np

from napari_sammed.intensity import positive_percentiles
from napari_sammed.volume import Volume

SHAPE = (200, 512, 512)
QUANTILES = (0.5, 99.5)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    array = np.random.default_rng(0).normal(100, 300, SHAPE).astype(np.int16)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "fingerprint": (lambda: hashlib.sha256(array).hexdigest(), lambda: Volume.from_array(array).hash),
        "percentiles": (
            lambda: np.percentile(array[array > 0], QUANTILES),
            lambda: positive_percentiles(array, QUANTILES),
        ),
    }
    print(f"{'step':14}{'plain':>10}{'ours':>10}{'ratio':>8}")
    for name, (plain, ours) in pairs.items():
        times = [(seconds(plain), seconds(ours)) for _ in range(rounds)]
        slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:14}{1000 * slow:7.0f} ms{1000 * fast:7.0f} ms{slow / fast:8.2f}")


if __name__ == "__main__":
    main()
