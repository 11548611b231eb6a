"""DICOM Segmentations: read back with highdicom and with SimpleITK they say and show what was written."""

from __future__ import annotations

import logging
import resource
import warnings
from importlib import metadata
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, JPEG2000Lossless

from napari_sammed.backend.local import LocalBackend
from napari_sammed.cli import main
from napari_sammed.errors import InputError
from napari_sammed.formats.segment_codes import meaning
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.segments import Segment, check_writable, read_segments, write_segments
from napari_sammed.session import Session
from napari_sammed.volume import ImageWarning, Volume, read_volume, resample_labels, write_mask, write_volume
from tests.dicom_files import write_series, write_slice
from tests.orientations import rotation
from tests.thresholder import Thresholder

SHAPE = (6, 16, 20)
STORED = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.uint16)
PLACES = np.arange(6) * 2.5
LIVER = Segment("liver", np.ones((3, 5, 7), bool), Box((1, 2, 3), (4, 7, 10)), "medsam", "c0ffee" * 10)
TUMOUR = Segment("Liver tumour 2", np.ones((2, 4, 4), bool), Box((3, 5, 8), (5, 9, 12)))
KIDNEY = Segment("left kidney", np.eye(6, dtype=bool)[None], Box((4, 10, 12), (5, 16, 18)), "samed", automatic=True)
ALL = [LIVER, TUMOUR, KIDNEY]


def turned(seed: int) -> tuple[float, ...]:
    axes = rotation(np.random.default_rng(seed))
    return (*axes[:, 0], *axes[:, 1])


SERIES = {
    "axial": {},
    "oblique": {"rows_and_columns": turned(1)},
    "more oblique": {"rows_and_columns": turned(3)},
    "sagittal": {"rows_and_columns": (0, 1, 0, 0, 0, -1)},
    "gantry tilt": {"lean": (0, 0.25, 0)},
}


@pytest.fixture
def series(tmp_path: Path) -> Volume:
    write_series(tmp_path / "ct", STORED, PLACES)
    return read_volume(tmp_path / "ct")


def whole(segment: Segment) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[segment.box.slices] = segment.mask
    return mask


def masks_by_source(path: Path, image: Volume) -> np.ndarray:
    """(slices, y, x, segments) as highdicom finds them for the source images, by reference."""
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in image.files]
    found = highdicom.seg.segread(path)
    return found.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=False, assert_missing_frames_are_empty=True
    )


def placed_frames(path: Path) -> dict[tuple[int, tuple[float, ...]], np.ndarray]:
    """Each frame by its segment and position, as pydicom reads them."""
    data = pydicom.dcmread(path)
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    return {
        (
            int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            tuple(map(float, item.PlanePositionSequence[0].ImagePositionPatient)),
        ): frame
        for item, frame in zip(data.PerFrameFunctionalGroupsSequence, frames, strict=True)
    }


# Voxels and place


@pytest.mark.filterwarnings("ignore::napari_sammed.volume.ImageWarning")
@pytest.mark.parametrize("segments", [ALL, ALL[1:]], ids=["overlapping", "apart"])
@pytest.mark.parametrize("name", SERIES)
def test_voxels_and_place_survive(tmp_path: Path, name: str, segments: list[Segment]) -> None:
    write_series(tmp_path / "ct", STORED, PLACES, **SERIES[name])
    image = read_volume(tmp_path / "ct")
    path = tmp_path / "out.seg.dcm"
    write_segments(segments, image, path)

    data = highdicom.seg.segread(path)
    assert data.SegmentsOverlap == ("YES" if len(segments) == 3 else "NO")
    assert data.file_meta.TransferSyntaxUID.is_deflated
    found = masks_by_source(path, image)
    np.testing.assert_array_equal(found, np.stack([whole(segment) for segment in segments], -1))
    shared = data.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    np.testing.assert_allclose(measures.PixelSpacing, image.grid.spacing[1:])
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    directions = np.array(image.grid.direction)
    np.testing.assert_allclose(orientation, [*directions[:, 2], *directions[:, 1]], atol=1e-6)
    for (number, position), frame in placed_frames(path).items():
        index = image.grid.to_index(np.array(position))
        np.testing.assert_allclose(index, [round(index[0]), 0, 0], atol=1e-4)
        np.testing.assert_array_equal(frame, whole(segments[number - 1])[round(index[0])])

    frames = sitk.ReadImage(str(path))  # ITK sees a stack of frames, at the place and in the direction of the first
    first = next(iter(placed_frames(path)))
    assert frames.GetSize() == (20, 16, len(data.PerFrameFunctionalGroupsSequence))
    np.testing.assert_allclose(frames.GetOrigin(), first[1], atol=1e-4)
    np.testing.assert_allclose(np.reshape(frames.GetDirection(), (3, 3))[:, :2], directions[:, [2, 1]], atol=1e-6)
    for seen, frame in zip(sitk.GetArrayFromImage(frames), placed_frames(path).values(), strict=True):
        np.testing.assert_array_equal(seen > 0, frame)

    again, grid = read_segments(path)
    assert grid.shape == (4 if len(segments) == 3 else 2, *SHAPE[1:])
    np.testing.assert_allclose(grid.matrix, image.grid.matrix, atol=1e-4)
    first_slice = min(segment.box.low[0] for segment in segments)
    np.testing.assert_allclose(grid.origin, image.grid.to_world([first_slice, 0, 0]), atol=1e-4)
    for segment, other in zip(segments, again, strict=True):
        assert (other.name, other.algorithm, other.automatic) == (segment.name, segment.algorithm, segment.automatic)
        np.testing.assert_array_equal(other.mask, segment.mask)
        assert other.box.shift((first_slice, 0, 0)) == segment.box


