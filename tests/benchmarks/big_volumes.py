"""Memory and time of SAM-Med3D, with random weights at full size, on a CT of 1000 slices of 512 x 512 at 0.7 mm.

    python -m tests.benchmarks.big_volumes

Prints the peak of the resident size above the 500 MiB of the image (network, libraries and interpreter included) and
seconds: of a click whose answer stays in its cube, and of one whose object fills the image and is followed as far as
allowed. Linux only.
"""

from __future__ import annotations

import time

import numpy as np

from napari_sammed import networks
from napari_sammed.backend.local import LocalBackend
from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding
from napari_sammed.models.sam_med3d import SAMMed3D
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume
from tests.benchmarks.measuring import peak_size

SHAPE = (1000, 512, 512)
SPACING = (0.7, 0.7, 0.7)
MIDDLE = Prompts((Point((500, 256, 256)),))
WINDOW = Window.preset("soft-tissue")


class Kept(SAMMed3D):
    """Finds a block in the middle of its cube, whatever its network says."""

    share = 0.5

    def answer(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
    ) -> np.ndarray:
        values = np.abs(super().answer(embedding, points, labels, mask)) + 0.1
        places = np.abs(np.indices(values.shape) - (len(values) - 1) / 2).max(axis=0)
        return np.where(places < self.share * len(values) / 2, values, -values)


class Everywhere(Kept):
    """Finds its whole cube."""

    share = 1.0


def phantom() -> Volume:
    """A body of soft tissue with noise, built slice by slice."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    body = ((y - 256) / 150) ** 2 + ((x - 256) / 220) ** 2 < 1
    array = np.empty(SHAPE, np.int16)
    for plane in array:
        plane[:] = np.where(body, 40, -1000) + rng.integers(-20, 20, SHAPE[1:], np.int16)
    return Volume.from_array(array, SPACING)


def main() -> None:
    image = phantom()
    network = networks.create("sam-med3d")
    for title, made in (("in its cube", Kept), ("followed", Everywhere)):
        backend = LocalBackend(models={"sam-med3d": made(network)})
        opened = backend.open(image)

        def click(backend: LocalBackend = backend, opened: str = opened) -> None:
            start = time.perf_counter()
            answer = backend.predict(opened, "sam-med3d", MIDDLE, window=WINDOW)
            steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in answer.seconds.items() if step != "total")
            print(f"  {time.perf_counter() - start:.2f} s ({steps}), {answer.mask.sum():,} voxels", *answer.reductions)

        print(title)
        peak = peak_size(lambda click=click: (click(), click()))
        print(f"  peak {(peak - image.array.nbytes / 2**20) / 1024:.2f} GiB above the image")
        backend.shutdown()


if __name__ == "__main__":
    main()
