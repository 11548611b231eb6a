"""Answers of a server that come after what they are about has gone: never written anywhere else."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")
pytest.importorskip("fastapi", reason="needs the extra [server]")

import slicer
from SammedLib import names
from vtk.util import numpy_support

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote_choice import Servers
from napari_sammed.prompts import Point
from napari_sammed.server.settings import Settings
from tests.server.serving import in_thread
from tests.slicer.desks import Desk
from tests.slicer.scenes import OBLIQUE, add_volume, blobs, matrix, segment_mask
from tests.thresholder import Thresholder

VALUES = {300: (4, 5, 6), 500: (4, 5, 8), 700: (4, 8, 6)}
"""Of the blobs, and a voxel in each."""


class Tardy(Thresholder):
    """Takes some milliseconds, never as many as the last time."""

    def decode(self, *asked):
        time.sleep(random.uniform(0.0, 0.06))
        return super().decode(*asked)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with in_thread(
        Settings(tmp_path_factory.mktemp("server")), LocalBackend("cpu", models={"thresholder": Tardy()})
    ) as address:
        yield address


class Watch:
    """What every segment of the scene may look like.

    Segments that were asked about may be empty or be what was asked for; all others stay as they were.
    """

    def __init__(self, scene) -> None:
        self._scene = scene
        self.asked: dict[str, list[np.ndarray]] = {}  # by the name of the segmentation
        self._orphans: dict[str, dict[str, bytes]] = {}  # likewise, then by segment

    def allow(self, segmentation, mask: np.ndarray) -> None:
        self.asked.setdefault(segmentation.GetName(), []).append(mask)

    def freeze(self, segmentation) -> None:
        """Nothing about it may change any more."""
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        volume, core = segmentation.GetNodeReference(role), segmentation.GetSegmentation()
        now = [segment_mask(segmentation, segment_id, volume) for segment_id in core.GetSegmentIDs()]
        self.asked[segmentation.GetName()] = now

    def orphan(self, segmentation) -> None:
        """Its volume goes away: what was answered by now stays, and nothing comes any more."""
        ids = segmentation.GetSegmentation().GetSegmentIDs()
        self._orphans[segmentation.GetName()] = {segment_id: _labels(segmentation, segment_id) for segment_id in ids}

    def wrong(self) -> int:
        """How many segments look like nothing that was asked about them."""
        count = 0
        for segmentation in self._scene.GetNodesByClass("vtkMRMLSegmentationNode"):
            role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
            volume = segmentation.GetNodeReference(role)
            core = segmentation.GetSegmentation()
            for segment_id in core.GetSegmentIDs():
                if volume is None:  # since `orphan`
                    count += _labels(segmentation, segment_id) != self._orphans[segmentation.GetName()].get(segment_id)
                    continue
                found = segment_mask(segmentation, segment_id, volume)
                allowed = self.asked.get(segmentation.GetName(), []) if segment_id != "bystander" else []
                count += found.any() and not any(np.array_equal(found, mask) for mask in allowed)
        return count


def _labels(segmentation, segment_id: str) -> bytes:
    """A segment's own voxels, on whatever grid; nothing for none."""
    labelmap = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    if labelmap is None or not labelmap.GetNumberOfPoints():
        return b""
    value = segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    return (numpy_support.vtk_to_numpy(labelmap.GetPointData().GetScalars()) == value).tobytes()


def fresh(name: str, seed: int):
    """A volume that is like no other, and a segmentation with a segment that nobody asks about."""
    flips = tuple(slice(None, None, -1 if seed >> axis & 1 else 1) for axis in range(3))
    array = np.ascontiguousarray((blobs() + seed % 7)[flips])
    volume = add_volume(array, matrix(OBLIQUE), name)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} segmentation")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    names.add_segment(segmentation, "bystander", "bystander")
    return volume, segmentation, flips


def ask(desk: Desk, watch: Watch, segmentation, flips, rng: random.Random) -> None:
    """A new segment, and a click in it."""
    value, index = rng.choice(list(VALUES.items()))
    index = tuple(size - 1 - i if f.step == -1 else i for size, i, f in zip(blobs().shape, index, flips, strict=True))
    desk.presenter.next_segment()
    watch.allow(segmentation, (blobs() == value)[flips])
    desk.presenter.add(Point(tuple(map(float, index))))


def happenings(desk: Desk, scene, watch: Watch, rng: random.Random) -> str:
    """Something that takes what was asked about away, or puts something else in its place."""
    volume, segmentation = desk.logic.volume, desk.logic.segmentation
    what = rng.choice(["volume", "segmentation", "segment", "scene", "lookalike", "voxels", "image", "undo", "cancel"])
    if what == "volume":
        watch.orphan(segmentation)
        scene.RemoveNode(volume)
    elif what == "segmentation":
        scene.RemoveNode(segmentation)
    elif what == "segment":
        segmentation.GetSegmentation().RemoveSegment(segmentation.GetSegmentation().GetNthSegmentID(1))
    elif what in ("scene", "lookalike"):
        scene.Clear(False)
    elif what == "voxels":
        slicer.util.updateVolumeFromArray(volume, blobs()[:, ::-1].copy() + 3)
        watch.freeze(segmentation)
    elif what == "image":
        volume.SetAndObserveImageData(add_volume(blobs()[:, ::-1].copy() + 4, np.eye(4), "Other").GetImageData())
        watch.freeze(segmentation)
    elif what == "undo":
        desk.presenter.undo()
    elif what == "cancel":
        desk.presenter.cancel()
    return what


def soak(scene, url: str, count: int) -> None:
    rng = random.Random(count)
    desk, watch = Desk(), Watch(scene)
    Servers().agree(url)
    desk.go(url)
    desk.wait()
    requests = late = 0
    seen: set[str] = set()
    while requests < count:
        pairs = [fresh(f"CT {requests} {number}", rng.randrange(8 * 7)) for number in range(2)]
        for volume, segmentation, flips in pairs:
            desk.presenter.open(volume, segmentation)
            for _ in range(rng.randint(1, 3)):
                ask(desk, watch, segmentation, flips, rng)
                requests += 1
            if rng.random() < 0.5:
                desk.wait(lambda: desk.logic.session is not None)
                desk.presenter.mailbox.run(rng.uniform(0.0, 0.08))
        late += desk.presenter.busy
        what = happenings(desk, scene, watch, rng)
        seen.add(what)
        if "lookalike" in seen and rng.random() < 0.3:
            fresh("Lookalike", rng.randrange(8))  # with the IDs of what was there before
        assert watch.wrong() == 0, f"after {requests} requests, {what}, at once"
        desk.wait()
        assert watch.wrong() == 0, f"after {requests} requests, {what}"
        if rng.random() < 0.3:
            desk.go(None)
            desk.go(url)
    assert not [said for said in desk.said if "went wrong" in said]
    desk.wait()
    assert watch.wrong() == 0 and late > count / 10
    desk.close()


def test_of_another_image_never_shown(scene, url):
    soak(scene, url, 40)


@pytest.mark.full
def test_of_another_image_never_shown_in_large_numbers(scene, url):
    soak(scene, url, 200)