def test_labels_come_back_on_the_grid_of_the_image(tmp_path: Path, series: Volume) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 3:6, 4:9] = 3
    labels[5, 8:, 2:5] = 7
    write_mask(labels, series.grid, tmp_path / "a.dcm", {3: "spleen"}, image=series)
    again = read_volume(tmp_path / "a.dcm")
    assert again.modality == "SEG"
    np.testing.assert_array_equal(resample_labels(again, series.grid), np.select([labels == 3, labels == 7], [1, 2]))
    assert [segment.name for segment in read_segments(tmp_path / "a.dcm")[0]] == ["spleen", "Segment 7"]


def test_overlaps_are_told_when_they_become_labels(tmp_path: Path, series: Volume) -> None:
    write_segments(ALL, series, tmp_path / "a.dcm")
    both = int((whole(LIVER) & whole(TUMOUR)).sum())
    with pytest.warns(ImageWarning, match=f"overlap in {both} voxels"):
        labels = read_volume(tmp_path / "a.dcm")
    assert (labels.array == 2).sum() == TUMOUR.mask.sum()
    assert (labels.array == 1).sum() == LIVER.mask.sum() - both


def test_a_filled_in_slice_keeps_its_mask(tmp_path: Path) -> None:
    there = [0, 1, 3, 4, 5]
    write_series(tmp_path / "ct", STORED[there], PLACES[there])
    with pytest.warns(ImageWarning, match="missing"):
        image = read_volume(tmp_path / "ct")
    assert [file is None for file in image.files] == [False, False, True, False, False, False]
    write_segments([LIVER], image, tmp_path / "a.dcm")
    (again,), grid = read_segments(tmp_path / "a.dcm")
    assert grid.shape[0] == 3
    np.testing.assert_array_equal(again.mask, LIVER.mask)
    np.testing.assert_allclose(grid.origin, image.grid.to_world([1, 0, 0]))


def test_an_empty_object_is_written_and_read(tmp_path: Path, series: Volume) -> None:
    write_mask(np.zeros(SHAPE, bool), series.grid, tmp_path / "a.dcm", {1: "liver"}, image=series)
    (only,), _ = read_segments(tmp_path / "a.dcm")
    assert (only.name, only.mask.any()) == ("liver", False)


def test_the_files_are_small(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.zeros((6, 256, 256), np.uint16), PLACES)
    mask = np.zeros((6, 256, 256), bool)
    mask[:, 50:200, 50:200] = True
    image = read_volume(tmp_path / "ct")
    write_mask(mask, image.grid, tmp_path / "a.dcm", image=image)
    assert (tmp_path / "a.dcm").stat().st_size < mask.size / 8 / 4


def test_a_series_with_its_segmentation_beside_it_still_opens(tmp_path: Path, series: Volume) -> None:
    write_segments(ALL, series, tmp_path / "ct" / "0.dcm")
    for path in (tmp_path / "ct", series.files[0]):
        again = read_volume(path)
        assert again.hash == series.hash
        assert again.files == series.files


