"""The monkey: a window, an image after the other, one act after the other."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from random import Random

import dask.array
import napari
import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QColorDialog, QFileDialog, QMessageBox

from napari_sammed.backend.local import LocalBackend
from napari_sammed.plugin.image import images as image_layers
from napari_sammed.plugin.series.widget import SeriesWidget
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.session.records import replay
from tests.monkey import comparing, dialogs, frames, objects, prompting, series, tools, viewing  # noqa: F401  they fill the table
from tests.monkey.acts import ACTS
from tests.monkey.checks import differences, disagreements
from tests.monkey.faults import Faults
from tests.monkey.heartbeat import Heartbeat
from tests.monkey.models import NAMES, models
from tests.monkey.paws import Paws
from tests.monkey.remains import Memory, holder, living, threads, widgets
from tests.monkey.remains import objects as left_over
from tests.monkey.scene import Scene, folder_of_images, scenes

_BY_REGION = 100_000  # bytes above which images that are not in memory are read by region
_PATIENCE = 6  # s that layers and panel have to agree with the session, and threads to end, when nothing runs any more


class Monkey:
    """One window, worked in round by round.

    Parameters
    ----------
    seed : int
    folder : Path
        For what it saves.
    round_length : int
        Steps after which the dock is closed, everything deleted, and new images are made.
    verbose : bool
        Say every step.
    """

    def __init__(self, seed: int, folder: Path, round_length: int = 150, verbose: bool = False) -> None:
        self.seed = seed
        self.folder = folder
        self.round_length = round_length
        self.verbose = verbose
        self.random = Random(seed)
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self.faults = Faults(lambda text: print(f"{text}\n  seed {seed}, step {self.steps}", flush=True))
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1400, 950)
        self.heart = Heartbeat(self._hang)
        self.memory = Memory()
        self.hands: Paws = None
        self.series: SeriesWidget | None = None
        self.images_folder: Path = folder
        self.backend: LocalBackend = None
        self.scenes: list[Scene] = []
        self.arrays: list[tuple[np.ndarray, np.ndarray]] = []
        self.widget_counts: list[int] = []
        image_layers.READ_WHOLE = _BY_REGION
        self.faults.install()
        self._answer_dialogs()
        self._before: Counter[str] = Counter()

    # ---- running -------------------------------------------------------------------------------------------------

    def run(self, steps: int | None, minutes: float | None) -> None:
        """Work for a number of steps, or minutes."""
        end = None if minutes is None else time.perf_counter() + 60 * minutes
        while (steps is None or self.steps < steps) and (end is None or time.perf_counter() < end):
            self.begin()
            for _ in range(self.round_length):
                if (steps is not None and self.steps >= steps) or (end is not None and time.perf_counter() > end):
                    break
                self.step()
            self.finish()

    def begin(self) -> None:
        """A round with images of its own."""
        random = Random(f"{self.seed}/{self.steps}/images")
        self.scenes = scenes(random)
        random.shuffle(self.scenes)
        self.images_folder = self.folder / f"images {self.steps}"
        with self.heart.paused():
            folder_of_images(self.images_folder, random)
        self._before = living()
        self.backend = LocalBackend(models=models())
        for scene in self.scenes[:2]:
            self._add(scene)
        self.viewer.window._qt_window.show()
        self._open()

    def step(self) -> None:
        """One act, and a look at whether everything agrees."""
        self.steps += 1
        self.random = self.hands.random = Random(f"{self.seed}/{self.steps}")
        usable = [
            a for a in ACTS.values() if not a.session or (self.hands.open_ and self.hands.panel.modes.isEnabled())
        ]
        act = self.random.choices(usable, [a.weight for a in usable])[0]
        self.heart.action = f"step {self.steps}, {act.name}"
        self.faults.acted(f"{self.steps} {act.name}")
        try:
            said = act.do(self)
        except Exception:
            import traceback

            self.faults.add(f"in {act.name}: {traceback.format_exc()}")
            return
        if said is None:
            return
        self.counts[act.name] += 1
        self.faults.acted(f"{self.steps} {act.name}: {said}")
        if self.verbose:
            print(f"{self.steps:6} {act.name}: {said}", flush=True)
        if self.random.random() < 0.5:
            self.check()
        if self.random.random() < 0.02:
            self.undo_everything()

    def finish(self) -> None:
        """The end of a round: everything is replayed, closed and deleted, and must be gone then."""
        self.heart.action = f"step {self.steps}, end of a round"
        self.faults.acted(f"{self.steps} end of a round")
        self.check()
        self._replay()
        self.close_series_dock()
        self._close_dock()
        # Unseen: napari 0.9, with or without plugins, crashes when it draws by software after its last layer has gone.
        self.viewer.window._qt_window.hide()
        self.viewer.layers.clear()
        self.viewer.dims.ndisplay = 2
        with self.heart.paused():
            self.backend.shutdown()
        self.hands = None
        self.scenes, self.arrays = [], []
        QApplication.clipboard().clear()
        Paws.wait_a_bit()
        with self.heart.paused():
            self.backend = None
            end = time.perf_counter() + _PATIENCE
            while threads() and time.perf_counter() < end:  # the series dock has been writing
                Paws.wait_a_bit()
            left = left_over(self._before)
            if left:
                kept = holder(next((name for name in left if name not in self._before), next(iter(left))))
                self.faults.add(f"left after closing and deleting everything: {dict(left)}, kept by:\n{kept}")
            ours = threads()
            if ours:
                self.faults.add(f"threads left after closing: {ours}")
            self.widget_counts.append(widgets())
            used = self.memory.note()
        print(
            f"  {self.steps} steps, {len(self.faults.found)} faults, {used:.0f} MiB, {self.widget_counts[-1]} widgets, "
            f"{len(self.heart.over)} blocks of ours",
            flush=True,
        )

    # ---- looking -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Let everything come to rest, and compare."""
        self.hands.dismiss()
        if not self.hands.rest(20):  # a closer look by a model of few voxels goes through thousands of windows
            self.hands.panel.status.cancel_button.click()
        if not self.hands.rest():
            self.faults.add(f"something still runs a minute after it was called off: {self.hands.state()}")
            return
        if not self.hands.open_ or self.hands.canvas_busy:
            return
        end = time.perf_counter() + _PATIENCE
        while True:
            with self.heart.paused():
                found = [] if self.hands.session.busy else list(disagreements(self.hands))
            if not found or time.perf_counter() > end:
                break
            self.hands.qtbot.wait(100)
        for text in found:
            self.faults.add(text)
        with self.heart.paused():
            for array, original in self.arrays:
                if not np.array_equal(array, original):
                    self.faults.add("an image was written to")

    def undo_everything(self) -> None:
        """Back to nothing and forth again gives the same objects."""
        if not self.hands.rest() or not self.hands.open_:
            return
        session = self.hands.session
        if session.image_id is None or any(session.history.open_questions(label) for label in session.objects):
            return  # what is asked anew is answered anew
        self.faults.acted(f"{self.steps} undo everything and redo it")
        before, count = session.objects, len(session.history.done)
        for name in ("undo", "redo"):
            for _ in range(count):
                self.hands.panel.actions_[name].click()
            self.hands.rest()
            if name == "undo" and session.history.done:
                self.faults.add(f"{len(session.history.done)} actions are left after {count} times undo")
        with self.heart.paused():
            for text in differences(_Was(before), session, session.image.grid.shape):
                self.faults.add(f"after undo and redo of everything, {text}")
        self.check()

    def _replay(self) -> None:
        """The journal gives the same objects again."""
        if not self.hands.rest() or not self.hands.open_:
            return
        with self.heart.paused():
            session = self.hands.session
            again = replay(session.journal, session.image, self.backend)
            for text in differences(session, again, session.image.grid.shape):
                self.faults.add(f"replayed, {text}")

    # ---- what acts need ------------------------------------------------------------------------------------------

    @property
    def in_3d(self) -> bool:
        return self.viewer.dims.ndisplay == 3

    def row(self) -> int | None:
        """A row of the table of objects."""
        count = self.hands.panel.objects.sorted.rowCount()
        return self.random.randrange(count) if count else None

    def images(self) -> list:
        """Image layers that the plugin has not made."""
        images = [layer for layer in self.viewer.layers if isinstance(layer, napari.layers.Image)]
        return [layer for layer in images if not layer.name.endswith("disagreement")]

    def own_layers(self) -> list:
        """Layers that the plugin has made."""
        images = self.images()
        return [layer for layer in self.viewer.layers if layer not in images]

    def add_missing_image(self) -> str | None:
        missing = [s for s in self.scenes if not any(layer.metadata.get("scene") == s.name for layer in self.images())]
        if not missing:
            return None
        scene = self.random.choice(missing)
        self._add(scene)
        return scene.name

    def reopen(self) -> str:
        """Close the dock, and open it again: the session goes on."""
        self.check()
        before = self.hands.session.objects if self.hands.open_ else None
        image = None if before is None else self.hands.segmentation.view
        journal = None if before is None else self.hands.session.journal
        self._close_dock()
        self._open()
        if not self.hands.rest():
            self.faults.add("no session a minute after opening the dock again")
        now = self.hands.segmentation if self.hands.open_ and image is not None else None
        if now is not None and now.view.same(image) and now.session.journal == journal:
            with self.heart.paused():
                for text in differences(_Was(before), self.hands.session, self.hands.session.image.grid.shape):
                    self.faults.add(f"after opening the dock again, {text}")
        return f"{0 if before is None else len(before)} objects"

    def add_series_dock(self) -> None:
        """The dock for a folder of images, beside that of segmentation."""
        self.series = SeriesWidget(self.viewer)
        self.series_dock = self.viewer.window.add_dock_widget(self.series, name="Series", area="left")

    def close_series_dock(self) -> None:
        """What was done is saved."""
        if self.series is None:
            return
        self.viewer.window.remove_dock_widget(self.series_dock)
        self.series.close()
        self.series.deleteLater()
        self.series = self.series_dock = None
        self.hands.qtbot.wait(100)
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _add(self, scene: Scene) -> None:
        array = scene.array.copy()
        self.arrays.append((array, scene.array))
        data = dask.array.from_array(array, chunks=scene.chunks) if scene.chunks else array
        self.viewer.add_image(data, name=scene.name, metadata={"scene": scene.name}, **scene.layer)

    def _open(self) -> None:
        widget = SegmentWidget(self.viewer, self.backend)
        self._dock = self.viewer.window.add_dock_widget(widget, name="SAMMed", area="right")
        section = widget.panel.image_section.model
        section.set_models([Choice(name, name.title()) for name in NAMES], {})
        widget.panel.classes.model.set_models([Choice("labeller", "Labeller")], {})
        section.box.set_key("thresholder")
        self.hands = Paws(self.viewer, widget)
        self.hands.random = self.random
        self.hands.rest()

    def _close_dock(self) -> None:
        widget = self.hands.widget
        self.viewer.window.remove_dock_widget(self._dock)
        widget.close()
        widget.deleteLater()
        self._dock = self.hands.widget = self.hands.panel = None
        end = time.perf_counter() + 20
        while self._of_the_dock() and time.perf_counter() < end:
            self.hands.qtbot.wait(50)
        if self._of_the_dock():
            self.faults.add(f"20 s after the dock was closed there are threads {threads()}\n{Paws.stacks()}")
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    def _of_the_dock(self) -> list[str]:
        """Threads that should end with the dock: not those of the backend, nor of the other dock."""
        others = ("inference",) if self.series is None else ("inference", "series")
        return [name for name in threads() if not any(other in name for other in others)]

    def _answer_dialogs(self) -> None:
        """Files and colours are chosen at once: nothing waits for somebody."""

        def file(parent: object, title: str, *rest: object, **more: object) -> tuple[str, str]:
            if "session" in title:
                return str(self.folder / f"{self.random.randrange(3)}.sammed.jsonl"), ""
            ending = "csv" if "table" in title else self.random.choice(("nii.gz", "nrrd", "mha", "tif"))
            return str(self.folder / f"saved.{ending}"), ""

        def existing(*_: object, **__: object) -> tuple[str, str]:
            return str(self.random.choice(sorted(self.folder.glob("*.sammed.jsonl")))), ""

        QFileDialog.getSaveFileName = staticmethod(file)
        QFileDialog.getOpenFileName = staticmethod(existing)
        QMessageBox.question = staticmethod(lambda *_: QMessageBox.StandardButton.Yes)
        QColorDialog.getColor = staticmethod(lambda *_: QColor(self.random.randrange(1 << 24)))

    def _hang(self) -> None:
        import faulthandler

        print(f"HANGS in {self.heart.action}, seed {self.seed}", flush=True)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(3)


class _Was:
    """Objects of a session as they were."""

    def __init__(self, objects_: dict) -> None:
        self.objects = objects_
