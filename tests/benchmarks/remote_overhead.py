"""What a server at loopback adds to a click, and how long a CT takes to it.

    python -m tests.benchmarks.remote_overhead [CLICKS]

The same clicks go to a backend of this process and to a server of its own process, in turn, with the random walker and
LiteMedSAM; the masks have to be equal (on one thread each: sums of other lengths differ in the last digit, and so may a
voxel). Then a CT of 512 x 512 x 300 voxels is sent: a real one, its slices repeated with some noise.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import torch

from napari_sammed.backend.base import Backend
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol.images import ImageHeader, image_frames
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume, read_volume
from tests.server.serving import Client, process, volume

CT = Path(__file__).resolve().parents[3] / "shared" / "data" / "3d_ct_dicom_series_20slices" / "dicom"


def clicks(backends: tuple[Backend, Backend], image: Volume, model: str, count: int, first: Point | Box) -> None:
    """Ask both, prompt by prompt; prints what the second takes longer, and whether masks differ."""
    lot = np.random.default_rng(0)
    ids = [backend.open(image) for backend in backends]
    seconds: tuple[list[float], list[float]] = ([], [])
    different = 0
    centre = np.array(first.index if isinstance(first, Point) else np.add(first.low, first.high) // 2)
    for turn in range(count + 1):
        prompts, previous = Prompts((first,)), [None, None]
        for step in range(2):
            answers = []
            for side, backend in enumerate(backends):
                start = time.perf_counter()
                answers.append(backend.predict(ids[side], model, prompts, previous=previous[side]))
                if turn and step:  # the first turn loads and encodes
                    seconds[side].append(time.perf_counter() - start)
            here, there = answers
            different += here.box != there.box or not np.array_equal(here.mask, there.mask)
            previous = [answer.logits for answer in answers]
            away = lot.integers(-3, 4, image.grid.ndim) * ([0] + [1] * (image.grid.ndim - 1))
            prompts = prompts.add(Point(tuple((centre + away).tolist()), bool(step)))
    here, there = (np.array(times) * 1000 for times in seconds)
    more = np.percentile(there - here, (50, 95))
    print(
        f"{model}, image of {' x '.join(map(str, image.grid.shape))}, {count} clicks: here p50 {np.median(here):.1f}, "
        f"p95 {np.percentile(here, 95):.1f} ms; at the server p50 {np.median(there):.1f}, p95 "
        f"{np.percentile(there, 95):.1f} ms; of pairs, more by p50 {more[0]:.1f}, p95 {more[1]:.1f} ms; "
        f"{different} masks differ"
    )


def upload(url: str, image: Volume) -> None:
    """Send an image, and say how long that took and how many bytes it was."""
    start = time.perf_counter()
    header = ImageHeader.of(image)
    hashed = time.perf_counter() - start
    start = time.perf_counter()
    sizes = [len(data) for data, _ in image_frames(image, header)]
    packed = time.perf_counter() - start
    client = Client(url, timeout=600)
    start = time.perf_counter()
    assert client.send(image).status_code == 201
    sent = time.perf_counter() - start
    start = time.perf_counter()
    with httpx.Client(base_url=url, trust_env=False) as http:
        assert http.head(f"/v1/images/{header.id}").status_code == 200
    known = time.perf_counter() - start
    print(
        f"{' x '.join(map(str, image.grid.shape))} {image.array.dtype}: {image.nbytes / 2**20:.0f} MiB of voxels, "
        f"{sum(sizes) / 2**20:.0f} MiB sent ({image.nbytes / sum(sizes):.2f} times fewer); hash {hashed:.1f} s, "
        f"packing alone {packed:.1f} s, sent, checked and on disk in {sent:.1f} s; a second time {known * 1000:.0f} ms"
    )


def main(count: int) -> None:
    torch.set_num_threads(1)  # as the server
    ct = read_volume(CT)
    with tempfile.TemporaryDirectory() as name, process(Path(name) / "data") as server:
        here, there = LocalBackend("cpu"), RemoteBackend(server.url, consent=True)
        clicks((here, there), volume(), "random-walker", count, Point((5, 12, 14)))
        clicks((here, there), ct, "litemedsam", count, Box((10, 200, 200), (11, 300, 300)))
        there.shutdown()
        here.shutdown()
        lot = np.random.default_rng(0)
        slices = np.concatenate([ct.array] * 15).astype(np.int16)
        slices += lot.normal(0, 12, slices.shape).astype(np.int16)
        upload(server.url, Volume(slices, Grid.plain(slices.shape, (2.0, 0.98, 0.98))))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
