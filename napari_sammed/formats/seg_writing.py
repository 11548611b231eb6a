"""DICOM Segmentation out, through highdicom.

Source: DICOM PS3.3 A.51 and C.8.20 (Segmentation IOD), PS3.16 CID 7150, 7159 and 7162 (codes).
"""

from __future__ import annotations

import contextlib
import logging
import uuid
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import put_in_place
from napari_sammed.formats.segment_codes import Code, meaning
from napari_sammed.geometry import Grid

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset

    from napari_sammed.segments import Segment

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
_PLACED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_MAY_BE_EMPTY = (  # type 2: must be there; sources that lack them break the standard, but often
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator", "SliceThickness",
)  # fmt: skip
_MAKER = "napari-sammed"
_SERIES_NUMBER = 300  # far from those that scanners give
_LONG_STRING = 64  # characters that DICOM allows in a label (VR LO)


def read_sources(files: Sequence[Path | None]) -> dict[int, Dataset]:
    """The headers of the images that a volume was read from, by slice; filled-in slices (None) have none.

    Raises
    ------
    InputError
        If a file is gone or damaged, lacks what a reference to it needs, or holds several frames.
    """
    import pydicom

    sources: dict[int, Dataset] = {}
    for index, file in enumerate(files):
        if file is None:
            continue
        try:
            with _discreet():
                header = pydicom.dcmread(file, stop_before_pixels=True)
        except (OSError, pydicom.errors.InvalidDicomError):
            raise InputError(
                f"{file}, which the image was read from, can no longer be read: a DICOM segmentation refers to it. "
                "Save as .nrrd instead."
            ) from None
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise InputError(
                f"{file} holds several frames; DICOM segmentations are written for series of one slice a file: "
                "save as .nrrd instead."
            )
        absent = [keyword for keyword in (*_NEEDED, *_PLACED) if not header.get(keyword)]
        if absent:
            raise InputError(
                f"{file} lacks {', '.join(absent)}, without which no DICOM segmentation can refer to it: "
                "save as .nrrd instead."
            )
        sources[index] = header
    _make_alike(sources)
    return sources


