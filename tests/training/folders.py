"""Folders of data to learn from, made of invented images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE = (6, 20, 24)
SPACING = (1.0, 1.5, 3.0)  # x, y, z


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise, int16."""
    return np.random.default_rng(seed).normal(100, 30, shape).astype(np.int16)


def labels(**values: int) -> np.ndarray:
    """A block of 3 x 10 x 12 voxels ("first") and one of 1 x 4 x 3 ("second"), with 1 and 2 unless told otherwise."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 5:15, 6:18] = values.get("first", 1)
    array[4, 5:9, 6:9] = values.get("second", 2)
    return array


def write(path: Path, array: np.ndarray, **where) -> Path:
    """An image file; ``spacing`` and ``origin`` in the order x, y, z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = sitk.GetImageFromArray(array)
    found.SetSpacing(where.get("spacing", SPACING)[: array.ndim])
    found.SetOrigin(where.get("origin", (0.0, 0.0, 0.0))[: array.ndim])
    sitk.WriteImage(found, str(path))
    return path


def nnunet(folder: Path, count: int = 4, names: Mapping[str, int] | None = None) -> Path:
    """nnU-Net raw data of some cases, named ``case_0`` and so on."""
    for number in range(count):
        write(folder / "imagesTr" / f"case_{number}_0000.nii.gz", image(number))
        write(folder / "labelsTr" / f"case_{number}.nii.gz", labels())
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **(names or {"liver": 1, "spleen": 2})}}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder
