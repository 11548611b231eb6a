"""OME-Zarr images: the right place in the world, and nothing read that is not looked at."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_sammed import lazy
from napari_sammed.backend.local import LocalBackend
from napari_sammed.cli import main
from napari_sammed.errors import ChoiceError, InputError
from napari_sammed.formats import ome_zarr
from napari_sammed.formats.lazy_array import LazyArray
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.session.separate_files import save_each
from napari_sammed.volume import read_volume, write_mask
from tests.phantoms import two_balls
from tests.pyramids import write_pyramid
from tests.thresholder import Thresholder


def levels(array: np.ndarray) -> list[np.ndarray]:
    return [array, array[..., ::2, ::2], array[..., ::4, ::4]]


@pytest.fixture
def scene() -> np.ndarray:
    return two_balls((20, 80, 100))[0].array.astype(np.uint8)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_anisotropic_volume_lies_where_its_file_says(version, scene, tmp_path) -> None:
    path = write_pyramid(
        tmp_path / "a.ome.zarr", levels(scene), scale=(2000, 500, 250), translation=(7000, -3000, 1500), version=version
    )
    image = read_volume(path)
    assert image.name == "a" and image.in_memory
    np.testing.assert_array_equal(image.array, scene)
    assert image.grid.spacing == pytest.approx((2, 0.5, 0.25))  # micrometres in the file
    np.testing.assert_allclose(image.grid.to_world((0, 0, 0)), (1.5, -3, 7))
    np.testing.assert_allclose(image.grid.to_world((3, 2, 4)), (1.5 + 4 * 0.25, -3 + 2 * 0.5, 7 + 3 * 2))


def test_a_large_one_is_read_by_region(scene, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lazy, "READ_WHOLE", 1000)
    path = write_pyramid(tmp_path / "a.zarr", levels(scene), scale=(2, 1, 1))
    image = read_volume(path)
    assert not image.in_memory and image.factors == ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    box = Box((3, 8, 16), (4, 40, 80))
    np.testing.assert_array_equal(image.part(box), scene[box.slices])
    np.testing.assert_array_equal(image.part(box, (1, 8, 16)), scene[3:4, 8:40:4, 16:80:4])


def test_frames_are_chosen(tmp_path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (2, 3, 1, 40, 50), np.uint8)
    path = write_pyramid(tmp_path / "a.zarr", levels(array), axes="tczyx")
    with pytest.raises(ChoiceError, match="6 frames"):
        read_volume(path)
    image = read_volume(path, frame=4)
    np.testing.assert_array_equal(image.array, array[1, 1, 0])  # of one slice: a flat image
    with pytest.raises(InputError, match="no frame 6"):
        read_volume(path, frame=6)


def test_plain_arrays_and_other_folders(scene, tmp_path) -> None:
    stored = zarr.create_array(store=tmp_path / "plain.zarr", shape=scene.shape, dtype=scene.dtype)
    stored[:] = scene
    np.testing.assert_array_equal(read_volume(tmp_path / "plain.zarr").array, scene)
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    group.create_array("raw", shape=(4, 5), dtype="u1")
    with pytest.raises(InputError, match="no OME-Zarr image, but raw"):
        read_volume(tmp_path / "group.zarr")
    write_pyramid(tmp_path / "odd.zarr", [scene], axes="xyz")
    with pytest.raises(InputError, match=r"axes x, y, z: t, c, z, y and x in this order"):
        read_volume(tmp_path / "odd.zarr")
    broken = write_pyramid(tmp_path / "broken.zarr", levels(scene))
    zarr.open_group(broken).attrs["ome"] = {"multiscales": [{"axes": [{"name": "y"}], "datasets": [{"path": "9"}]}]}
    with pytest.raises(InputError, match="no OME-Zarr image that this package understands"):
        read_volume(broken)


def test_bioformats_layout(scene, tmp_path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write_pyramid(tmp_path / "a.zarr" / "0", levels(scene), version="0.4")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.zarr").array, scene)


@pytest.mark.parametrize("shape", [(20, 1300, 700), (1301, 699)], ids=str)
def test_labels_come_back(shape, tmp_path) -> None:
    grid = Grid.plain(shape, (3.0, 0.5, 0.7)[-len(shape) :])
    mask = np.zeros(shape, np.uint16)
    mask[..., 200:1100, 30:500] = 7
    mask[..., 5:9, 690:] = 300
    write_mask(mask, grid, tmp_path / "m.ome.zarr", {7: "liver", 300: "cyst"})
    back = read_volume(tmp_path / "m.ome.zarr")
    np.testing.assert_array_equal(back.array, mask)
    assert back.grid.same_place(grid) and back.grid.spacing == pytest.approx(grid.spacing)
    pyramid = ome_zarr.read(tmp_path / "m.ome.zarr")
    np.testing.assert_array_equal(np.asarray(pyramid.levels[1]), mask[..., 1::2, 1::2])
    about = zarr.open_group(tmp_path / "m.ome.zarr").attrs["ome"]
    assert about["image-label"]["properties"][0] == {"label-value": 7, "name": "liver"}
    write_mask(np.zeros(shape, bool), grid, tmp_path / "m.ome.zarr")  # takes the place of the other
    assert not read_volume(tmp_path / "m.ome.zarr").array.any()
    (tmp_path / "folder.zarr").mkdir()
    with pytest.raises(InputError, match="is no zarr folder"):
        write_mask(mask, grid, tmp_path / "folder.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.zarr", "m.ome.zarr"]


def test_objects_of_a_huge_image_are_saved_sparsely(tmp_path) -> None:
    class Ramp:
        """A volume that nobody could hold."""

        shape, dtype = (600, 4096, 4096), np.dtype(np.uint8)

        def __getitem__(self, key) -> np.ndarray:
            z, y, x = (np.arange(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
            inside = (abs(y - 2000) < 40)[:, None] & (abs(x - 3000) < 50)
            return (20 + 100 * (inside[None] & (abs(z - 300) < 5)[:, None, None])).astype(np.uint8)

    backend = LocalBackend(models={"thresholder": Thresholder()})
    image = lazy.LazyVolume([Ramp()], Grid.plain(Ramp.shape))
    with Session(image, backend) as session:
        session.add(Point((300, 2000, 3000)), model="thresholder").result(30)
        with pytest.raises(InputError, match=r"600 x 4096 x 4096 voxels takes 19 GiB: save as \.ome\.zarr"):
            session.save(tmp_path / "mask.nii.gz")
        session.save(tmp_path / "mask.ome.zarr")
        session.rename(1, "bar")
        assert save_each(session, tmp_path / "each.ome.zarr") == [tmp_path / "each_bar.ome.zarr"]
    assert (np.asarray(ome_zarr.read(tmp_path / "each_bar.ome.zarr").levels[0][300, 1990:2010, 2990:3010]) == 1).all()
    back = ome_zarr.read(tmp_path / "mask.ome.zarr")
    assert back.levels[0].shape == Ramp.shape
    part = np.asarray(back.levels[0][290:310, 1900:2100, 2900:3100])
    assert (part > 0).sum() == 9 * 79 * 99
    assert sum(file.stat().st_size for file in (tmp_path / "mask.ome.zarr").rglob("*") if file.is_file()) < 200_000
    backend.shutdown()


def test_on_the_command_line(scene, tmp_path, capsys, monkeypatch) -> None:
    path = write_pyramid(tmp_path / "a.zarr", levels(scene), scale=(3000, 1000, 1000))
    run = ["segment", str(path), "--model", "random-walker", "--point", "25,40,10"]
    assert main([*run, "-o", str(tmp_path / "near.nii.gz")]) == 0
    monkeypatch.setattr(lazy, "READ_WHOLE", 1000)
    assert main([*run, "-o", str(tmp_path / "far.ome.zarr")]) == 0
    near, far = read_volume(tmp_path / "near.nii.gz"), ome_zarr.read(tmp_path / "far.ome.zarr")
    found = np.asarray(far.levels[0]) > 0
    assert (near.array > 0).sum() > 100
    overlap = (found & (near.array > 0)).sum() / (found | (near.array > 0)).sum()
    assert overlap > 0.9  # the part that is looked at is another one


def test_lazy_arrays_index_like_arrays() -> None:
    whole = np.arange(5 * 41 * 33).reshape(5, 41, 33)
    level = LazyArray(whole)
    boxes = (np.s_[:, 2:7, 1:4], np.s_[0], np.s_[..., 2], np.s_[1, 3, 2], np.s_[:, ::2, 1::3], np.s_[0:0])
    for key in (1, np.s_[-1, -2:], *boxes):
        part = level[key]
        assert part.shape == whole[key].shape and part.ndim == whole[key].ndim and part.size == whole[key].size
        np.testing.assert_array_equal(np.asarray(part), whole[key])
    np.testing.assert_array_equal(np.asarray(level[:, 3:9][1], np.int16), whole[:, 3:9][1])