def write(segments: Sequence[Segment], grid: Grid, files: Sequence[Path | None], path: Path) -> None:
    """Write segments of an image on `grid` whose slice i was read from ``files[i]``; see `segments.write_segments`."""
    sources = read_sources(files)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
    temporary = path.with_name(f".{uuid.uuid4().hex}.dcm")
    try:
        with _discreet():
            _encode(segments, grid, sources).save_as(temporary)
        put_in_place(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # not its text, which may quote the patient's data
        raise InputError(
            f"{path} cannot be written: highdicom does not accept the headers of the DICOM images "
            f"({type(error).__name__}). Save as .nrrd instead."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _make_alike(sources: dict[int, Dataset]) -> None:
    """Let rounding differences between slices not count, which highdicom refuses, and fill in what may be empty."""
    first = next(iter(sources.values()))
    for header in sources.values():
        header.ImageOrientationPatient = first.ImageOrientationPatient
        header.PixelSpacing = first.PixelSpacing
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, None)
        if header.PatientSex not in ("M", "F", "O"):
            header.PatientSex = None


def _encode(segments: Sequence[Segment], grid: Grid, sources: dict[int, Dataset]) -> Dataset:
    import highdicom
    from highdicom.seg import Segmentation
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    pixels, places = _stack(segments, grid)
    result = Segmentation(
        source_images=list(sources.values()),
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[_describe(number, segment) for number, segment in enumerate(segments, 1)],
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=metadata.version(_MAKER),
        device_serial_number="1",  # software has none, but DICOM wants one
        content_label="SEGMENTATION",
        series_description="Segmentation",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        plane_positions=[_position(index, grid, sources) for index in places],
        specific_character_set="ISO_IR 192",  # UTF-8: names of segments may be in any script
    )
    measures = result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    # along the normal, as the standard has it; scanners write other things, and readers build the volume from it
    measures.SpacingBetweenSlices = f"{_distance(grid):.10g}"
    if not measures.get("SliceThickness"):
        measures.SliceThickness = measures.SpacingBetweenSlices
    # the same bytes as in the plain syntax, deflated: highdicom has no compression of its own for bits
    result.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return result


def _stack(segments: Sequence[Segment], grid: Grid) -> tuple[np.ndarray, list[int]]:
    """Pixels of the slices where anything is, (slices, y, x, segments), or labels (slices, y, x) without overlap."""
    used = np.zeros(grid.shape[0], bool)
    for segment in segments:
        used[segment.box.slices[0]] |= segment.mask.any(axis=(1, 2))
    places = np.flatnonzero(used) if used.any() else np.arange(1)
    number = np.cumsum(used) - 1  # of a used slice among the used ones
    labels = np.zeros((len(places), *grid.shape[1:]), np.uint16)
    for label, segment in enumerate(segments, 1):
        part, mask = _part(segment, used, number)
        if (labels[part][mask] > 0).any():
            break
        labels[part][mask] = label
    else:
        return labels, places.tolist()
    pixels = np.zeros((*labels.shape, len(segments)), np.uint8)
    for index, segment in enumerate(segments):
        part, mask = _part(segment, used, number)
        pixels[(*part, index)] = mask
    return pixels, places.tolist()


def _part(segment: Segment, used: np.ndarray, number: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """Where a segment lies among the used slices, and its mask there."""
    rows, *rest = segment.box.slices
    there = used[rows]
    if not there.any():
        return (slice(0, 0), *rest), segment.mask[:0]
    taken = number[rows][there]
    return (slice(taken[0], taken[-1] + 1), *rest), segment.mask[there]


def _position(index: int, grid: Grid, sources: dict[int, Dataset]) -> Dataset:
    """Where a slice lies: as its file says, to the last digit, or where the filled-in one belongs."""
    from highdicom import PlanePositionSequence

    place = sources[index].ImagePositionPatient if index in sources else grid.to_world([index, 0, 0])
    return PlanePositionSequence("PATIENT", [float(v) for v in place])


def _distance(grid: Grid) -> float:
    """Of neighbouring slices along their normal, mm."""
    step, down, along = grid.matrix.T
    normal = np.cross(along, down)
    return abs(float(step @ normal / np.linalg.norm(normal)))


def _describe(number: int, segment: Segment) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    shown = meaning(segment.name)
    kind, algorithm = "MANUAL", None
    if segment.algorithm:
        kind = "AUTOMATIC" if segment.automatic else "SEMIAUTOMATIC"
        walker = segment.algorithm == "random-walker"
        algorithm = AlgorithmIdentificationSequence(
            name=segment.algorithm,
            family=codes.DCM.NeighborhoodAnalysis if walker else codes.DCM.ArtificialIntelligence,
            version=metadata.version(_MAKER),
            source=_MAKER,
            parameters={"weights": segment.weights_hash} if segment.weights_hash else None,
        )
    result = SegmentDescription(
        segment_number=number,
        segment_label=segment.name.replace("\\", "/")[:_LONG_STRING] or f"Segment {number}",
        segmented_property_category=_coded(shown.category),
        segmented_property_type=_coded(shown.kind),
        algorithm_type=kind,
        algorithm_identification=algorithm,
        anatomic_regions=[_coded(shown.place)] if shown.place else None,
    )
    if shown.side:
        if shown.place:
            result.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_coded(shown.side)]
        else:
            item = result.SegmentedPropertyTypeCodeSequence[0]
            item.SegmentedPropertyTypeModifierCodeSequence = [_coded(shown.side)]
    return result


def _coded(code: Code) -> Dataset:
    from highdicom.sr import CodedConcept

    return CodedConcept(code[0], "SCT", code[1])


@contextlib.contextmanager
def _discreet() -> Iterator[None]:
    """Keep pydicom and highdicom from quoting headers, a patient's name among them, in warnings and logs."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom.base")]
    before = [logger.disabled for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.disabled = True
            yield
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled
