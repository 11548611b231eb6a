"""Files that cannot be read or written: one plain line each, nothing on the terminal, nothing half-written."""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.volume import Volume, read_volume, write_mask, write_volume
from tests.dicom_files import write_series, write_slice

SHAPE = (6, 40, 50)
NOISE = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
VOLUMES = [".nii", ".nii.gz", ".nrrd", ".mha", ".tif"]
PICTURES = [".png", ".jpg", ".bmp", ".lzw.tif"]


def write_good(folder: Path, suffix: str) -> Path:
    path = folder / f"image{suffix}"
    if suffix == ".dcm":
        write_slice(path, NOISE[0].astype(np.uint16))
    elif suffix == ".lzw.tif":
        Image.fromarray(NOISE[0]).save(path, compression="tiff_lzw")
    elif suffix in PICTURES:
        Image.fromarray(NOISE[0]).save(path)
    else:
        write_volume(Volume.from_array(NOISE), path)
    return path


def refusal(path: Path, capfd: pytest.CaptureFixture) -> str:
    """The sentence that a file is refused with, after checking that nothing was printed beside it."""
    with pytest.raises(InputError) as error:
        read_volume(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path.name) in message
    assert not any(word in message for word in ("itk", "ITK", "/tmp/SimpleITK", "0x", "Traceback"))
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    return message


@pytest.mark.parametrize("suffix", [*VOLUMES, *PICTURES, ".dcm", ".xyz", ""])
def test_missing(tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str) -> None:
    assert "no file" in refusal(tmp_path / f"image{suffix}", capfd)


@pytest.mark.parametrize("suffix", [*VOLUMES, *PICTURES, ".dcm", ".mhd", ".hdr", ".xyz", ""])
@pytest.mark.parametrize("content", [b"", b"Dear colleague,\nthe scan is attached.\n" * 40, bytes(4000)], ids=len)
def test_something_else_under_its_name(
    tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    refusal(path, capfd)


def test_packed_text_under_the_name_of_an_image(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(b"hello " * 200))
    assert "not a NIfTI" in refusal(path, capfd)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [*VOLUMES, *PICTURES, ".dcm"])
def test_truncated(tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str, part: float) -> None:
    path = write_good(tmp_path, suffix)
    read_volume(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refusal(path, capfd)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_byte_in_packed_voxels(tmp_path: Path, capfd: pytest.CaptureFixture, place: float) -> None:
    path = write_good(tmp_path, ".nii.gz")
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    path.write_bytes(content)
    refusal(path, capfd)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (40, np.array([0], "<i2"), "2 or more axes"),
        (42, np.array([-6], "<i2"), "2 or more axes"),
        (42, np.array([32000, 32000, 32000], "<i2"), "incomplete"),
        (70, np.array([32], "<i2"), "type 32"),
        (108, np.array([np.nan], "<f4"), "damaged"),
        (108, np.array([-4], "<f4"), "damaged"),
        (280, np.array([np.nan], "<f4"), None),
    ],
    ids=["no axes", "negative size", "huge", "complex", "nan offset", "negative offset", "nan sform"],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_broken_nifti_headers(
    tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str, offset: int, value: np.ndarray, said: str | None
) -> None:
    path = write_good(tmp_path, ".nii")
    content = bytearray(path.read_bytes())
    content[offset : offset + value.nbytes] = value.tobytes()
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    if said is None:  # the qform is still there
        with pytest.warns(UserWarning, match="ignored"):
            read_volume(path)
    else:
        assert said in refusal(path, capfd)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("ElementSpacing = 1 0 1", "spacing"),
        ("TransformMatrix = 1 0 0 1 0 0 0 0 1", "image.mha"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 nan", "image.mha"),
    ],
    ids=["zero spacing", "singular", "nan"],
)
def test_impossible_geometry(tmp_path: Path, capfd: pytest.CaptureFixture, header: str, said: str) -> None:
    path = tmp_path / "image.mha"
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", header, "DimSize = 2 2 2"]
    path.write_bytes("\n".join([*lines, "ElementType = MET_UCHAR", "ElementDataFile = LOCAL\n"]).encode() + bytes(8))
    assert said in refusal(path, capfd)


@pytest.mark.parametrize("suffix", [*VOLUMES, *PICTURES, ".dcm"])
def test_damaged_anyhow(tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str) -> None:
    """Random damage gives an image or an InputError of one line, and never a word on the terminal."""
    path = write_good(tmp_path, suffix)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 400), 3):  # mostly in headers
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read_volume(path)
            except InputError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 2
    assert capfd.readouterr().err == ""


def test_folders_without_dicom(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert "no DICOM" in refusal(tmp_path, capfd)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.dcm").write_text("hello")
    (tmp_path / "more").mkdir()
    assert "no DICOM" in refusal(tmp_path, capfd)


def test_a_damaged_slice_is_named(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    write_series(tmp_path, NOISE.astype(np.uint16), np.arange(6.0))
    broken = tmp_path / "1_0003.dcm"
    broken.write_bytes(broken.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"1_0003\.dcm is damaged"):
        read_volume(tmp_path)
    assert capfd.readouterr().err == ""


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As an ordinary user, where the tests run as root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_files_without_images_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, NOISE.astype(np.uint16), np.arange(6.0))
    report = pydicom.dcmread(tmp_path / "1_0001.dcm")
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    del report.PixelData, report.Rows, report.Columns
    report.save_as(tmp_path / "report.dcm")
    assert read_volume(tmp_path).grid.shape == SHAPE


def test_no_permission_to_read(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    for suffix in (".nii.gz", ".mha", ".png", ".dcm"):
        path = write_good(tmp_path, suffix)
        path.chmod(0)
        with unprivileged():
            assert "Permission denied" in refusal(path, capfd)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".png"])
def test_folder_that_cannot_be_written_to(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    mask = NOISE if suffix != ".png" else NOISE[0]
    with unprivileged(), pytest.raises(InputError, match="cannot be written: Permission denied"):
        write_mask(mask, Grid.plain(mask.shape), folder / f"mask{suffix}")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mask", "format"),
        ("mask.txt", "format"),
        ("mask.jpg", "format"),
        ("mask.mhd", "format"),
        ("mask.png", "flat"),
        ("none/mask.nii.gz", "no folder"),
    ],
)
def test_names_that_cannot_be_written(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_mask(NOISE, Grid.plain(SHAPE), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", VOLUMES)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    write_mask(NOISE > 100, Grid.plain(SHAPE), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # writing beyond fails as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot be written") as error:
            write_mask(NOISE, Grid.plain(SHAPE), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr().err == ""
