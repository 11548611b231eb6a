"""Volumes: what arrays become, what files say, and that every format keeps voxels and place."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.volume import ImageWarning, Volume, read_volume, resample_labels, write_mask, write_volume
from tests.orientations import oblique_grids

GRIDS = {f"oblique{i}": grid for i, grid in enumerate(oblique_grids(4, (3, 5, 7)))} | {
    "one slice": Grid.plain((1, 5, 6), (6.5, 0.8, 0.7)),
    "flat": Grid.plain((7, 5), (0.5, 2.0)),
}


def random(shape: tuple[int, ...], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


# Arrays


def test_an_array_is_viewed_not_copied() -> None:
    array = random((4, 40, 50), np.int16)
    volume = Volume.from_array(array, spacing=(3, 1, 1))
    assert np.shares_memory(volume.array, array)
    assert array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0] = 0
    assert volume.grid.spacing == (3, 1, 1)
    assert volume.channels == 1


@pytest.mark.parametrize(
    ("shape", "rgb", "axes", "channels"),
    [
        ((40, 50), None, 2, 1),
        ((40, 50, 3), None, 2, 3),
        ((40, 50, 4), None, 2, 3),
        ((5, 40, 50, 3), None, 3, 3),
        ((40, 50, 3), False, 3, 1),
        ((20, 20, 3), None, 3, 1),
        ((20, 20, 3), True, 2, 3),
        ((3, 40, 50), None, 3, 1),
    ],
    ids=str,
)
def test_colour_is_told_from_thin_volumes(shape: tuple, rgb: bool | None, axes: int, channels: int) -> None:
    volume = Volume.from_array(random(shape), rgb=rgb)
    assert (volume.grid.ndim, volume.channels) == (axes, channels)


def test_opacity_is_laid_over_black() -> None:
    array = np.full((40, 50, 4), 200, np.uint8)
    array[..., 3] = 255
    array[0, 0, 3], array[0, 1, 3] = 0, 51
    volume = Volume.from_array(array)
    assert volume.array.shape == (40, 50, 3)
    assert volume.array[0, 0].tolist() == [0, 0, 0]
    assert volume.array[0, 1].tolist() == [40, 40, 40]
    assert (volume.array[1:] == 200).all()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((4, 4), complex),
        np.array([["a", "b"]]),
        np.ones((0, 4)),
        np.ones((2, 2, 2, 2)),
        np.ones(4),
        np.array([[None, 1]]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_refused_arrays(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        Volume.from_array(array, rgb=False)


def test_an_array_must_fit_its_grid() -> None:
    with pytest.raises(InputError, match=r"\(4, 5\)"):
        Volume(np.ones((4, 5)), Grid.plain((5, 4)))


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", ">i2", "<u2", ">f4", "f2", "f8", "i8"])
def test_real_dtypes_are_kept_in_native_order(dtype: str) -> None:
    array = (random((4, 5)) > 100).astype(dtype)
    volume = Volume.from_array(array)
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)


def test_hash_depends_on_voxels_dtype_and_grid_only() -> None:
    array = random((4, 5, 6), np.int16)
    hashed = Volume.from_array(array).hash
    assert Volume(array, Grid.plain((4, 5, 6)), name="x", modality="CT").hash == hashed
    assert Volume.from_array(array.astype(">i2")).hash == hashed
    assert Volume.from_array(np.asfortranarray(array)).hash == hashed
    other = array.copy()
    other[3, 4, 5] += 1
    different = [
        Volume.from_array(other),
        Volume.from_array(array.astype(np.int32)),
        Volume.from_array(array.view(np.uint16)),
        Volume.from_array(array, spacing=(1, 1, 1.001)),
        Volume.from_array(array.reshape(4, 6, 5)),
    ]
    assert len({volume.hash for volume in different} | {hashed}) == 6
    assert len(hashed) == 64


def test_hash_of_several_pieces() -> None:
    array = np.zeros((40, 1024, 1024), np.uint8)  # three pieces
    first = Volume.from_array(array).hash
    array = array.copy()
    array[-1, -1, -1] = 1
    assert Volume.from_array(array).hash != first


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(bad: float) -> None:
    array = np.ones((4, 5, 6), np.float32)
    array[0] = 2
    Volume.from_array(array).check_usable()
    array[1, 2, 3] = array[3, 0, 0] = bad
    with pytest.raises(InputError, match=r"2 voxels.*nan_to_num"):
        Volume.from_array(array).check_usable()


@pytest.mark.parametrize("value", [0, 7, -1000])
def test_constant_images_are_refused(value: int) -> None:
    with pytest.raises(InputError, match=f"same value {value}"):
        Volume.from_array(np.full((4, 5, 6), value, np.int16)).check_usable()


# Round trips


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("labels", [255, 256], ids=["8bit", "16bit"])
def test_masks_keep_voxels_and_place(tmp_path: Path, suffix: str, name: str, labels: int) -> None:
    grid = GRIDS[name]
    mask = random(grid.shape, np.int64)
    mask.flat[0] = labels
    path = tmp_path / f"mask{suffix}"
    write_mask(mask, grid, path)
    again = read_volume(path)
    assert again.array.dtype == (np.uint8 if labels < 256 else np.uint16)
    np.testing.assert_array_equal(again.array, mask)
    if not (suffix.startswith(".nii") and name == "flat"):
        assert again.grid.same_place(grid, 1e-4)  # NIfTI keeps 32 bits
    image = sitk.ReadImage(str(path))  # and as everybody else sees it
    assert image.GetSize() == grid.shape[::-1]
    np.testing.assert_allclose(image.GetSpacing(), grid.spacing[::-1], rtol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), grid.origin, atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), grid.itk_direction, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_flat_masks_as_pictures(tmp_path: Path, suffix: str) -> None:
    mask = random((30, 40)) > 100
    write_mask(mask, Grid.plain(mask.shape), tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"mask{suffix}").array, mask)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"mask{suffix}")), mask)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_images_keep_their_values(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = np.random.default_rng(0).uniform(-100 if np.dtype(dtype).kind != "u" else 0, 120, (3, 5, 7)).astype(dtype)
    volume = Volume(array, GRIDS["oblique1"])
    write_volume(volume, tmp_path / f"image{suffix}")
    again = read_volume(tmp_path / f"image{suffix}")
    assert again.array.dtype == array.dtype
    np.testing.assert_array_equal(again.array, array)
    assert again.grid.same_place(volume.grid, 1e-5)
    assert again.name == "image"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".tif"])
def test_colour_volumes(tmp_path: Path, suffix: str) -> None:
    array = random((5, 32, 40, 3))
    write_volume(Volume.from_array(array), tmp_path / f"image{suffix}")
    again = read_volume(tmp_path / f"image{suffix}")
    assert again.channels == 3
    np.testing.assert_array_equal(again.array, array)


def test_a_tilted_grid_needs_a_format_that_can_say_so(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 1], [0.5, 1, 0], [2, 0, 0]]
    grid = Grid.from_affine((4, 5, 6), affine)
    mask = random(grid.shape)
    with pytest.raises(InputError, match="nrrd"):
        write_mask(mask, grid, tmp_path / "mask.nii.gz")
    for suffix in (".nrrd", ".mha"):
        write_mask(mask, grid, tmp_path / f"mask{suffix}")
        with pytest.warns(ImageWarning, match="perpendicular"):
            again = read_volume(tmp_path / f"mask{suffix}")
        assert again.grid.same_place(grid)
        np.testing.assert_array_equal(again.array, mask)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((2, 3), bool), "shape"),
        (np.ones((3, 5, 7)), "whole"),
        (np.full((3, 5, 7), -1), "-1"),
        (np.full((3, 5, 7), 70000), "70000"),
    ],
    ids=["shape", "float", "negative", "large"],
)
def test_refused_labels(tmp_path: Path, mask: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_mask(mask, GRIDS["oblique0"], tmp_path / "mask.nii.gz")
    assert not list(tmp_path.iterdir())


# NIfTI


def save_nifti(path: Path, array: np.ndarray, sform=None, qform=None, codes=(1, 1), header=None) -> None:
    """``array`` in NIfTI order (x, y, z); transforms RAS."""
    image = nibabel.Nifti1Image(array, None, header)
    image.header.set_sform(sform, codes[0] if sform is not None else 0)
    image.header.set_qform(qform, codes[1] if qform is not None else 0, strip_shears=True)
    nibabel.save(image, path)


def ras(grid: Grid) -> np.ndarray:
    """RAS matrix from (x, y, z) indices, as NIfTI has it."""
    return np.diag([-1, -1, 1, 1]) @ grid.affine[:, [2, 1, 0, 3]]


@pytest.mark.parametrize("name", ["oblique0", "oblique1", "oblique2"])
@pytest.mark.parametrize("which", ["sform", "qform", "both"])
def test_nifti_transforms(tmp_path: Path, name: str, which: str) -> None:
    grid = GRIDS[name]
    array = random(grid.shape, np.int16)
    forms = {key: ras(grid) for key in ("sform", "qform") if which in (key, "both")}
    save_nifti(tmp_path / "a.nii", array.T, **forms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.grid.same_place(grid, 1e-4)
    np.testing.assert_allclose(ras(volume.grid), nibabel.load(tmp_path / "a.nii").affine, atol=1e-4)


def test_sform_wins_over_a_different_qform(tmp_path: Path) -> None:
    grid, other = GRIDS["oblique0"], GRIDS["oblique2"]
    save_nifti(tmp_path / "a.nii", random(grid.shape).T, sform=ras(grid), qform=ras(other))
    with pytest.warns(ImageWarning, match=r"disagree by up to \d+\.\d mm; the sform was used"):
        volume = read_volume(tmp_path / "a.nii")
    assert volume.grid.same_place(grid, 1e-4)
    np.testing.assert_allclose(nibabel.load(tmp_path / "a.nii").affine, ras(volume.grid), atol=1e-4)


def test_a_sheared_sform_is_kept(tmp_path: Path) -> None:
    affine = np.array([[1, 0.2, 0, 5], [0, 1, 0.3, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    save_nifti(tmp_path / "a.nii", random((3, 4, 5)), sform=affine)
    with pytest.warns(ImageWarning, match="perpendicular"):
        volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(ras(volume.grid), affine, atol=1e-6)


def test_a_singular_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    grid = GRIDS["oblique0"]
    save_nifti(tmp_path / "a.nii", random(grid.shape).T, sform=np.diag([0, 0, 0, 1.0]), qform=ras(grid))
    with pytest.warns(ImageWarning, match="ignored"):
        assert read_volume(tmp_path / "a.nii").grid.same_place(grid, 1e-4)


def test_nifti_without_orientation_says_so(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(random((3, 4, 5)), None)
    image.header["pixdim"][1:4] = (0.5, 0.6, 3)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.warns(ImageWarning, match="left and right are a guess"):
        volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.grid.spacing, (3, 0.6, 0.5), rtol=1e-6)


@pytest.mark.parametrize("code, factor", [("meter", 1000), ("micron", 0.001), ("mm", 1)])
def test_nifti_units(tmp_path: Path, code: str, factor: float) -> None:
    image = nibabel.Nifti1Image(random((3, 4, 5)), np.diag([2.0, 3, 4, 1]))
    image.header.set_xyzt_units(code)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").grid.spacing, np.array((4, 3, 2)) * factor)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [("u2", 1, -1024, "i2"), ("i2", 2, 0, "i2"), ("u1", 0.5, 3, "f4"), ("i4", 0.1, 0, "f4"), ("i2", 0, 5, "i2"),
     ("u2", 1000, 0, "i4"), ("f8", 2, 1, "f8")],
)  # fmt: skip
def test_nifti_scaling(tmp_path: Path, dtype: str, slope: float, intercept: float, expected: str) -> None:
    array = random((3, 4, 5), np.dtype(dtype).type)
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(slope or 1, intercept if slope else 0)
    nibabel.save(image, tmp_path / "a.nii")
    with open(tmp_path / "a.nii", "r+b") as file:  # nibabel would rescale the data when it writes
        file.seek(112)
        file.write(np.array([slope, intercept], "<f4").tobytes())
        file.seek(352)
        file.write(array.tobytes("F"))
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == expected
    np.testing.assert_allclose(volume.array.T, nibabel.load(tmp_path / "a.nii").get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image], ids=["1", "2"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_versions_and_byte_orders(tmp_path: Path, kind: type, order: str, suffix: str) -> None:
    array = random((3, 4, 5), np.int16)
    affine = np.array([[0, 0, 2, 5], [-3, 0, 0, 6], [0, 4, 0, 7], [0, 0, 0, 1.0]])
    header = kind.header_class(endianness=order)
    image = kind(array, affine, header)
    nibabel.save(image, tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.array.T, array)
    np.testing.assert_allclose(ras(volume.grid), affine)


def test_nifti_colour(tmp_path: Path) -> None:
    array = random((3, 4, 5, 3))
    packed = array.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(packed, np.eye(4)), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.channels == 3
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0, 3))


def test_flat_nifti(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(random((5, 7)), np.diag([0.5, 0.6, 1, 1])), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.grid.shape == (7, 5)
    np.testing.assert_allclose(volume.grid.spacing, (0.6, 0.5), rtol=1e-6)


# Frames


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_fourth_axis_asks_for_a_frame(tmp_path: Path, suffix: str) -> None:
    grid = GRIDS["oblique0"]
    array = random((6, *grid.shape), np.int16)
    direction = np.eye(4)
    direction[:3, :3] = np.reshape(grid.itk_direction, (3, 3))
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing((*grid.spacing[::-1], 1.0))
    image.SetOrigin((*grid.origin, 0.0))
    image.SetDirection(direction.ravel())
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match=r"6 frames.*'frame', 0 to 5"):
        read_volume(path)
    with pytest.raises(InputError, match="no frame 6"):
        read_volume(path, frame=6)
    with pytest.raises(InputError, match="no frame -1"):
        read_volume(path, frame=-1)
    for frame in (0, 5):
        volume = read_volume(path, frame=frame)
        np.testing.assert_array_equal(volume.array, array[frame])
        assert volume.grid.same_place(grid, 1e-4)


def test_channels_that_are_no_colours_are_frames(tmp_path: Path) -> None:
    array = random((4, 5, 6, 7), np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="7 frames"):
        read_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd", frame=3).array, array[..., 3])


def test_a_frame_of_a_plain_volume_must_be_the_first(tmp_path: Path) -> None:
    write_mask(random((3, 4, 5)), Grid.plain((3, 4, 5)), tmp_path / "a.mha")
    assert read_volume(tmp_path / "a.mha", frame=0).grid.shape == (3, 4, 5)
    with pytest.raises(InputError, match="no frame 1"):
        read_volume(tmp_path / "a.mha", frame=1)


# Pictures

RGBA = random((40, 50, 4), seed=1)


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("grey.png", RGBA[..., 0], RGBA[..., 0]),
        ("grey16.png", RGBA[..., 0].astype(np.uint16) * 300, RGBA[..., 0].astype(np.uint16) * 300),
        ("colour.png", RGBA[..., :3], RGBA[..., :3]),
        ("colour.bmp", RGBA[..., :3], RGBA[..., :3]),
        ("grey.tif", RGBA[..., 0], RGBA[..., 0]),
        ("colour.tif", RGBA[..., :3], RGBA[..., :3]),
        ("bits.png", RGBA[..., 0] > 100, (RGBA[..., 0] > 100) * np.uint8(255)),
        ("bits.tif", RGBA[..., 0] > 100, (RGBA[..., 0] > 100) * np.uint8(255)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures(tmp_path: Path, name: str, array: np.ndarray, expected: np.ndarray) -> None:
    Image.fromarray(array).save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == expected.dtype
    assert volume.grid == Grid.plain((40, 50))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palettes_become_colours(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(RGBA[..., :3]).quantize(16)
    image.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").array, np.asarray(image.convert("RGB")))


def test_grey_palettes_stay_grey(tmp_path: Path) -> None:
    image = Image.fromarray(RGBA[..., 0] // 50, mode="P")
    image.putpalette([v for i in range(5) for v in (i * 60,) * 3])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array, RGBA[..., 0] // 50 * 60)


def test_opacity_of_pictures(tmp_path: Path) -> None:
    Image.fromarray(RGBA).save(tmp_path / "rgba.png")
    expected = np.rint(RGBA[..., :3] * (RGBA[..., 3:] / 255))
    np.testing.assert_array_equal(read_volume(tmp_path / "rgba.png").array, expected)
    Image.fromarray(RGBA[..., :2].copy(), "LA").save(tmp_path / "la.png")
    expected = np.rint(RGBA[..., 0] * (RGBA[..., 1] / 255))
    np.testing.assert_array_equal(read_volume(tmp_path / "la.png").array, expected)


def test_deep_colour_keeps_16_bits(tmp_path: Path) -> None:
    array = RGBA[..., :3].astype(np.uint16) * 257 + 3
    write_volume(Volume.from_array(array), tmp_path / "a.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array, array)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_volume(tmp_path / "a.jpg").array.astype(int) - smooth).max() <= 3
    Image.fromarray(np.stack([smooth] * 3, -1)).convert("CMYK").save(tmp_path / "b.jpg", quality=95)
    assert np.abs(read_volume(tmp_path / "b.jpg").array.astype(int) - smooth[..., None]).max() <= 6


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "f8"])
def test_tiff_pages_are_a_stack(tmp_path: Path, dtype: str) -> None:
    array = random((5, 40, 50), np.dtype(dtype).type)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    volume = read_volume(tmp_path / "a.tif")
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)


def test_tiff_variants(tmp_path: Path) -> None:
    colour = random((5, 40, 50, 3))
    tifffile.imwrite(tmp_path / "stack.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(read_volume(tmp_path / "stack.tif").array, colour)
    tifffile.imwrite(tmp_path / "planes.tif", colour[0].transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_volume(tmp_path / "planes.tif").array, colour[0])
    tifffile.imwrite(tmp_path / "white.tif", colour[0, ..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_volume(tmp_path / "white.tif").array, 255 - colour[0, ..., 0])
    tifffile.imwrite(tmp_path / "big.tif", colour[..., 0], photometric="minisblack", bigtiff=True)
    np.testing.assert_array_equal(read_volume(tmp_path / "big.tif").array, colour[..., 0])
    pages = [Image.fromarray(page) for page in colour[..., 0]]
    pages[0].save(tmp_path / "lzw.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    np.testing.assert_array_equal(read_volume(tmp_path / "lzw.tif").array, colour[..., 0])


def test_hyperstacks_ask_for_a_frame(tmp_path: Path) -> None:
    array = random((2, 4, 3, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TZCYX"})
    with pytest.raises(InputError, match="6 frames"):
        read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif", frame=4).array, array[1, :, 1])


# Real images


def test_real_images_and_their_labels_share_a_grid(shared: Path) -> None:
    folders = [f for f in sorted((shared / "data").iterdir()) if f.is_dir() and not (f / "dicom").exists()]
    assert len(folders) > 20
    for folder in folders:
        image = read_volume(next(folder.glob("image.*")))
        labels = read_volume(next(f for f in folder.glob("labels.*") if f.suffix != ".json"))
        image.check_usable()
        assert image.grid.same_place(labels.grid), folder.name
        assert image.grid.ndim == int(folder.name[0])
        assert labels.channels == 1
        assert labels.array.max() > 0


def test_real_volumes_lie_where_simpleitk_has_them(shared: Path) -> None:
    for path in sorted((shared / "data").glob("3d_*/image.*")):
        image = sitk.ReadImage(str(path))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, sitk.GetArrayViewFromImage(image))
        expected = Grid.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
        assert volume.grid.same_place(expected), path


def test_labels_of_a_dicom_series_stored_upside_down(shared: Path) -> None:
    folder = shared / "data" / "3d_ct_dicom_series_20slices"
    image = read_volume(folder / "dicom")
    labels = read_volume(folder / "labels.nii.gz")
    assert (image.modality, image.grid.shape) == ("CT", (20, 512, 512))
    assert not labels.grid.same_place(image.grid)
    moved = resample_labels(labels, image.grid)
    np.testing.assert_array_equal(moved, labels.array[:, ::-1])
    liver = image.array[moved == 5]
    assert -50 < np.median(liver) < 200
    assert np.std(liver) < np.std(image.array[labels.array == 5]) / 2  # upside down, the mask lies elsewhere


def test_nearest_label_and_background_outside() -> None:
    labels = Volume(random((4, 5, 6)) + 1, Grid.plain((4, 5, 6)))
    grid = Grid((6, 5, 4), (0.5, 1.0, 2.0), (-1.2, 0.3, 0.1), labels.grid.direction)
    result = resample_labels(labels, grid)
    for index in np.ndindex(grid.shape):
        source = np.floor(labels.grid.to_index(grid.to_world(index)) + 0.5).astype(int)
        inside = (source >= 0).all() and (source < labels.grid.shape).all()
        assert result[index] == (labels.array[tuple(source)] if inside else 0)


def test_an_image_with_nan_is_written_as_it_is(tmp_path):
    array = np.array([[[1.0, np.nan], [3.0, 4.0]]], np.float32)
    write_volume(Volume(array, Grid.plain(array.shape)), tmp_path / "image.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "image.nrrd").array, array)