@pytest.mark.full
def test_a_real_series(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "3d_ct_dicom_series_20slices"
    with pytest.raises(InputError, match="lacks StudyInstanceUID"):  # they were taken out with the patient's data
        check_writable(read_volume(folder / "dicom"))
    (tmp_path / "ct").mkdir()
    for number, file in enumerate(sorted((folder / "dicom").iterdir())):
        data = pydicom.dcmread(file)
        assert data.file_meta.TransferSyntaxUID == JPEG2000Lossless
        data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.1", "1.2.2", f"1.2.3.{number}"
        data.SOPClassUID = CTImageStorage
        data.save_as(tmp_path / "ct" / file.name)
    image = read_volume(tmp_path / "ct")
    labels = resample_labels(read_volume(folder / "labels.nii.gz"), image.grid)
    names = {1: "spleen", 5: "liver", 8: "adrenal_gland_right", 109: "rib_right_6"}
    write_mask(labels, image.grid, tmp_path / "a.dcm", names, image=image)
    found = masks_by_source(tmp_path / "a.dcm", image)
    for number, label in enumerate(np.unique(labels)[1:]):
        np.testing.assert_array_equal(found[..., number], labels == label)
    again = resample_labels(read_volume(tmp_path / "a.dcm"), image.grid)
    np.testing.assert_array_equal(again, np.searchsorted(np.unique(labels), labels))


# What it says


@pytest.mark.parametrize(
    ("name", "kind", "side", "place"),
    [
        ("liver", "Liver", None, None),
        ("Left Kidney", "Kidney", "Left", None),
        ("kidney_right", "Kidney", "Right", None),
        ("Lung R", "Lung", "Right", None),
        ("rib_left_6", "Rib", "Left", None),
        ("vertebrae_T12", "Vertebra", None, None),
        ("Oesophagus", "Esophagus", None, None),
        ("inferior_vena_cava", "Inferior vena cava", None, None),
        ("tumour", "Neoplasm", None, None),
        ("Liver tumour 2", "Neoplasm", None, "Liver"),
        ("left lung nodule", "Nodule", "Left", "Lung"),
        ("left and right kidney", "Tissue", None, None),
        ("Object 1", "Tissue", None, None),
        ("Leber", "Tissue", None, None),
        ("left thing", "Tissue", None, None),
        ("", "Tissue", None, None),
    ],
)
def test_names_become_codes(name: str, kind: str, side: str | None, place: str | None) -> None:
    found = meaning(name)
    assert found.kind[1] == kind
    assert (found.side and found.side[1], found.place and found.place[1]) == (side, place)
    expected = "Morphologically Abnormal Structure" if kind in ("Neoplasm", "Nodule") else "Anatomical Structure"
    assert found.category[1] == ("Tissue" if kind == "Tissue" else expected)


def test_codes_are_those_of_pydicoms_dictionary() -> None:
    from pydicom.sr._concepts_dict import concepts

    from napari_sammed.formats import segment_codes

    known = {value for entry in concepts["SCT"].values() for value in entry}
    tables = (segment_codes._ORGANS, segment_codes._FINDINGS, segment_codes._SUBSTANCES, segment_codes._SIDES)
    for table in tables:
        for name, (value, text) in table.items():
            entry = [texts[value][0].casefold() for texts in concepts["SCT"].values() if value in texts]
            assert value in known and text.casefold() in entry, name
    assert set(segment_codes._SAME_WORD.values()) <= {key for table in tables for key in table}


def test_names_codes_and_makers_are_written(tmp_path: Path, series: Volume) -> None:
    write_segments(ALL, series, tmp_path / "a.dcm")
    data = highdicom.seg.segread(tmp_path / "a.dcm")
    liver, tumour, kidney = (data.get_segment_description(number) for number in (1, 2, 3))
    assert [item.segment_label for item in (liver, tumour, kidney)] == ["liver", "Liver tumour 2", "left kidney"]
    assert (liver.segmented_property_type.value, liver.segmented_property_category.value) == ("10200004", "91723000")
    assert (tumour.segmented_property_type.value, tumour.anatomic_regions[0].value) == ("108369006", "10200004")
    modifier = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (modifier.CodeValue, modifier.CodingSchemeDesignator) == ("7771000", "SCT")
    assert [item.SegmentAlgorithmType for item in (liver, tumour, kidney)] == ["SEMIAUTOMATIC", "MANUAL", "AUTOMATIC"]
    algorithm = liver.algorithm_identification
    assert (algorithm.name, algorithm.version) == ("medsam", metadata.version("napari-sammed"))
    assert algorithm.parameters == {"weights": LIVER.weights_hash}
    assert data.SoftwareVersions == metadata.version("napari-sammed")


def test_source_images_are_referred_to(tmp_path: Path, series: Volume) -> None:
    write_segments([LIVER], series, tmp_path / "a.dcm")
    data = highdicom.seg.segread(tmp_path / "a.dcm")
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files]
    (reference,) = data.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == headers[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in reference.ReferencedInstanceSequence} == {
        header.SOPInstanceUID for header in headers
    }
    assert data.StudyInstanceUID == headers[0].StudyInstanceUID
    assert data.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert data.SeriesInstanceUID != headers[0].SeriesInstanceUID
    by_place = {tuple(map(float, header.ImagePositionPatient)): header.SOPInstanceUID for header in headers}
    for item in data.PerFrameFunctionalGroupsSequence:
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        place = tuple(map(float, item.PlanePositionSequence[0].ImagePositionPatient))
        assert source.ReferencedSOPInstanceUID == by_place[place]


