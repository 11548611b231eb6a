"""A face without windows that talks to a presenter, as the panel does, and what it takes to give it a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import slicer
from SammedLib import volumes
from SammedLib.presenter import Presenter

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote_choice import Place
from napari_sammed.models.random_walker import RandomWalker
from tests.slicer.scenes import add_points, segment_mask
from tests.thresholder import Thresholder


def here() -> LocalBackend:
    """This computer, with the models that the servers of the tests have."""
    models = {"thresholder": Thresholder(), "planar": Thresholder(planar=True), "random-walker": RandomWalker()}
    return LocalBackend("cpu", models=models)


class Desk:
    """A `SammedLib.presenter.View`.

    Attributes
    ----------
    said : list of str
    asked : list of tuple of str
        Questions, and what they mean.
    yes : bool
        What the user answers.
    """

    def __init__(self, model: str = "thresholder", make_backend: Callable[[], LocalBackend] = here) -> None:
        self.said: list[str] = []
        self.progress: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.yes = False
        self.presenter = Presenter(self, make_backend)
        self.logic = self.presenter.logic
        self.logic.model = model

    # ---- what the presenter shows --------------------------------------------------------------------------------

    def say(self, message: str, remark: str = "") -> None:
        self.said.append(message)

    def show_progress(self, text: str, share: float) -> None:
        self.progress.append(text)

    def refresh(self) -> None: ...

    def agrees(self, question: str, conditions: str) -> bool:
        self.asked.append((question, conditions))
        return self.yes

    # ---- what the user does --------------------------------------------------------------------------------------

    def go(self, url: str | None, key: str = "", certificate: Path | None = None) -> None:
        """Segment at a server, or here."""
        self.presenter.serving.choose(None if url is None else Place(url, certificate), key)

    def open(self, volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode | None = None):
        found = self.presenter.open(volume, segmentation)
        self.wait()
        return found

    def click(self, index: tuple, positive: bool = True, wait: bool = True) -> None:
        """Place a fiducial on a voxel."""
        node = add_points(volumes.to_world(self.logic.volume, [index])[0])
        self.presenter.placed(node, 0, positive)
        if wait:
            self.wait()

    def do(self, action: Callable[[], None]) -> None:
        action()
        self.wait()

    def masks(self) -> list[np.ndarray]:
        segmentation = self.logic.segmentation
        ids = segmentation.GetSegmentation().GetSegmentIDs()
        return [segment_mask(segmentation, segment_id, self.logic.volume) for segment_id in ids]

    def wait(self, until: Callable[[], bool] | None = None, seconds: float = 60) -> None:
        """Run the mailbox until nothing is on its way."""
        until = until or (lambda: not self.presenter.busy)
        end = time.monotonic() + seconds
        self.presenter.mailbox.run()
        while not until():
            assert time.monotonic() < end, f"no answer in time; said: {self.said[-3:]}"
            self.presenter.mailbox.run(0.01)
        self.presenter.mailbox.run()

    def close(self) -> None:
        self.presenter.close()


def same(found: list[np.ndarray], *expected: np.ndarray) -> bool:
    return len(found) == len(expected) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
