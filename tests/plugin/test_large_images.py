"""Images that are not in memory: nothing is read before it is wanted, and what is wanted is read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sammed.plugin.image.images import bytes_to_read, check, spatial_shape, volume_of
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.prompts import Point
from tests.counting import Counting

SHAPE = (12, 40, 50)


def scan() -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.int16)
    array[3:8, 10:20, 10:25] += 100
    return array


@pytest.fixture
def far() -> Counting:
    return Counting(scan())


def test_looking_at_a_layer_reads_nothing(open_plugin, far, monkeypatch) -> None:
    Preferences().set("ask_above", 0.0)
    hands = open_plugin()
    layer = hands.viewer.add_image(far, contrast_limits=(0, 200))
    shown = far.read
    check(layer)
    assert spatial_shape(layer) == SHAPE and bytes_to_read(layer) == far.nbytes
    assert far.read == shown < far.nbytes


def test_large_images_are_read_when_they_are_asked_for(open_plugin, far, monkeypatch) -> None:
    Preferences().set("ask_above", 0.0)
    hands = open_plugin()
    hands.viewer.add_image(far, contrast_limits=(0, 200), name="far")
    hands.qtbot.waitUntil(lambda: "far has to be read first" in hands.message)
    assert hands.segmentation is None and not hands.panel.modes.isEnabled()
    assert far.read < far.nbytes
    hands.viewer.add_labels(np.zeros(SHAPE, int))  # what else happens in the viewer is no answer
    hands.qtbot.wait(50)
    assert hands.segmentation is None

    before = far.read
    hands.panel.image_section.image.activated.emit(0)
    hands.settle()
    assert hands.panel.modes.isEnabled()
    assert far.read - before < far.nbytes * 1.5  # once, and the slices that napari draws
    hands.session.model = "thresholder"
    before = far.read
    hands.session.add(Point((5.0, 15.0, 15.0))).result(10)
    hands.settle()
    np.testing.assert_array_equal(hands.labels > 0, scan() > 50)
    assert far.read - before < far.nbytes / 2  # clicks go to what was read


def test_small_ones_are_read_at_once(open_plugin, far) -> None:
    hands = open_plugin()
    hands.viewer.add_image(far, contrast_limits=(0, 200))
    hands.qtbot.waitUntil(lambda: hands.segmentation is not None and hands.session is not None)


def test_what_is_in_memory_is_not_read(open_plugin) -> None:
    layer = open_plugin().viewer.add_image(scan())
    assert bytes_to_read(layer) == 0
    assert np.shares_memory(volume_of(layer).array, layer.data)


def test_memory_maps_stay_on_disk(open_plugin, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scan())
    layer = open_plugin().viewer.add_image(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert bytes_to_read(layer) == scan().nbytes
    assert np.shares_memory(volume_of(layer).array, layer.data)


@pytest.mark.parametrize("level", [0, 1])
def test_of_a_pyramid_only_the_finest_level_is_read(open_plugin, level: int) -> None:
    levels = [Counting(scan()), Counting(np.ascontiguousarray(scan()[::2, ::2, ::2]))]
    hands = open_plugin()
    layer = hands.viewer.add_image(levels, multiscale=True, contrast_limits=(0, 200))
    hands.qtbot.waitUntil(lambda: hands.segmentation is not None and hands.session is not None)
    before = levels[level].read
    volume = volume_of(layer)
    np.testing.assert_array_equal(volume.array, scan())
    assert levels[level].read - before == (levels[0].nbytes if level == 0 else 0)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)], ids=str)
def test_axes_may_be_rolled(open_plugin, order: tuple[int, ...]) -> None:
    hands = open_plugin(scan(), scale=(3, 0.8, 0.7), translate=(5, 6, 7))
    hands.viewer.dims.order = order
    hands.mode("positive")
    hands.viewer.dims.set_point(range(3), hands.segmentation.image.data_to_world((5, 15, 15)))
    hands.writer.points.add((5, 15, 15))
    hands.settle()
    np.testing.assert_array_equal(hands.labels > 0, scan() > 50)
