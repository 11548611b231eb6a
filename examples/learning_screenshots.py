"""Correct a few images, have a model learn from that in the dock, and write pictures of the dock as it goes.

    python examples/learning_screenshots.py FOLDER CASE... [--structures NAME,NAME] [--steps N]

Each CASE is a folder with ``image.*`` or ``dicom``, ``labels.*`` and ``labels.json`` (value to name). Their structures
are taken over into sessions as if they had been corrected by hand; LiteMedSAM's decoder then learns from these in
a process of its own, with weights from the usual place. Needs a display.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from screenshots import LEFT, Tour

from napari_sammed.backend.local import LocalBackend
from napari_sammed.models.storage import cache_folder
from napari_sammed.plugin.learning.widget import LearnWidget
from napari_sammed.plugin.sessions.journals import journal_of
from napari_sammed.prompts import MaskPrompt
from napari_sammed.samples import Sample
from napari_sammed.session import Session
from napari_sammed.volume import read_volume, resample_labels


def correct(case: Path, structures: Sequence[str]) -> Sample:
    """A session with the labels of a case as its objects; gives the image and these labels."""
    path = case / "dicom" if (case / "dicom").is_dir() else next(case.glob("image.*"))
    image = read_volume(path)
    labels = resample_labels(read_volume(next(case.glob("labels.[!j]*"))), image.grid)
    names = {int(value): name for value, name in json.loads((case / "labels.json").read_text()).items()}
    backend = LocalBackend()
    source = {"path": str(path), "name": case.name}
    with Session(image, backend, journal=journal_of(image.hash), source=source) as session:
        for value, name in names.items():
            if name in structures and (labels == value).any():
                session.take(MaskPrompt(labels == value, (0,) * labels.ndim), name)
    backend.shutdown()
    return Sample(image, case.name, labels, names)


def wait(until: Callable[[], bool], seconds: float = 3600) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it takes too long"
        QTest.qWait(100)


def learn(folder: Path, cases: Sequence[Path], structures: Sequence[str], steps: int) -> None:
    """The dock before, while and after a model learns."""
    samples = [correct(case, structures) for case in cases]
    guide = Tour(samples[0], folder)
    guide.panel.session_button.entries["learn"].trigger()
    docks = guide.viewer.window.dock_widgets.values()
    dock = next(widget for widget in docks if isinstance(widget, LearnWidget))
    view, work = dock.view, dock.work
    wait(lambda: view.data.names != ())
    view.how.recipe.set_key("litemedsam")
    view.how.recipe.chosen.emit("litemedsam")
    view.more.steps.setValue(steps)
    view.more.held_out.setValue(30)
    QTest.qWait(500)
    guide.picture("before")
    QTest.mouseClick(view.start_button, LEFT)
    wait(lambda: work.run is not None and len(work.run.log.curve) >= 0.7 * min(steps, 20))
    QTest.qWait(1500)
    guide.picture("learning")
    wait(lambda: not work._alive)
    QTest.qWait(1500)
    print(view.run.text.text(), *view.run.figures(), sep="\n")
    guide.picture("done")
    if work.run.log.done:
        QTest.mouseClick(view.run.use_button, LEFT)
        wait(lambda: view.run.use_button.isEnabled())
        QTest.qWait(500)
        guide.picture("used")
    guide.widget.coordinator.close(wait=True)
    work.close(wait=True)
    guide.viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--structures", default="liver,spleen,aorta")
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    learn(given.folder, given.cases, given.structures.split(","), given.steps)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_SAMMED_SESSIONS"] = os.environ["NAPARI_SAMMED_CONFIG"] = home
        os.environ.setdefault("NAPARI_SAMMED_WEIGHTS", str(cache_folder()))  # that of the user is only read
        os.environ["NAPARI_SAMMED_CACHE"] = home
        application = QApplication.instance() or QApplication([])
        main()
        application.processEvents()
