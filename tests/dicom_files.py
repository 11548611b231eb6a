"""DICOM files made on the fly, regular and irregular."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

FIRST, SECOND = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
"""UIDs of series."""


def write_slice(
    path: Path,
    pixels: np.ndarray,
    *,
    series: str = FIRST,
    position: Sequence[float] | None = (0.0, 0.0, 0.0),
    rows_and_columns: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (0.7, 0.8),
    number: int = 1,
    intercept: float = -1024,
    slope: float = 1,
    modality: str = "CT",
    description: str = "Thorax",
) -> None:
    """One file; ``pixels`` (y, x) uint16, or (frames, y, x), or (y, x, 3) uint8; ``spacing`` between rows, columns."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, series + ".1", series + ".2"
    data.SpecificCharacterSet = "ISO_IR 100"
    data.Modality, data.SeriesDescription, data.InstanceNumber = modality, description, number
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = pixels.shape[0]
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.PixelSpacing = list(spacing)
    if position is not None:
        data.ImagePositionPatient = [f"{v:.6f}"[:16] for v in position]
        data.ImageOrientationPatient = [f"{v:.9f}"[:16] for v in rows_and_columns]
    if not colour:
        data.RescaleIntercept, data.RescaleSlope = intercept, slope
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    data.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path,
    volume: np.ndarray,
    places: Sequence[float],
    rows_and_columns: Sequence[float] = (1, 0, 0, 0, 1, 0),
    lean: Sequence[float] = (0, 0, 0),
    series: str = FIRST,
    **rest,
) -> None:
    """One file a slice of ``volume`` (z, y, x), each ``places[i]`` mm along the normal and ``lean`` times that aside.

    File names and instance numbers run against the order of the slices.
    """
    folder.mkdir(exist_ok=True, parents=True)
    row, column = np.array(rows_and_columns[:3]), np.array(rows_and_columns[3:])
    normal = np.cross(row, column)
    for i, (pixels, depth) in enumerate(zip(volume, places, strict=True)):
        position = np.array([-100.0, 50.0, 20.0]) + depth * (normal + np.array(lean))
        number = len(places) - i
        name = folder / f"{series[-1]}_{number:04d}.dcm"
        write_slice(
            name, pixels, series=series, position=position, rows_and_columns=rows_and_columns, number=number, **rest
        )
