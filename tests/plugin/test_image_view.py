"""Frames of layers with more axes than an image: which voxels they have, where they lie, and what is read for them."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_sammed.errors import InputError
from napari_sammed.plugin.image.array_part import part_of
from napari_sammed.plugin.image.coordinates import matrix_of
from napari_sammed.plugin.image.image_view import ImageView
from napari_sammed.plugin.image.images import bytes_to_read, check, spatial_shape, volume_of
from napari_sammed.plugin.layers.label_view import like


class OnDisk:
    """An array that reads when it is indexed, and takes no more than integers and slices, as zarr and HDF5 do."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.read = 0

    def __getitem__(self, key: Any) -> np.ndarray:
        assert all(isinstance(k, (int, slice)) for k in (key if isinstance(key, tuple) else (key,)))
        part = self._array[key]
        self.read += part.size
        return part


def series() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (3, 2, 4, 5, 6)).astype(np.int16)


KINDS = {
    "memory": lambda a: a,
    "dask": lambda a: dask.array.from_array(a, chunks=2),
    "disk": OnDisk,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [(), (2,), (2, 1), (2, 1, 3)], ids=str)
def test_a_part_is_what_indexing_gives(kind: str, at: tuple[int, ...]) -> None:
    array = series()
    part = part_of(KINDS[kind](array), at)
    assert (part.shape, part.ndim, part.dtype) == (array[at].shape, array[at].ndim, array.dtype)
    if at:
        np.testing.assert_array_equal(np.asarray(part), array[at])
        np.testing.assert_array_equal(np.asarray(part[1:3, ..., 2]), array[at][1:3, ..., 2])
        np.testing.assert_array_equal(np.asarray(part[1]), array[at][1])


@pytest.mark.parametrize("kind", KINDS)
def test_one_axis_may_be_colours(kind: str) -> None:
    array = series()
    for at, expected in (((None, 1), array[:, 1]), ((1, None), array[1]), ((1, None, 2), array[1, :, 2])):
        part = part_of(KINDS[kind](array), at)
        expected = np.moveaxis(expected, 0, -1)
        assert part.shape == expected.shape
        np.testing.assert_array_equal(np.asarray(part), expected)
        np.testing.assert_array_equal(np.asarray(part[1:3]), expected[1:3])
        np.testing.assert_array_equal(np.asarray(part[..., 1]), expected[..., 1])


def test_only_the_frame_is_read_and_memory_is_shared() -> None:
    disk = OnDisk(series())
    part = part_of(disk, (1, 0))
    assert disk.read == 0
    np.asarray(part)
    assert disk.read == 4 * 5 * 6
    layer = Image(series())
    view = ImageView(layer, 3, (1, 0), "frame 1, channel 0")
    assert np.shares_memory(volume_of(view).array, layer.data) and bytes_to_read(view) == 0
    assert spatial_shape(view) == (4, 5, 6) and not view.rgb
    assert volume_of(view).name == view.title == f"{layer.name}, frame 1, channel 0"


def test_what_is_asked_of_the_view_is_that_of_its_axes() -> None:
    layer = Image(
        series(),
        axis_labels=("t", "c", "z", "y", "x"),
        units=("s", "pixel", "mm", "um", "um"),
        scale=(9, 8, 3, 100, 200),
    )
    view = ImageView(layer, 3, (1, 0))
    assert view.axis_labels == ("z", "y", "x") and [str(unit) for unit in view.units][1] == "micrometer"
    np.testing.assert_allclose(volume_of(view).grid.spacing, (3, 0.1, 0.2))
    whole = ImageView.whole(Image(series()[0, 0]))
    assert whole.at == () and like(whole)["affine"] is whole.layer.affine


ANGLE = 0.3
TURN = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)], [0, np.sin(ANGLE), np.cos(ANGLE)]])


def affine(inner: np.ndarray) -> np.ndarray:
    matrix = np.eye(6)
    matrix[2:5, 2:5] = inner
    matrix[:5, 5] = (3, -2, 5, 6, 7)
    return matrix


PLACES = {
    "plain": {},
    "scaled": {"scale": (10, 2, 3, 0.5, 0.25), "translate": (1, 2, 30, 40, 50)},
    "flipped": {"scale": (1, 1, -3, 1, -0.5), "translate": (0, 0, 60, 0, 9)},
    "turned": {"affine": affine(TURN * [3, 1, 0.5]), "scale": (2, 1, 1, 1, 1)},
    "sheared": {"shear": affine(np.array([[1, 0.2, 0.1], [0, 1, -0.3], [0, 0, 1]]))[:5, :5], "scale": (4, 1, 3, 1, 1)},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_layer_like_a_frame_lies_over_it(place: str, ndim: int) -> None:
    array = series()
    layer = Image(array, **PLACES[place])
    at = (1,) * (5 - ndim)
    view = ImageView(layer, ndim, at)
    if view.mixes_axes:
        assert ndim == 2 and place in ("turned", "sheared")
        with pytest.raises(InputError, match="turns or shears its frames into one another"):
            check(view)
        return
    check(view)
    over = Labels(np.zeros(array.shape[-ndim:], int), **like(view))
    np.testing.assert_allclose(matrix_of(over), matrix_of(view), atol=1e-12)
    for index in ([0] * ndim, range(1, ndim + 1)):
        seen = layer.data_to_world((*at, *index))[-ndim:]
        np.testing.assert_allclose(over.data_to_world(index), seen)
        np.testing.assert_allclose(view.data_to_world(index), seen)


def test_frames_that_are_turned_into_one_another_are_refused() -> None:
    layer = Image(series(), affine=affine(np.eye(3)) + np.eye(6, k=2) * 0.5)
    with pytest.raises(InputError, match=r"transform of .* turns or shears its frames"):
        check(ImageView(layer, 3, (0, 0)))


def test_what_is_in_view_is_told_at_full_resolution() -> None:
    big = np.random.default_rng(0).integers(0, 99, (2, 64, 96)).astype(np.uint8)
    viewer = ViewerModel()
    plain = viewer.add_image(big)
    pyramid = viewer.add_image([big, big[:, ::4, ::4]], multiscale=True)
    pyramid.data_level = 1
    for layer in (plain, pyramid):
        corners = ImageView(layer, 2, (0,)).corner_pixels
        assert corners.shape == (2, 2) and (corners[1] <= (63, 95)).all()


def test_views_know_each_other() -> None:
    layer, other = Image(series()), Image(series())
    view = ImageView(layer, 3, (1, 0), "frame 1")
    assert view.same(ImageView(layer, 3, (1, 0))) and view.beside(ImageView(layer, 3, (2, 0)))
    assert not view.same(ImageView(layer, 3, (2, 0))) and not view.beside(ImageView(layer, 2, (1, 0, 0)))
    assert not view.beside(ImageView(other, 3, (1, 0)))
