"""Images that are read by region in napari: labels without a label array, and nothing read but what is looked at."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest

from napari_sammed.formats.lazy_array import LazyArray
from napari_sammed.geometry import Box
from napari_sammed.plugin.image import images
from napari_sammed.plugin.image.images import by_region, bytes_to_read, check, volume_of
from napari_sammed.plugin.layers.large_labels import LargeLabelView, Level
from napari_sammed.prompts import Point
from tests.counting import Counting

SHAPE = (12, 700, 1100)


def scan() -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    array[3:8, 100:180, 300:420] += 100
    return array


@pytest.fixture
def large(monkeypatch) -> None:
    """Everything on disk is large."""
    monkeypatch.setattr(images, "READ_WHOLE", 1000)


def levels(array: np.ndarray) -> list[dask.array.Array]:
    return [dask.array.from_array(array[:, ::n, ::n], chunks=(4, 128, 128)) for n in (1, 2, 4)]


def shown(layer) -> np.ndarray:
    """The labels of the displayed slice at full resolution, as napari would read them."""
    return np.asarray(layer.data[0])


def test_which_images_are_read_by_region(open_plugin, large, tmp_path) -> None:
    viewer = open_plugin().viewer
    np.save(tmp_path / "a.npy", scan())
    near = viewer.add_image(scan(), name="near")
    mapped = viewer.add_image(np.load(tmp_path / "a.npy", mmap_mode="r"), name="mapped")
    pyramid = viewer.add_image(levels(scan()), name="pyramid", contrast_limits=(0, 200))
    assert [by_region(layer) for layer in (near, mapped, pyramid)] == [False, True, True]
    for layer in (mapped, pyramid):
        check(layer)
        assert bytes_to_read(layer) == 0  # before it can be segmented
        volume = volume_of(layer)
        assert not volume.in_memory and volume.grid.shape == SHAPE
        np.testing.assert_array_equal(volume.part(Box((3, 10, 20), (4, 30, 50))), scan()[3:4, 10:30, 20:50])
    assert volume.factors == ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    assert volume_of(near).in_memory


def test_a_click_is_shown_without_a_label_array(open_plugin, large) -> None:
    hands = open_plugin(levels(scan()), multiscale=True, contrast_limits=(0, 200), scale=(3, 0.5, 0.5))
    assert not hands.session.image.in_memory
    assert "read in parts" in hands.panel.status.remark.text()
    hands.mode("positive")
    hands.settle()
    layer = hands.writer.labels
    assert layer.multiscale and not layer.editable and all(isinstance(level, LazyArray) for level in layer.data)
    assert [level.shape for level in layer.data] == [SHAPE, (12, 350, 550), (12, 350, 275)]
    hands.viewer.dims.set_point(0, 5 * 3)
    hands.writer.points.add((5, 140, 350))
    hands.settle()
    expected = scan() > 50
    np.testing.assert_array_equal(shown(layer) > 0, expected)
    np.testing.assert_array_equal(np.asarray(layer.data[1][5]) > 0, expected[5, 1::2, 1::2])
    assert layer._slice.image.raw.any()  # what is on the canvas
    hands.act("undo")
    assert not shown(layer).any() and not layer._slice.image.raw.any()
    hands.act("redo")
    np.testing.assert_array_equal(shown(layer) > 0, expected)
    hands.viewer.dims.order = (1, 0, 2)
    assert [level.shape for level in layer.data] == [SHAPE, (12, 700, 550), (12, 700, 275)]
    hands.viewer.dims.ndisplay = 3
    assert layer.data[-1].shape == (12, 175, 137)


def test_it_is_continued_after_a_restart(open_plugin, large, backend) -> None:
    def start():
        return open_plugin(levels(scan()), multiscale=True, contrast_limits=(0, 200))

    hands = start()
    hands.mode("positive")
    hands.viewer.dims.set_point(0, 5)
    hands.writer.points.add((5, 140, 350))
    hands.settle()
    hands.widget.coordinator.close(wait=True)
    again = start()
    assert "Continued" in again.message and len(again.session.objects) == 1
    again.qtbot.waitUntil(lambda: again.writer.labels is not None)
    np.testing.assert_array_equal(shown(again.writer.labels) > 0, scan() > 50)


def test_opening_reads_a_sample_only(open_plugin, large) -> None:
    far = Counting(scan())
    hands = open_plugin()
    hands.viewer.add_image(far, contrast_limits=(0, 200))
    hands.settle()
    assert hands.session is not None and not isinstance(hands.writer._view, type(None))
    assert isinstance(hands.writer._view, LargeLabelView)
    assert far.read < far.nbytes * 2  # a sample of a small image is all of it
    before = far.read
    hands.session.add(Point((5, 140, 350)), model="planar", axis=0).result(10)
    hands.settle()
    assert far.read - before <= 2 * 700 * 1100


@pytest.mark.parametrize("steps", [(1, 1, 1), (1, 2, 2), (2, 4, 8), (1, 3, 5)], ids=str)
def test_levels_index_like_arrays(steps) -> None:
    whole = np.arange(np.prod((5, 41, 33)), dtype=np.uint16).reshape(5, 41, 33)

    def read(box: Box, every) -> np.ndarray:
        return whole[box.slices][tuple(slice(None, None, step) for step in every)]

    level = LazyArray(Level(whole.shape, steps, read))
    middles = [np.arange(step // 2, size, step) for step, size in zip(steps, whole.shape, strict=True)]
    array = whole[np.ix_(*middles)]
    np.testing.assert_array_equal(np.asarray(level), array)
    boxes = (np.s_[:, 2:7, 1:4], np.s_[0], np.s_[..., 2], np.s_[1, 3, 2], np.s_[:, ::2, 1::3], np.s_[0:0])
    for key in (1, np.s_[-1, -2:], *boxes):
        part = level[key]
        assert part.shape == array[key].shape and part.ndim == array[key].ndim and part.size == array[key].size
        np.testing.assert_array_equal(np.asarray(part), array[key])
    part = level[:, 3:9][1]
    np.testing.assert_array_equal(np.asarray(part, np.int64), array[:, 3:9][1])
