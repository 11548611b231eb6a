"""OME-Zarr folders opened in napari."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed import lazy
from napari_sammed.plugin.files.reader import get_reader
from napari_sammed.plugin.image import images
from napari_sammed.plugin.image.images import volume_of
from napari_sammed.volume import read_volume
from tests.pyramids import write_pyramid

SHAPE = (12, 160, 220)


def scan() -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    array[3:8, 40:80, 100:160] += 100
    return array


def levels(array: np.ndarray) -> list[np.ndarray]:
    return [array[..., ::n, ::n] for n in (1, 2, 4)]


def test_a_pyramid_is_opened_and_segmented_where_it_lies(open_plugin, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(images, "READ_WHOLE", 1000)
    monkeypatch.setattr(lazy, "READ_WHOLE", 1000)
    place = {"scale": (3, 0.5, 0.25), "translation": (7, -3, 1)}
    path = write_pyramid(tmp_path / "scan.ome.zarr", levels(scan()), **place)
    ((data, options, kind),) = get_reader(str(path))(str(path))
    assert kind == "image" and options["contrast_limits"] == (0, 104)
    hands = open_plugin()
    layer = hands.viewer.add_image(data, **options)
    hands.settle()
    assert (
        layer.multiscale and layer.name == "scan.ome.zarr" and [str(unit) for unit in layer.units] == ["micrometer"] * 3
    )
    np.testing.assert_allclose(layer.data_to_world((1, 2, 4)), (7 + 3, -3 + 1, 1 + 1))
    assert volume_of(layer).grid.same_place(read_volume(path).grid)
    assert volume_of(layer).hash == read_volume(path).hash  # the session of the command line is continued
    hands.mode("positive")
    hands.viewer.dims.set_point(0, layer.data_to_world((5, 0, 0))[0])
    hands.writer.points.add((5, 60, 120))
    hands.settle()
    labels = hands.writer.labels
    np.testing.assert_array_equal(np.asarray(labels.data[0]) > 0, scan() > 50)
    np.testing.assert_allclose(labels.data_to_world((1, 2, 4)), layer.data_to_world((1, 2, 4)))
    hands.segmentation.save(tmp_path / "objects.ome.zarr")
    hands.qtbot.waitUntil(lambda: "Saved" in hands.message, timeout=10000)
    saved = read_volume(tmp_path / "objects.ome.zarr")
    np.testing.assert_array_equal(saved.array if saved.in_memory else saved.part(saved.grid.box), scan() > 50)
    assert saved.grid.same_place(volume_of(layer).grid)
    hands.segmentation.save(tmp_path / "objects.nii.gz")  # small enough for a label image
    hands.qtbot.waitUntil(lambda: "objects.nii.gz" in hands.message, timeout=10000)


def test_channels_become_layers_and_time_stays_an_axis(tmp_path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, 2, 12, 40, 50), np.uint8)
    shown = [{"label": "DAPI", "window": {"start": 3, "end": 99}}, {"label": "GFP", "window": {"start": 0, "end": 50}}]
    path = write_pyramid(tmp_path / "a.zarr", levels(array), axes="tczyx", omero={"channels": shown})
    found = get_reader(str(path))(str(path))
    assert [options["name"] for _, options, _ in found] == ["a.zarr DAPI", "a.zarr GFP"]
    assert found[0][1]["contrast_limits"] == (3, 99) and found[0][1]["axis_labels"] == ["t", "z", "y", "x"]
    for number, (data, _, _) in enumerate(found):
        assert [level.shape for level in data] == [(3, 12, 40, 50), (3, 12, 20, 25), (3, 12, 10, 13)]
        np.testing.assert_array_equal(np.asarray(data[1]), array[:, number, :, ::2, ::2])


@pytest.mark.parametrize("show", [True])
def test_napari_reads_no_more_than_the_displayed_slice(make_napari_viewer, tmp_path, show) -> None:
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, key):
            part = np.asarray(super().__getitem__(key))
            read.append(part.size)
            return part

    path = write_pyramid(tmp_path / "a.zarr", levels(scan()))
    ((data, options, _),) = get_reader(str(path))(str(path))
    for level in data:
        level.source = np.asarray(level).view(Watched)
    viewer = make_napari_viewer()
    viewer.add_image(data, **options)
    viewer.dims.set_point(0, 5)
    assert read and max(read) <= SHAPE[1] * SHAPE[2]
