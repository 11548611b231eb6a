"""Images on their way: slabs in order, the same voxels and grid to the last bit, and nothing else of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.protocol import images
from napari_sammed.backend.protocol.frames import Frame, read_frames
from napari_sammed.backend.protocol.images import ImageHeader, ImageWriter, image_frames, volume_of
from napari_sammed.errors import InputError, ProtocolError
from napari_sammed.geometry import Grid
from napari_sammed.volume import Volume


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    monkeypatch.setattr(images, "SLAB", 1000)


def example(dtype="<i2", colour=False) -> Volume:
    shape = (7, 11, 13)
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4))
    array = rng.integers(0, 100, (*shape, 3) if colour else shape).astype(dtype)
    return Volume(array[::-1], Grid.from_affine(shape, affine), "Anna", "CT", (Path("/data/Anna.dcm"),))


def sent(volume: Volume) -> list[bytes]:
    return [data for data, _ in image_frames(volume, ImageHeader.of(volume))]


def received(frames: list[bytes]) -> Volume:
    header_frame, *slabs = read_frames(frames, images.SLAB)
    header = ImageHeader.from_frame(header_frame)
    array = np.zeros(header.shape, header.dtype)
    writer = ImageWriter(header, array)
    for slab in slabs:
        writer.add(slab)
    writer.end()
    assert writer.share == 1
    return volume_of(header, array)


@pytest.mark.parametrize("dtype", ["<i2", "u1", "i1", "<u2", "<f4", ">f8", "<i8", "<f2", "?"])
@pytest.mark.parametrize("colour", [False, True])
def test_images_arrive_as_they_were(dtype, colour):
    volume = example(dtype, colour)
    again = received(sent(volume))
    assert again.hash == volume.hash and again.dtype == volume.dtype and again.grid == volume.grid
    np.testing.assert_array_equal(again.array, volume.array)


def test_flat_images_arrive_as_they_were():
    volume = Volume.from_array(np.arange(2000.0).reshape(40, 50), (0.1, 1 / 3))
    assert received(sent(volume)).hash == volume.hash


def test_names_stay_behind():
    data = b"".join(sent(example()))
    assert b"Anna" not in data and b"CT" not in data[:2000] and b"dcm" not in data


def test_the_share_grows_to_one():
    volume = example()
    shares = [share for _, share in image_frames(volume, ImageHeader.of(volume), threads=2)]
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares) and len(shares) > 3


def test_whoever_stops_reading_is_not_held_up():
    frames = image_frames(example(), ImageHeader.of(example()))
    next(frames), next(frames)
    frames.close()


def test_slabs_that_do_not_follow_are_refused():
    data = sent(example())
    with pytest.raises(ProtocolError, match="Slab 0 of 3 was expected"):
        received([data[0], data[2]])
    with pytest.raises(ProtocolError, match="Slab 1 of 3 was expected"):
        received([data[0], data[1], data[1]])
    with pytest.raises(ProtocolError, match="ends after 2 of 3"):
        received(data[:3])
    with pytest.raises(ProtocolError, match="was expected"):
        received([*data, data[1]])
    short = Frame({"slab": 0}, (np.zeros(3, "<i2"),)).encode()
    with pytest.raises(ProtocolError, match="has 500 int16"):
        received([data[0], short])


def test_other_voxels_or_another_grid_are_noticed():
    volume = example()
    data = sent(volume)
    changed = Frame({"slab": 0}, (np.zeros(500, "<i2"),)).encode()
    with pytest.raises(ProtocolError, match="damaged"):
        received([data[0], changed, *data[2:]])
    header = ImageHeader.of(volume)
    moved = dataclasses.replace(header, grid=Grid.plain(volume.grid.shape))
    with pytest.raises(ProtocolError, match="damaged"):
        received([moved.to_frame().encode(), *data[1:]])


def described(**changes) -> Frame:
    item = ImageHeader.of(example()).to_frame().header["image"]
    return Frame({"image": {**item, **changes}})


@pytest.mark.parametrize(
    "frame",
    [
        Frame({}),
        described(id="../../../etc/passwd"),
        described(id="A" * 64),
        described(id=None),
        described(dtype="|O"),
        described(dtype=[]),
        described(channels=2),
        described(channels=True),
        described(channels=1.0),
        described(shape=[-1, 11, 13]),
        described(shape=[0, 11, 13]),
        described(shape=[1 << 30, 1 << 30, 1 << 30]),
        described(shape=[7, 11, 13, 1]),
        described(shape=7),
        described(spacing=[0, 1, 1]),
        described(spacing=[1, 1, 1e400]),
        described(direction=[[1, 0, 0], [1, 0, 0], [1, 0, 0]]),
        described(direction=5),
        described(origin=["a", 0, 0]),
    ],
)
def test_what_is_no_image_is_refused(frame):
    with pytest.raises(InputError):
        ImageHeader.from_frame(frame)


def test_the_size_is_known_before_any_voxel_comes():
    assert ImageHeader.from_frame(described(shape=[30_000, 30_000, 30])).nbytes == 54_000_000_000
    colour = ImageHeader.of(example(colour=True))
    assert colour.nbytes == example(colour=True).nbytes == 7 * 11 * 13 * 3 * 2


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="has no longer floats")
def test_voxels_that_do_not_travel_are_refused():
    with pytest.raises(ProtocolError, match="convert the voxels"):
        ImageHeader.of(example(np.longdouble))
