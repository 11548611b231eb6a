"""Files in and out of a viewer: opened by the reader, segmented, saved by the writer, read by SimpleITK: same place."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

import napari_sammed
from napari_sammed.geometry import Box, Grid
from napari_sammed.plugin.files import reader
from napari_sammed.plugin.image.coordinates import grid_of, placement
from napari_sammed.plugin.image.images import volume_of
from napari_sammed.prompts import Point
from napari_sammed.segments import Segment, read_segments, write_segments
from napari_sammed.volume import ImageWarning, Volume, read_volume, write_volume
from tests.dicom_files import SECOND, write_series, write_slice
from tests.orientations import ALL_48, oblique_grids, reorient

OURS = "napari-sammed"
SHAPE = (8, 14, 18)
ORGAN = Box((2, 3, 4), (6, 9, 12))
TURNED = dict(enumerate(ALL_48[5::12])) | {f"oblique {n}": grid for n, grid in enumerate(oblique_grids(3, SHAPE))}


@pytest.fixture(autouse=True)
def plugin() -> None:
    """napari's own fixtures hide installed plugins."""
    if OURS not in PluginManager.instance():
        PluginManager.instance().register(
            PluginManifest.from_file(Path(napari_sammed.__file__).with_name("napari.yaml"))
        )


def scan() -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.int16)
    array[ORGAN.slices] += 100
    return array


def turned(key) -> Volume:
    plain = Volume(scan(), Grid.plain(SHAPE, (3.0, 0.8, 0.7)))
    return Volume(scan(), TURNED[key]) if isinstance(TURNED[key], Grid) else reorient(plain, *TURNED[key])


def assert_same_place(path: Path, like: Path) -> np.ndarray:
    """SimpleITK finds the same geometry in both files; the voxels of the first."""
    one, other = sitk.ReadImage(str(path)), sitk.ReadImage(str(like))
    assert one.GetSize() == other.GetSize()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(one, get)(), getattr(other, get)(), atol=1e-4)
    return sitk.GetArrayFromImage(one)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("key", TURNED, ids=str)
def test_opened_segmented_saved_read(tmp_path: Path, open_plugin, key, suffix: str) -> None:
    volume = turned(key)
    write_volume(volume, tmp_path / f"scan{suffix}")
    hands = open_plugin()
    (image,) = hands.viewer.open(str(tmp_path / f"scan{suffix}"), plugin=OURS)
    hands.widget.coordinator.choose_image(image)
    hands.settle()
    hands.session.model = "thresholder"
    inside = np.argwhere(volume.array > 50)[0]
    hands.session.add(Point(tuple(map(float, inside)))).result(10)
    hands.settle()
    hands.viewer.layers.selection = {hands.writer.labels}
    out = tmp_path / f"out{suffix}"
    assert hands.viewer.layers.save(str(out), selected=True, plugin=OURS) == [str(out)]
    np.testing.assert_array_equal(assert_same_place(out, tmp_path / f"scan{suffix}") > 0, volume.array > 50)

    hands.viewer.layers.selection = {image}
    copy = tmp_path / f"copy{suffix}"
    hands.viewer.layers.save(str(copy), selected=True, plugin=OURS)
    np.testing.assert_array_equal(assert_same_place(copy, tmp_path / f"scan{suffix}"), volume.array)


