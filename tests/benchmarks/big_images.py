"""A pyramid of 600 slices of 4096 x 4096 voxels in napari: how long a click takes, what is read, what memory it needs.

    xvfb-run -a -s "-screen 0 1600x1000x24" python tests/benchmarks/big_images.py [--clicks 20] [--folder DIR]

The OME-Zarr pyramid (10 GB of voxels, 3 GB on disk: bright blobs in a textured body) is made first, in a
temporary folder unless one is named, where it stays for the next time. Then a real viewer with the plugin shows it,
zoomed to single objects and zoomed out, and is clicked on, with the random walker (volumes) and LiteMedSAM (slices).
Times are from a mouse event on the canvas to the canvas drawn with the new labels, by software where there is no GPU;
the backend's own time (load, embed, decode) is taken off. Bytes read are those that went through the operating system
between click and answer, compressed. Memory is the peak of the whole process, napari and PyTorch included.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SHAPE = (600, 4096, 4096)
CHUNK, SHARD = (8, 256, 256), (64, 1024, 1024)
RADII = (20, 90)  # voxels


def blobs() -> np.ndarray:
    """Centres (z, y, x) and radii of the bright things, always the same ones."""
    random = np.random.default_rng(0)
    centres = random.uniform((100, 700, 700), (500, 3400, 3400), (400, 3))
    return np.column_stack([centres, random.uniform(*RADII, 400)])


def make(folder: Path) -> Path:
    """The pyramid as OME-Zarr 0.5: half the rows and columns at each level, slices as they are."""
    import zarr

    path = folder / "big.ome.zarr"
    if (path / "done").exists():
        return path
    group = zarr.open_group(path, mode="w")
    texture = np.random.default_rng(1).integers(0, 4, (SHARD[0], 512, 512), dtype=np.uint8)
    things, datasets = blobs(), []
    for level in range(5):
        step = 2**level
        shape = (SHAPE[0], SHAPE[1] // step, SHAPE[2] // step)
        shard = tuple(
            min(side, -(-size // chunk) * chunk) for side, size, chunk in zip(SHARD, shape, CHUNK, strict=True)
        )
        array = group.create_array(str(level), shape=shape, chunks=CHUNK, shards=shard, dtype="uint8")
        for z in range(0, shape[0], shard[0]):
            for y in range(0, shape[1], shard[1]):
                for x in range(0, shape[2], shard[2]):
                    low = np.array((z, y, x))
                    high = np.minimum(low + shard, shape)
                    array[tuple(map(slice, low, high))] = part(low, high, step, things, texture)
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [1, step, step]}]}
        )
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    (path / "done").touch()
    return path


def part(low: np.ndarray, high: np.ndarray, step: int, things: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Voxels of a box of a level: nothing outside of the body, texture in it, blobs."""
    z, y, x = np.ogrid[tuple(map(slice, low, high))]
    y, x = y * step + step // 2, x * step + step // 2
    body = ((y - 2048) / 1900) ** 2 + ((x - 2048) / 1900) ** 2 < 1
    tiles = texture[: high[0] - low[0]][:, np.arange(low[1], high[1]) % 512][:, :, np.arange(low[2], high[2]) % 512]
    voxels = np.where(body, tiles + np.uint8(40), np.uint8(0))
    for cz, cy, cx, radius in things:
        near = [
            slice(max(int((c - radius) / s) - 1 - lo, 0), max(min(int((c + radius) / s) + 2, hi) - lo, 0))
            for c, s, lo, hi in zip((cz, cy, cx), (1, step, step), low, high, strict=True)
        ]
        if all(line.start < line.stop for line in near):
            inside = (z[near[0]] - cz) ** 2 + (y[:, near[1]] - cy) ** 2 + (x[:, :, near[2]] - cx) ** 2 <= radius**2
            voxels[tuple(near)] += (70 * inside).astype(np.uint8)
    return voxels