def test_names_in_any_script_and_of_any_length(tmp_path: Path, series: Volume) -> None:
    for file in series.files:
        header = pydicom.dcmread(file)
        header.PatientName = "Müller^Jörg"
        header.save_as(file)
    names = {1: "肝 Печень", 2: "x" * 100, 3: "a\\b"}
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, :3] = 1, 2, 3
    write_mask(labels, series.grid, tmp_path / "a.dcm", names, image=series)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    assert str(data.PatientName) == "Müller^Jörg"
    assert [item.SegmentLabel for item in data.SegmentSequence] == ["肝 Печень", "x" * 64, "a/b"]


def test_patients_stay_out_of_logs_warnings_and_messages(
    tmp_path: Path, series: Volume, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    def spoil(**values: str) -> None:
        with warnings.catch_warnings(action="ignore"):
            for file in series.files:
                header = pydicom.dcmread(file)
                for keyword, value in values.items():
                    setattr(header, keyword, value)
                header.save_as(file)
        caplog.clear()

    said = []
    caplog.set_level(logging.DEBUG)
    spoil(PatientName="Secret Person", PatientSex="secret")  # not as DICOM wants them, which is warned of with the text
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_segments(ALL, series, tmp_path / "a.dcm")
        said += [caplog.text, *(str(item.message) for item in told)]
    assert str(pydicom.dcmread(tmp_path / "a.dcm").PatientName) == "Secret Person"
    spoil(PatientBirthDate="secret")
    with pytest.raises(InputError, match="does not accept the headers") as error:
        write_segments(ALL, series, tmp_path / "b.dcm")
    assert not (tmp_path / "b.dcm").exists()
    said += [str(error.value), caplog.text, *capfd.readouterr()]
    assert "secret" not in " ".join(said).casefold()
    assert error.value.__cause__ is None and error.value.__suppress_context__


# What is refused


def test_only_images_from_dicom(tmp_path: Path, series: Volume) -> None:
    plain = Volume(series.array, series.grid, "scan")
    for attempt in (
        lambda: check_writable(plain),
        lambda: write_segments(ALL, plain, tmp_path / "a.dcm"),
        lambda: write_mask(whole(LIVER), plain.grid, tmp_path / "a.dcm", image=plain),
    ):
        with pytest.raises(InputError, match=r"scan was not read from DICOM: .* save as \.nii\.gz"):
            attempt()
    with pytest.raises(InputError, match="needs the image"):
        write_mask(whole(LIVER), plain.grid, tmp_path / "a.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]


def test_sources_that_cannot_be_referred_to(tmp_path: Path, series: Volume) -> None:
    write_slice(tmp_path / "frames.dcm", STORED)
    (tmp_path / "dx").mkdir()
    write_slice(tmp_path / "dx" / "xray.dcm", STORED[0], position=None, modality="DX")
    with pytest.raises(InputError, match=r"frames\.dcm holds several frames"):
        check_writable(read_volume(tmp_path / "frames.dcm"))
    with pytest.raises(InputError, match=r"xray\.dcm lacks ImagePositionPatient"):
        check_writable(read_volume(tmp_path / "dx" / "xray.dcm"))
    series.files[2].unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        check_writable(series)


def test_without_highdicom_it_says_what_to_install(series: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'napari-sammed\[dicom\]'"):
        check_writable(series)


def test_nothing_to_save(tmp_path: Path, series: Volume) -> None:
    with pytest.raises(InputError, match="nothing to save"):
        write_mask(np.zeros(SHAPE, bool), series.grid, tmp_path / "a.dcm", image=series)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, series: Volume) -> None:
    path = tmp_path / "a.dcm"
    write_segments([LIVER], series, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            write_segments(ALL, series, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.dcm", "ct"]
    with pytest.raises(InputError, match="no folder"):
        write_segments(ALL, series, tmp_path / "none" / "a.dcm")


def test_damaged_files_are_refused(tmp_path: Path, series: Volume) -> None:
    path = tmp_path / "a.dcm"
    write_segments(ALL, series, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.dcm is damaged"):
        read_volume(path)
    with pytest.raises(InputError, match="no DICOM segmentation"):
        read_segments(series.files[0])


# Sessions and commands


def test_a_session_saves_its_objects(tmp_path: Path) -> None:
    stored = np.full(SHAPE, 1024, np.uint16)
    stored[1:4, 2:7, 3:10] = 1124
    write_series(tmp_path / "ct", stored, PLACES)
    image = read_volume(tmp_path / "ct")
    backend = LocalBackend(models={"thresholder": Thresholder()})
    with Session(image, backend) as session:
        session.model = "thresholder"
        session.add(Point((2.0, 4.0, 5.0))).result(10)
        session.rename(session.current, "liver")
        session.take(MaskPrompt(whole(TUMOUR), (0, 0, 0)), "tumour")
        session.edit(np.ones((1, 2, 2), bool), Box((3, 5, 8), (4, 7, 10)))
        session.new_object("nothing yet")
        session.save(tmp_path / "a.seg.dcm")
    backend.shutdown()
    liver, tumour = read_segments(tmp_path / "a.seg.dcm")[0]
    assert (liver.name, liver.algorithm) == ("liver", "thresholder")
    assert (tumour.name, tumour.algorithm) == ("tumour", "")
    found = masks_by_source(tmp_path / "a.seg.dcm", image)
    np.testing.assert_array_equal(found[..., 0], stored > 1024)
    np.testing.assert_array_equal(found[..., 1], whole(TUMOUR))  # overlaps the liver


@pytest.fixture
def organ(tmp_path: Path) -> np.ndarray:
    """A bright block, in a series in the folder ct."""
    stored = np.random.default_rng(1).integers(1000, 1040, SHAPE).astype(np.uint16)
    organ = np.zeros(SHAPE, bool)
    organ[1:4, 3:12, 3:14] = True
    stored[organ] += 300
    write_series(tmp_path / "ct", stored, PLACES)
    return organ


def test_segment_writes_one_and_takes_one_as_a_mask(
    tmp_path: Path, organ: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    folder, out = str(tmp_path / "ct"), tmp_path / "mask.seg.dcm"
    click = ["--model", "random-walker", "--point", "8,7,2", "--negative", "17,13,2", "--negative", "8,7,5"]
    session = ["--session", str(tmp_path / "s.jsonl")]
    assert main(["segment", folder, "-o", str(out), *click, *session]) == 0, capsys.readouterr().err
    image = read_volume(folder)
    (found,) = np.moveaxis(masks_by_source(out, image), -1, 0).astype(bool)
    assert (found & organ).sum() / (found | organ).sum() > 0.8
    (only,), _ = read_segments(out)
    assert only.algorithm == "random-walker"

    again = tmp_path / "again.nii.gz"
    corrected = ["--model", "random-walker", "--mask", str(out), "--point", "8,7,2"]
    assert main(["segment", folder, "-o", str(again), *corrected]) == 0, capsys.readouterr().err
    other = read_volume(again).array > 0
    assert (found & other).sum() / (found | other).sum() > 0.8

    assert main(["replay", str(tmp_path / "s.jsonl"), "-o", str(tmp_path / "replayed.dcm")]) == 0
    np.testing.assert_array_equal(masks_by_source(tmp_path / "replayed.dcm", image)[..., 0], found)


def test_commands_refuse_before_they_compute(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_volume(Volume.from_array(STORED), tmp_path / "scan.nii.gz")
    out = tmp_path / "mask.dcm"
    for words in (["segment", "--point", "8,7,2"], ["auto", "--model", "samed"]):
        assert main([words[0], str(tmp_path / "scan.nii.gz"), "-o", str(out), *words[1:]]) == 2
        assert "was not read from DICOM" in capsys.readouterr().err
    assert not out.exists()