@pytest.mark.filterwarnings("ignore::napari_sammed.volume.ImageWarning")
def test_dicom_in_and_dicom_segmentation_out(tmp_path: Path, open_plugin, qtbot) -> None:
    stored = (scan() + 1024).astype(np.uint16)
    write_series(tmp_path / "ct", stored, np.arange(SHAPE[0]) * 2.5, lean=(0, 0.25, 0))
    hands = open_plugin()
    (image,) = hands.viewer.open(str(tmp_path / "ct"), plugin=OURS)
    hands.widget.coordinator.choose_image(image)
    hands.settle()
    hands.session.model = "thresholder"
    hands.session.add(Point((3.0, 5.0, 7.0))).result(10)
    hands.session.rename(hands.session.current, "left kidney")
    hands.settle()
    hands.segmentation.save(tmp_path / "panel.dcm")
    qtbot.waitUntil((tmp_path / "panel.dcm").exists, timeout=20_000)
    hands.viewer.layers.selection = {hands.writer.labels}
    hands.viewer.layers.save(str(tmp_path / "writer.dcm"), selected=True, plugin=OURS)
    for name, said in (("panel.dcm", "left kidney"), ("writer.dcm", "Segment 1")):
        (found,), _ = read_segments(tmp_path / name)
        assert (found.name, found.box.shift((2, 0, 0))) == (said, ORGAN) and found.mask.all()

    (labels,) = hands.viewer.open(str(tmp_path / "panel.dcm"), plugin=OURS)
    assert type(labels).__name__ == "Labels" and labels.metadata["label_names"] == {1: "left kidney"}
    corner = labels.data_to_world((0, ORGAN.low[1], ORGAN.low[2]))
    np.testing.assert_allclose(image.world_to_data(corner), ORGAN.low, atol=1e-3)


def test_overlapping_segments_open_as_layers_of_their_own(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", (scan() + 1024).astype(np.uint16), np.arange(SHAPE[0]) * 2.5)
    segments = [Segment(name, np.ones(ORGAN.shape, bool), ORGAN) for name in ("liver", "tumour")]
    write_segments(segments, read_volume(tmp_path / "ct"), tmp_path / "a.dcm")
    layers = ViewerModel().open(str(tmp_path / "a.dcm"), plugin=OURS)
    assert [layer.metadata["label_names"] for layer in layers] == [{1: "liver"}, {1: "tumour"}]
    assert all(layer.data.sum() == ORGAN.grow(0).shape[0] * 6 * 8 for layer in layers)


def test_labels_without_an_image_from_dicom_are_no_dicom_segmentation(tmp_path: Path) -> None:
    viewer = ViewerModel()
    viewer.add_labels(np.ones(SHAPE, np.uint8), name="mine")
    with pytest.raises(RuntimeError, match="mine was not read from DICOM"):
        viewer.layers.save(str(tmp_path / "a.dcm"), plugin=OURS)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_layers_of_any_transform_are_saved_where_they_are(tmp_path: Path) -> None:
    viewer = ViewerModel()
    array = dask.array.from_array(scan(), chunks=4)
    layer = viewer.add_image(array, scale=(3, 0.8, 0.7), translate=(5, 6, 7), rotate=(20, 10, 5), name="turned")
    labels = viewer.add_labels((scan() > 50).astype(int), affine=layer.affine, scale=(3, 0.8, 0.7), translate=(5, 6, 7))
    labels.rotate = layer.rotate
    for saved in (layer, labels):
        viewer.layers.selection = {saved}
        viewer.layers.save(str(tmp_path / f"{saved.name}.nrrd"), selected=True, plugin=OURS)
    image = sitk.ReadImage(str(tmp_path / "turned.nrrd"))
    for index in ((0, 0, 0), (7, 13, 17), (3, 0, 5)):
        world = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]])
        np.testing.assert_allclose(world, layer.data_to_world(index)[::-1], atol=1e-4)
    np.testing.assert_array_equal(
        assert_same_place(tmp_path / f"{labels.name}.nrrd", tmp_path / "turned.nrrd"), scan() > 50
    )


