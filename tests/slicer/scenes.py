"""What the tests of the extension put into scenes, and hand calculations about it that use nothing of the extension."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import slicer
import vtk
from SammedLib.delivery import Listener, Mailbox
from SammedLib.logic import SammedLogic

from napari_sammed.backend.local import LocalBackend
from tests.thresholder import Thresholder

SPACING = (0.8, 1.1, 3.0)
"""mm along i, j, k."""

SHAPE = (9, 12, 15)
"""(k, j, i)."""

SIDE = 400
"""Of a view, in pixels."""

CLICKS = [((7, 22, 20), True), ((7, 20, 36), False), ((5, 30, 30), True)]
"""In `phantom`: index (k, j, i), and whether it belongs to the structure."""

PROPER = [
    (order, flips)
    for order, flips in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    if np.linalg.det(np.eye(3)[:, list(order)] * flips) > 0
]
"""The 24 ways to lay right-handed axes along those of the patient: i, j, k run along these RAS axes, this way."""

OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
"""A rotation whose every entry can be checked by hand."""


def directions(order: Sequence[int], flips: Sequence[int]) -> np.ndarray:
    """Matrix (3, 3) whose columns are the RAS directions of i, j and k."""
    return np.eye(3)[:, list(order)] * flips


def matrix(columns: np.ndarray, origin: Sequence[float] = (12.5, -30.0, 7.25)) -> np.ndarray:
    """IJK to RAS, (4, 4)."""
    result = np.eye(4)
    result[:3, :3] = columns * SPACING
    result[:3, 3] = origin
    return result


def blobs(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Three boxes that touch each other, at 300, 500 and 700, on noise around 100."""
    grey = np.random.default_rng(3).integers(96, 104, shape).astype(np.int16)
    z, y, x = (size // 3 for size in shape)
    grey[z : 2 * z, y : 2 * y, x : x + x // 2] = 300
    grey[z : 2 * z, y : 2 * y, x + x // 2 : 2 * x] = 500
    grey[z : 2 * z, 2 * y : 2 * y + 2, x : 2 * x] = 700
    return grey


def phantom() -> np.ndarray:
    """An ellipsoid with a darker one inside, in noise: (k, j, i)."""
    k, j, i = np.indices((14, 48, 56), float)
    grey = np.random.default_rng(5).normal(100, 12, k.shape)
    grey[((k - 7) / 5) ** 2 + ((j - 22) / 14) ** 2 + ((i - 30) / 18) ** 2 < 1] += 160
    grey[((k - 7) / 3) ** 2 + ((j - 20) / 5) ** 2 + ((i - 36) / 6) ** 2 < 1] -= 90
    return grey.clip(0, 400).astype(np.int16)


def add_volume(array: np.ndarray, ijk_to_ras: np.ndarray, name: str = "CT") -> slicer.vtkMRMLScalarVolumeNode:
    return slicer.util.addVolumeFromArray(array, ijkToRAS=ijk_to_ras, name=name)


def add_transform(matrix: np.ndarray, name: str = "Moved") -> slicer.vtkMRMLLinearTransformNode:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    values = vtk.vtkMatrix4x4()
    slicer.util.updateVTKMatrixFromArray(values, matrix)
    node.SetMatrixTransformToParent(values)
    return node


def add_bend(name: str = "Bent") -> slicer.vtkMRMLTransformNode:
    """A thin-plate spline: no matrix says what it does."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in itertools.product((-50.0, 50.0), repeat=3):
        source.InsertNextPoint(corner)
        target.InsertNextPoint(corner[0] + 5 * (corner[1] > 0) * (corner[2] > 0), corner[1], corner[2])
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformToParent(spline)
    return node


def add_points(*positions: Sequence[float]) -> slicer.vtkMRMLMarkupsFiducialNode:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "F")
    for position in positions:
        node.AddControlPoint(vtk.vtkVector3d(*position))
    return node


def segment_mask(
    segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, volume: slicer.vtkMRMLVolumeNode
) -> np.ndarray:
    """A segment's voxels on the volume's grid, as Slicer itself gives them."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
    return np.zeros(slicer.util.arrayFromVolume(volume).shape, bool) if array is None else array > 0


class Face(Listener):
    """A face without windows: a mailbox, and a list of what was heard."""

    def __init__(self, **models: object) -> None:
        models = models or {"thresholder": Thresholder(), "planar": Thresholder(planar=True)}
        self.backends = 0
        self.models = models
        self.mailbox = Mailbox()
        self.answers: list[object] = []
        self.errors: list[BaseException] = []
        self.progress: list[tuple[str, float]] = []
        self.logic = SammedLogic(self.mailbox.post, self, make_backend=self.make_backend)
        self.logic.model = next(iter(models))

    def make_backend(self) -> LocalBackend:
        self.backends += 1
        return LocalBackend("cpu", models=self.models)

    def progressed(self, what: str, share: float) -> None:
        self.progress.append((what, share))

    def answered(self, prediction: object) -> None:
        self.answers.append(prediction)

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)

    def wait(self, until: Callable[[], bool] | None = None, seconds: float = 60) -> None:
        """Run the mailbox until nothing is on its way; fail with the first error that was heard."""
        until = until or (lambda: not self.logic.busy)
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, "no answer in time"
            self.mailbox.run(0.01)
        self.mailbox.run()
        if self.errors:
            raise self.errors.pop()
