"""DICOM Segmentation in: frames to segments on one grid, label images.

Frames without any voxel are usually left out of such files, so the grid reaches from the first slice that has some to
the last. Fractional segmentations count from half of their maximum on.

Source: DICOM PS3.3 C.7.6.16 (functional groups) and C.8.20 (Segmentation).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.formats.common import RawImage, naming, warn
from napari_sammed.geometry import Box, Grid
from napari_sammed.segments import Segment

if TYPE_CHECKING:
    from pydicom import Dataset

_OFF = 0.1  # slice distances by which a frame may lie off the regular stack


@dataclass(frozen=True)
class _Frame:
    """Where a frame lies, LPS mm, and the segment it shows (0: its pixels are segment numbers)."""

    origin: np.ndarray
    orientation: tuple[float, ...]
    segment: int


def read(path: Path) -> tuple[list[Segment], Grid]:
    """See `napari_sammed.segments.read_segments`."""
    try:
        import pydicom
    except ImportError:
        raise InputError(
            f"{path} is a DICOM segmentation; reading it needs pydicom: pip install 'napari-sammed[dicom]'."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote headers
            data = pydicom.dcmread(path)
            if "SegmentSequence" not in data:
                raise InputError(f"{path} is no DICOM segmentation.")
            frames = _frames(data)
            pixels = data.pixel_array.reshape(len(frames), data.Rows, data.Columns)
            with naming(path):
                grid, places = _grid(data, frames)
            return _segments(data, frames, pixels, grid, places), grid
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except InputError:
        raise
    except Exception as error:  # pydicom raises all kinds; their texts may quote headers
        raise InputError(f"{path} is damaged, or no DICOM segmentation ({type(error).__name__}).") from None


def read_labels(path: Path) -> RawImage:
    """The label image of a DICOM Segmentation: segment numbers; of overlapping ones the later shows, with a warning."""
    segments, grid = read(path)
    labels = np.zeros(grid.shape, np.uint16 if len(segments) > 255 else np.uint8)
    hidden = 0
    for number, segment in enumerate(segments, 1):
        part = labels[segment.box.slices]
        hidden += int(np.count_nonzero(part[segment.mask]))
        part[segment.mask] = number
    if hidden:
        warn(f"{path}: segments overlap in {hidden} voxels, where only the later one is in the label image.")
    return RawImage(labels, grid, "SEG")


def _frames(data: Dataset) -> list[_Frame]:
    shared = data.SharedFunctionalGroupsSequence[0]

    def group(own: Dataset, name: str) -> Any:
        holder = own if name in own else shared
        return getattr(holder, name)[0] if name in holder else None

    frames = []
    for own in data.PerFrameFunctionalGroupsSequence:
        position, plane = group(own, "PlanePositionSequence"), group(own, "PlaneOrientationSequence")
        if position is None or plane is None:
            raise InputError("The DICOM segmentation does not say where it lies, so it fits no volume.")
        shown = group(own, "SegmentIdentificationSequence")
        frames.append(
            _Frame(
                np.array(position.ImagePositionPatient, float),
                tuple(map(float, plane.ImageOrientationPatient)),
                0 if shown is None else int(shown.ReferencedSegmentNumber),
            )
        )
    if np.ptp([frame.orientation for frame in frames], axis=0).max() > 1e-3:
        raise InputError("The frames of the DICOM segmentation differ in orientation.")
    return frames


def _grid(data: Dataset, frames: list[_Frame]) -> tuple[Grid, np.ndarray]:
    """The grid of all frames, and the slice of it that each is."""
    own = data.PerFrameFunctionalGroupsSequence[0]
    measures = (own if "PixelMeasuresSequence" in own else data.SharedFunctionalGroupsSequence[0]).PixelMeasuresSequence
    rows, columns = map(float, measures[0].PixelSpacing)
    along, down = np.reshape(frames[0].orientation, (2, 3))
    normal = np.cross(along, down)
    origins = np.array([frame.origin for frame in frames])
    depths = origins @ normal
    gaps = np.diff(np.unique(depths.round(4)))
    gaps = gaps[gaps > 1e-3]
    stated = measures[0].get("SpacingBetweenSlices") or measures[0].get("SliceThickness")
    distance = float(stated or (gaps.min() if gaps.size else 1.0))
    if gaps.size and (np.abs(gaps / distance - np.rint(gaps / distance)) > _OFF).any():
        distance = float(gaps.min())  # what is stated is not the distance of the slices
    places = np.rint((depths - depths.min()) / distance).astype(int)
    if (np.abs((depths - depths.min()) / distance - places) > _OFF).any():
        raise InputError("The slices of the DICOM segmentation lie at irregular distances.")
    first, last = origins[places.argmin()], origins[places.argmax()]
    count = int(places.max()) + 1
    step = (last - first) / (count - 1) if count > 1 else normal * distance
    if np.abs(origins - first - places[:, None] * step).max() > min(rows, columns):
        raise InputError("The frames of the DICOM segmentation do not lie in one straight stack.")
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, down * rows, along * columns, first])
    return Grid.from_affine((count, data.Rows, data.Columns), affine), places


def _segments(data: Dataset, frames: list[_Frame], pixels: np.ndarray, grid: Grid, places: np.ndarray) -> list[Segment]:
    fractional = data.get("SegmentationType") == "FRACTIONAL"
    least = int(data.get("MaximumFractionalValue", 255)) / 2 if fractional else 0
    found = []
    for item in data.SegmentSequence:
        number = int(item.SegmentNumber)
        if number == 0:  # the background, in label maps
            continue
        mask = np.zeros(grid.shape, bool)
        for frame, image, place in zip(frames, pixels, places, strict=True):
            if frame.segment in (0, number):
                mask[place] |= image == number if frame.segment == 0 else image > least
        box = Box.of_mask(mask) or Box((0, 0, 0), (1, 1, 1))
        algorithm = item.get("SegmentationAlgorithmIdentificationSequence")
        found.append(
            Segment(
                str(item.get("SegmentLabel") or f"Segment {number}"),
                mask[box.slices].copy(),
                box,
                str(algorithm[0].get("AlgorithmName", "")) if algorithm else str(item.get("SegmentAlgorithmName", "")),
                automatic=item.get("SegmentAlgorithmType") == "AUTOMATIC",
            )
        )
    return found