def test_frames_and_formats_that_cannot_be_saved(tmp_path: Path) -> None:
    viewer = ViewerModel()
    viewer.add_labels(np.zeros((2, *SHAPE), np.uint8), name="film")
    with pytest.raises(RuntimeError, match="film has 4 axes"):
        viewer.layers.save(str(tmp_path / "a.nrrd"), plugin=OURS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("grid", list(oblique_grids(4, SHAPE)), ids=range(4))
def test_parts_of_turned_images_lie_on_them(grid: Grid) -> None:
    viewer = ViewerModel()
    whole = viewer.add_image(scan(), **placement(grid))
    part = viewer.add_image(scan()[ORGAN.slices], **placement(grid.crop(ORGAN)))
    np.testing.assert_allclose(whole.world_to_data(part.data_to_world((0, 0, 0))), ORGAN.low, atol=1e-4)


def test_a_layer_remembers_its_dicom_files_until_it_is_cropped(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", (scan() + 1024).astype(np.uint16), np.arange(SHAPE[0]) * 2.5)
    (layer,) = ViewerModel().open(str(tmp_path / "ct"), plugin=OURS)
    assert volume_of(layer).files == read_volume(tmp_path / "ct").files
    layer.data = layer.data[:, 2:]
    assert volume_of(layer).files == ()
    assert grid_of(layer, layer.data.shape).shape == layer.data.shape


def film(tmp_path: Path, suffix: str) -> tuple[Path, np.ndarray]:
    """A file of three frames, the organ a slice further on in each."""
    frames = np.stack([np.roll(scan(), shift, 0) for shift in range(3)])
    sitk.WriteImage(sitk.GetImageFromArray(frames, isVector=False), str(tmp_path / f"film{suffix}"))
    return tmp_path / f"film{suffix}", frames


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_frames_are_layers_each_with_a_session(tmp_path: Path, open_plugin, suffix: str) -> None:
    path, frames = film(tmp_path, suffix)
    hands = open_plugin()
    layers = hands.viewer.open(str(path), plugin=OURS)
    assert [layer.name for layer in layers] == [f"film{suffix} [frame {n}]" for n in range(3)]
    assert [layer.visible for layer in layers] == [True, False, False]
    for shift, layer in enumerate(layers):
        np.testing.assert_array_equal(layer.data, frames[shift])
        hands.widget.coordinator.choose_image(layer)
        hands.settle()
        hands.session.model = "thresholder"
        hands.session.add(Point((4.0 + shift, 5.0, 7.0))).result(10)
        hands.settle()
        np.testing.assert_array_equal(hands.labels > 0, frames[shift] > 50)
    hands.widget.coordinator.choose_image(layers[0])
    hands.settle()
    assert len(hands.session.objects) == 1  # the journal of the first frame is its own


def test_channels_are_layers(tmp_path: Path) -> None:
    channels = np.stack([scan(), scan() * 2], -1)
    sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(tmp_path / "two.nrrd"))
    layers = ViewerModel().open(str(tmp_path / "two.nrrd"), plugin=OURS)
    assert len(layers) == 2
    for layer, channel in zip(layers, np.moveaxis(channels, -1, 0), strict=True):
        np.testing.assert_array_equal(layer.data, channel)


def test_the_series_of_a_folder_are_layers(tmp_path: Path) -> None:
    stored = (scan() + 1024).astype(np.uint16)
    places = np.arange(SHAPE[0]) * 2.5
    write_series(tmp_path, stored, places)
    write_series(tmp_path, stored[:3], places[:3], series=SECOND, modality="MR", intercept=0)
    write_series(tmp_path, stored[:2], [0, 7], series=f"{SECOND}3", description="Localizer")
    write_slice(tmp_path / "other.dcm", stored[0], rows_and_columns=(0, 1, 0, 0, 0, -1), series=f"{SECOND}3")
    with pytest.warns(ImageWarning, match=r"\[series \d\] was left out: .*localizer"):
        layers = ViewerModel().open(str(tmp_path), plugin=OURS)
    assert sorted(layer.data.shape[0] for layer in layers) == [3, 8]
    assert {len(volume_of(layer).files) for layer in layers} == {3, 8}


@pytest.mark.parametrize(("name", "limit"), [("MEMORY_LIMIT", 5000), ("MOST_LAYERS", 2)])
def test_more_than_fits_is_left_out_and_told(tmp_path: Path, monkeypatch, name: str, limit: int) -> None:
    path, _ = film(tmp_path, ".nrrd")
    monkeypatch.setattr(reader, name, limit)
    with pytest.warns(ImageWarning, match=r"frame 2 and what follows were left out; 2 layers"):
        assert len(ViewerModel().open(str(path), plugin=OURS)) == 2
