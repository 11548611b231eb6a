"""The same image, model and prompts give the same mask, voxel for voxel, from every way in."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

from SammedLib import volumes
from SammedLib.opening import local_backend

from napari_sammed.backend.local import LocalBackend
from napari_sammed.plugin.files.reader import image_layer
from napari_sammed.prompts import Box, Point
from napari_sammed.session import Session
from napari_sammed.volume import Volume, read_volume, write_volume
from tests.plugin import conftest as plugin
from tests.slicer.scenes import CLICKS, OBLIQUE, SPACING, Face, add_points, phantom, segment_mask

backend, open_plugin, sessions = plugin.backend, plugin.open_plugin, plugin.sessions


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An oblique volume on disk."""
    from napari_sammed.geometry import Grid

    array = phantom()
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([-1, -1, 1]) @ OBLIQUE * SPACING)[:, ::-1]
    affine[:3, 3] = 12.5, 30.0, -7.25
    path = tmp_path_factory.mktemp("same") / "oblique.nrrd"
    write_volume(Volume(array, Grid.from_affine(array.shape, affine)), path)
    return path


BOX = Box((7, 6, 10), (8, 38, 50))


def session_mask(file, model: str, prompts: list) -> np.ndarray:
    backend = LocalBackend("cpu")
    with Session(read_volume(file), backend) as session:
        session.model = model
        for prompt in prompts:
            session.add(prompt).result(timeout=240)
        mask = session.labels() > 0
    backend.shutdown()
    return mask


def command_line_mask(file, tmp_path, options: list[str]) -> np.ndarray:
    out = tmp_path / "mask.nrrd"
    command = [sys.executable, "-m", "napari_sammed.cli", "segment", str(file), "-o", str(out), "--json", *options]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["voxels"]
    return read_volume(out).array > 0


def slicer_mask(application, file, model: str, prompts: list) -> np.ndarray:
    """With the file read by Slicer, points through fiducials, and the segment read by Slicer."""
    node = application.io_manager.load_volumes(str(file))[0]
    face = Face()
    face.logic.use_backend(lambda: local_backend("cpu"))
    face.logic.model = model
    segmentation = face.logic.open(node)
    for prompt in prompts:
        if isinstance(prompt, Point):
            fiducials = add_points(volumes.to_world(node, [prompt.index])[0])
            face.logic.add_point(fiducials, 0, positive=prompt.positive)
        else:
            face.logic.add(prompt)
        face.wait(seconds=240)
    mask = segment_mask(segmentation, face.logic.segment_id, node)
    face.logic.close()
    return mask


def napari_mask(open_plugin, file, prompts: list) -> np.ndarray:
    """With points that are added to the plugin's layer, and the label layer read."""
    array, options, _ = image_layer(read_volume(file), "oblique")
    hands = open_plugin(array, model=None, **options)
    for prompt in prompts:
        hands.mode("positive" if prompt.positive else "negative")
        hands.writer.points.add(hands.writer.points.world_to_data(hands.segmentation.image.data_to_world(prompt.index)))
        hands.settle()
    return np.asarray(hands.labels) == 1


def test_clicks_and_the_random_walker(application, scene, file, tmp_path, open_plugin):
    prompts = [Point(tuple(map(float, index)), positive) for index, positive in CLICKS]
    order = sorted(prompts, key=lambda p: not p.positive)  # as the command line takes them
    ijk = [(",".join(f"{v:g}" for v in p.index[::-1]), p.positive) for p in order]
    options = [word for text, positive in ijk for word in ("--point" if positive else "--negative", text)]
    one = session_mask(file, "random-walker", order)
    two = command_line_mask(file, tmp_path, [*options, "--model", "random-walker"])
    three = slicer_mask(application, file, "random-walker", order)
    four = napari_mask(open_plugin, file, order)
    assert 500 < one.sum() < one.size // 2
    assert np.array_equal(one, two)
    assert np.array_equal(one, three)
    assert np.array_equal(one, four)


@pytest.mark.full
def test_a_box_and_litemedsam(application, scene, file, tmp_path, weights):
    low, high = BOX.low[::-1], BOX.high[::-1]
    text = ",".join(map(str, (*low, *high)))
    one = session_mask(file, "litemedsam", [BOX])
    two = command_line_mask(file, tmp_path, ["--model", "litemedsam", "--box", text])
    three = slicer_mask(application, file, "litemedsam", [BOX])
    assert 200 < one.sum() < 48 * 56
    assert np.array_equal(one, two)
    assert np.array_equal(one, three)