def read_so_far() -> int:
    """Bytes that this process has read through the operating system."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def peak() -> float:
    """GiB of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Bench:
    """A viewer with the plugin, and a user who clicks."""

    def __init__(self, path: Path) -> None:
        import napari

        from napari_sammed.backend.local import LocalBackend
        from napari_sammed.plugin.files.reader import read
        from napari_sammed.plugin.widget import SegmentWidget

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1400, 900)
        self.backend = LocalBackend()
        self.widget = SegmentWidget(self.viewer, self.backend)
        self.viewer.window.add_dock_widget(self.widget)
        start, before = time.perf_counter(), read_so_far()
        for data, options, _ in read(str(path)):
            self.viewer.add_image(data, **options)
        self.wait(lambda: self.current is not None and self.current.session is not None)
        seconds, size = time.perf_counter() - start, (read_so_far() - before) / 2**20
        print(f"opened in {seconds:.1f} s, {size:.1f} MiB read, {peak():.2f} GiB", flush=True)
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.drawn: list[float] = []
        self.canvas._scene_canvas.events.draw.connect(lambda _: self.drawn.append(time.perf_counter()), position="last")
        self.camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera

    @property
    def current(self):
        """The segmentation."""
        return self.widget.coordinator.current

    def wait(self, condition, seconds: float = 120) -> None:
        """Let the event loop run until something is so."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop, timer = QEventLoop(), QTimer()
        timer.timeout.connect(lambda: loop.quit() if condition() else None)
        timer.start(1)
        QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec()
        if not condition():
            raise SystemExit(f"waited in vain; the panel says: {self.widget.panel.status.message.text()}")

    def pause(self, milliseconds: int) -> None:
        """Let everything settle."""
        from qtpy.QtTest import QTest

        QTest.qWait(milliseconds)

    def go_to(self, place: np.ndarray, width: float) -> None:
        """Show a slice around a voxel, so many voxels wide."""
        self.viewer.dims.set_point(0, float(place[0]))
        self.camera.center = (0.0, float(place[1]), float(place[2]))
        self.camera.zoom = self.canvas.native.width() / width
        self.pause(400)

    def choose(self, model: str) -> None:
        """Choose a model and the tool for clicks."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        chooser = self.widget.panel.image_section.model
        chooser.box.set_key(model)
        self.widget.panel.preview.setChecked(False)  # whose answers would count for those of clicks
        QTest.mouseClick(self.widget.panel.modes.buttons["positive"], Qt.MouseButton.LeftButton)
        self.pause(500)

    def click(self, place: np.ndarray) -> tuple[float, float, float, int]:
        """Seconds from a click to the labels written and painted, of the backend among them, and bytes read."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        history = self.current.session.history
        known = set(history.answers)
        middle = np.array([self.canvas.native.height(), self.canvas.native.width()]) / 2
        row, column = (place[1:] - np.array(self.camera.center)[-2:]) * self.camera.zoom + middle
        point = QPoint(round(column), round(row))
        QTest.mouseMove(self.canvas.native, point)
        self.wait(lambda: not self.current.session.busy)
        self.pause(300)
        labels, written = self.current.writer.labels, []

        def note(event=None) -> None:
            if set(history.answers) > known:
                written.append(time.perf_counter())

        labels.events.set_data.connect(note)
        before, start = read_so_far(), time.perf_counter()
        QTest.mouseClick(self.canvas.native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point)
        self.wait(lambda: bool(written) and bool(self.drawn) and self.drawn[-1] > written[0])
        labels.events.set_data.disconnect(note)
        answer = history.answers[max(history.answers)]
        painted = next(moment for moment in self.drawn if moment > written[0])
        return written[0] - start, painted - start, answer.seconds["total"], read_so_far() - before

    def new_object(self) -> None:
        """The next click is of another object."""
        self.widget.panel.objects.new_button.click()
        self.pause(100)

    def close(self) -> None:
        """End everything."""
        self.widget.coordinator.close(wait=True)
        self.backend.shutdown()
        self.viewer.close()


def measure(bench: Bench, model: str, clicks: int, zoomed: bool) -> None:
    """Click on one thing after the other, twice each."""
    rows, voxels = [], []
    bench.choose(model)
    for number in range(-(-clicks // 2)):
        thing = blobs()[number]
        width = 4 * thing[3] if zoomed else 4300.0
        bench.go_to(thing[:3] if zoomed else np.array([thing[0], 2048, 2048]), width)
        bench.new_object()
        for offset in ((0, 0, 0), (0, 0.4 * thing[3], 0.3 * thing[3])):
            rows.append(bench.click(thing[:3] + offset))
        session = bench.current.session
        voxels.append(np.count_nonzero(session.objects[session.current].mask.mask))
    written, painted, backend, read = np.array(rows, float).T
    print(
        f"{model}, {'zoomed to the object' if zoomed else 'zoomed out'}: {len(rows)} clicks, "
        f"{min(voxels):,} to {max(voxels):,} voxels marked"
    )
    for name, values in (
        ("backend", backend),
        ("written, less backend", written - backend),
        ("painted, less backend", painted - backend),
    ):
        p50, p95 = 1000 * np.percentile(values, (50, 95))
        print(f"  {name:24} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms")
    print(
        f"  read for a click: p50 {np.percentile(read, 50) / 2**20:.1f} MiB, most {read.max() / 2**20:.1f} MiB; "
        f"peak memory {peak():.2f} GiB",
        flush=True,
    )


@contextmanager
def place(folder: Path | None) -> Iterator[Path]:
    """The folder for the pyramid."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=20, help="of each model and zoom")
    parser.add_argument("--models", nargs="+", default=["random-walker", "litemedsam"])
    parser.add_argument("--folder", type=Path, help="where the pyramid lies or is to be kept")
    parser.add_argument("--only-make", action="store_true", help="make the pyramid and stop")
    arguments = parser.parse_args()
    with place(arguments.folder) as folder, tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_SAMMED_SESSIONS"] = sessions
        start = time.perf_counter()
        path = make(folder)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(
            f"{' x '.join(map(str, SHAPE))} voxels, {size / 2**20:.0f} MiB on disk, "
            f"ready after {time.perf_counter() - start:.0f} s; {peak():.2f} GiB",
            flush=True,
        )
        if arguments.only_make:
            return
        bench = Bench(path)
        for model in arguments.models:
            for zoomed in (True, False):
                measure(bench, model, arguments.clicks, zoomed)
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
