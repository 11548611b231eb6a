"""Seven annotators at a server beside one client that floods it, with LiteMedSAM and real images.

    python -m tests.benchmarks.server_annotators [OBJECTS] [--flood 200] [--pause 8]

Each has a key and an image: boxes an object on one slice, corrects the answer with two clicks, thinks before each
prompt, and goes on to the next object. First each works alone at a server, then all at a new one, beside a client that
has 200 questions waiting at any time. Prints seconds from prompts to masks, and those of answers about health.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.evaluation.clicks import next_click
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point
from napari_sammed.server.keys import add_key
from napari_sammed.session import Session
from napari_sammed.volume import Volume, read_volume
from tests.server.flood import Flood
from tests.server.serving import process

MODEL = "litemedsam"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ITEMS = (
    "3d_ct_dicom_series_20slices/dicom",
    "3d_ct_torso_multiorgan",
    "3d_ct_torso_vertebrae",
    "3d_mr_torso_multiorgan",
    "3d_mr_brain_tumour_aniso",
    "3d_mr_cord_t2s_aniso_oblique",
    "2d_ct_abdomen_amos",
)


class Annotator:
    """Segments objects of one image, on one slice each, and notes how long answers take.

    Parameters
    ----------
    number : int
        Of the item, and of the dice for pauses.
    """

    def __init__(self, number: int) -> None:
        folder = DATA / ITEMS[number]
        self.image = _image(folder)
        self._truth = _image(folder.parent if folder.name == "dicom" else folder, "labels").array
        self._number = number

    def work(self, url: str, key: str, objects: int, pause: float, seconds: list[float]) -> int:
        """Work through some objects; says how many masks had no voxel of their object."""
        lot, missed = random.Random(self._number), 0
        backend = RemoteBackend(url, key, consent=True)
        ids = [int(label) for label in np.unique(self._truth) if label]
        with Session(self.image, backend) as session:
            for turn in range(objects):
                truth, box = self._object(ids[turn % len(ids)], turn // len(ids))
                label = session.new_object()
                prompt: Box | Point | None = box
                for _ in range(3):
                    if prompt is None:
                        break
                    time.sleep(lot.uniform(0.5, 1.5) * pause)
                    start = time.perf_counter()
                    session.add(prompt, model=MODEL).result()
                    seconds.append(time.perf_counter() - start)
                    mask = (session.labels() == label) & _slab(truth.shape, box)
                    prompt = next_click(mask, truth, self.image.grid.spacing)
                missed += not (mask & truth).any()
        backend.shutdown()
        return missed

    def _object(self, label: int, slice_off: int) -> tuple[np.ndarray, Box]:
        """One object on the slice where it is largest, or so many slices from there: its mask and its box."""
        mask = self._truth == label
        if mask.ndim == 3:
            areas = mask.sum((1, 2))
            z = int(np.argsort(areas)[::-1][min(slice_off, int((areas > 0).sum()) - 1)])
            mask = mask & _slab(mask.shape, Box((z, 0, 0), (z + 1, *mask.shape[1:])))
        found = [np.flatnonzero(mask.any(tuple(b for b in range(mask.ndim) if b != a))) for a in range(mask.ndim)]
        return mask, Box(tuple(int(f[0]) for f in found), tuple(int(f[-1]) + 1 for f in found))


def flood(url: str, key: str, count: int) -> Flood:
    """COUNT questions at a time, about all slices of a CT."""
    image, lot = _image(DATA / ITEMS[0]), random.Random(0)
    depth, *sides = image.grid.shape
    other = replace(image, array=image.array + 1)  # so that nothing of it is encoded yet
    clicks = [(lot.randrange(depth), *(size // 2 + lot.randint(-90, 90) for size in sides)) for _ in range(997)]
    return Flood(url, key, other, clicks, count, MODEL)


def watch(url: str, over: threading.Event, seconds: list[float]) -> None:
    with httpx.Client(base_url=url, trust_env=False) as http:
        while not over.wait(0.05):
            start = time.perf_counter()
            assert http.get("/v1/health").status_code == 200
            seconds.append(time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("objects", type=int, nargs="?", default=6)
    parser.add_argument("--flood", type=int, default=200)
    parser.add_argument("--pause", type=float, default=8.0, help="seconds of thought before a prompt, on average")
    options = parser.parse_args()
    annotators = [Annotator(number) for number in range(len(ITEMS))]
    alone: list[list[float]] = [[] for _ in annotators]
    beside: list[list[float]] = [[] for _ in annotators]
    health: list[float] = []
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        keys = [add_key(Path(name) / "keys", f"annotator-{number}") for number in range(len(annotators) + 1)]
        with process(Path(name) / "first", "--key-file", str(Path(name) / "keys")) as server:
            for number, annotator in enumerate(annotators):
                missed += annotator.work(server.url, keys[number], options.objects, 0.2, alone[number])
        over = threading.Event()
        with process(Path(name) / "second", "--key-file", str(Path(name) / "keys")) as server:
            flooding = flood(server.url, keys[-1], options.flood)
            while not flooding.answered:
                time.sleep(0.1)
            watcher = threading.Thread(target=watch, args=(server.url, over, health))
            watcher.start()
            found: list[int] = []

            def work(number: int) -> None:
                seconds = beside[number]
                found.append(annotators[number].work(server.url, keys[number], options.objects, options.pause, seconds))

            threads = [threading.Thread(target=work, args=(number,)) for number in range(len(annotators))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            over.set()
            watcher.join()
            flooding.end()
    print(f"| image | prompts | alone p50, p95 | beside p50, p95 | ratio of p95 |\n|{'---|' * 5}")
    together = ("all", [s for each in alone for s in each], [s for each in beside for s in each])
    for name, one, many in [*zip(ITEMS, alone, beside, strict=True), together]:
        a, b = np.percentile(one, (50, 95)), np.percentile(many, (50, 95))
        print(f"| {name} | {len(many)} | {a[0]:.2f}, {a[1]:.2f} s | {b[0]:.2f}, {b[1]:.2f} s | {b[1] / a[1]:.2f} |")
    print(
        f"{len(found)} of {len(annotators)} came to their end; masks without a voxel of their object: alone {missed}, "
        f"beside {sum(found)}; the flood had {flooding.answered} answers; "
        f"health p99 {np.percentile(health, 99) * 1000:.0f} ms"
    )


def _image(folder: Path, stem: str = "image") -> Volume:
    if folder.name == "dicom":
        return read_volume(folder)
    return read_volume(next(path for path in folder.glob(f"{stem}.*") if path.suffix != ".json"))


def _slab(shape: tuple[int, ...], box: Box) -> np.ndarray:
    """Where the slice of a box is."""
    inside = np.zeros(shape, bool)
    inside[(slice(box.low[0], box.high[0]),) if len(shape) == 3 else ...] = True
    return inside


if __name__ == "__main__":
    main()
